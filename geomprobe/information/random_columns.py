"""Products of per-sample gradients with random vectors, as cheap as passes through the layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from geomprobe.information.factors import Factor, Lookup, Outer, Rows

_CHUNK_ENTRIES = 2**23
# Up to so many parameters that are no weight of a layer, each has a sign of its own.
_OWN_SIGNS = 4096


@dataclass(frozen=True)
class RandomColumns:
    r"""Random vectors over the parameters, :math:`s_j = u_j \otimes v_j` with signs for entries.

    The entry of a weight from input i to output o is the product of a sign of i and one of o, all
    of them independent: :math:`E[s_j s_j^T] = I`, and the product with an outer product of an input
    and a gradient, ``(u_j . a) (v_j . g)``, needs neither the gradient of the weight nor as many
    random numbers as it has entries.

    Parameters
    ----------
    count : int
        How many vectors.
    seed : int
        Seed of the signs.

    Notes
    -----
    The signs are kept, a byte each: ``count`` for every input and every output of a layer.
    """

    count: int
    seed: int
    _kept: dict[int, tuple[Tensor, ...]] = field(default_factory=dict, repr=False, compare=False)

    def products(self, factor: Factor, place: int) -> Tensor:
        """Return the product of each row of a factor with each vector, of shape (N, K, count).

        Parameters
        ----------
        factor : Factor
        place : int
            Which of the factors it is; each has signs of its own.
        """
        if isinstance(factor, Outer):
            return self._of_outer(factor, place)
        if isinstance(factor, Lookup):
            return self._of_lookup(factor, place)
        assert isinstance(factor, Rows)
        return self._of_rows(factor, place)

    def _of_outer(self, factor: Outer, place: int) -> Tensor:
        n, groups, t, i = factor.inputs.shape
        k, o = factor.grads.shape[1], factor.grads.shape[4]
        found = factor.grads.new_zeros(n, k, self.count)
        of_inputs, of_grads = self._signs(place, found.device, groups * i, groups * o)
        for group in range(groups):
            inputs = factor.inputs[:, group].to(found.dtype)
            grads = factor.grads[:, :, group]
            u, v = of_inputs[group * i :][:i], of_grads[group * o :][:o]
            if t * (i + k * o) < k * i * o:
                for here in _blocks(self.count, n * k * t):
                    a, g = inputs @ u[:, here].to(grads), grads @ v[:, here].to(grads)
                    found[:, :, here] += (a[:, None] * g).sum(dim=2)
            else:
                for here in _blocks(i, o * max(n * k, self.count)):
                    formed = inputs[:, None, :, here].transpose(2, 3) @ grads
                    found += formed.flatten(2) @ _joined(u[here].to(grads), v.to(grads))
        return found

    def _of_lookup(self, factor: Lookup, place: int) -> Tensor:
        n, k, t, o = factor.grads.shape
        of_rows, v = self._signs(place, factor.grads.device, factor.n_rows, o)
        u = of_rows[factor.places]
        found = factor.grads.new_zeros(n, k, self.count)
        for here in _blocks(self.count, n * k * t):
            g = factor.grads @ v[:, here].to(factor.grads)
            found[:, :, here] = (u[:, None, :, here].to(g) * g).sum(dim=2)
        return found

    def _of_rows(self, factor: Rows, place: int) -> Tensor:
        n, k, p = factor.rows.shape
        width = -(-p // _OWN_SIGNS)
        u, v = self._signs(place, factor.rows.device, -(-p // width), width)
        found = factor.rows.new_zeros(n, k, self.count)
        for here in _blocks(len(u), width * max(n * k, self.count)):
            rows = factor.rows[:, :, here.start * width : here.stop * width]
            found += rows @ _joined(u[here].to(rows), v.to(rows))[: rows.shape[2]]
        return found

    def _signs(self, place: int, device: torch.device, *sizes: int) -> tuple[Tensor, ...]:
        """Return int8 signs of shape (size, count) each, the same whatever the device."""
        if place not in self._kept:
            seed = int(np.random.SeedSequence((self.seed, place)).generate_state(1)[0])
            generator = torch.Generator().manual_seed(seed)
            shape = (sum(sizes), self.count)
            drawn = torch.randint(2, shape, generator=generator, dtype=torch.int8, device="cpu")
            self._kept[place] = torch.split((2 * drawn - 1).to(device), list(sizes))
        return self._kept[place]


def _blocks(size: int, entries: int) -> Iterator[slice]:
    """Yield ranges of so many that each makes some megabytes."""
    step = max(1, _CHUNK_ENTRIES // entries)
    for start in range(0, size, step):
        yield slice(start, min(size, start + step))


def _joined(u: Tensor, v: Tensor) -> Tensor:
    """Return the vectors over all pairs of entries, of shape (I O, count)."""
    return (u[:, None] * v).flatten(0, 1)
