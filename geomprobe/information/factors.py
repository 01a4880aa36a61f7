"""Per-sample gradients of a layer in the form they come in, and their Gram matrix without more.

N samples, K vectors a sample that are pulled back through the model. The gradient of a weight is a
sum of outer products over positions, so that its Gram matrix follows from those of the layer's
inputs and of the gradients at its outputs, and the gradient itself need not be formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_BLOCK_ROWS = 512
_CHUNK_ENTRIES = 2**23
# What inner products take beside gradients, for as many operations: small products, and copies.
_INNER_PENALTY = 2.0


class Factor(Protocol):
    """Per-sample gradients of some parameters."""

    def add_to(self, gram: Tensor) -> None:
        """Add products of all rows, on and below the diagonal, to a matrix of shape (NK, NK)."""
        ...

    def squares(self) -> Tensor:
        """Return the squared norm of each row, of shape (N, K)."""
        ...

    def total(self) -> Tensor:
        """Return the sum of all rows, in the factor's own shape."""
        ...

    def folded(self, size: int) -> Factor:
        """Return the same, where each sample is made of so many of these, one after another."""
        ...


@dataclass(frozen=True)
class Rows:
    """Gradients as they are.

    Parameters
    ----------
    rows : Tensor of shape (N, K, P)
    """

    rows: Tensor

    def add_to(self, gram: Tensor) -> None:
        """See :class:`Factor`. N^2 K^2 P / 2 products."""
        n, k = self.rows.shape[:2]
        flat = self.rows.reshape(n * k, -1).to(gram.dtype)
        for start, stop in _blocks(n, k):
            gram[start * k : stop * k, : stop * k].addmm_(
                flat[start * k : stop * k], flat[: stop * k].T
            )

    def squares(self) -> Tensor:
        """See :class:`Factor`."""
        return self.rows.square().sum(dim=2)

    def total(self) -> Tensor:
        """See :class:`Factor`: of shape (P,)."""
        return self.rows.sum(dim=(0, 1))

    def folded(self, size: int) -> Rows:
        """See :class:`Factor`."""
        return Rows(torch.unflatten(self.rows, 0, (-1, size)).sum(dim=1))


@dataclass(frozen=True)
class Outer:
    """Sums over T positions of outer products, in each of G groups.

    Parameters
    ----------
    inputs : Tensor of shape (N, G, T, I)
    grads : Tensor of shape (N, K, G, T, O)
    """

    inputs: Tensor
    grads: Tensor

    def add_to(self, gram: Tensor) -> None:
        """See :class:`Factor`. By the cheapest of three routes."""
        for group in range(self.inputs.shape[1]):
            inputs = self.inputs[:, group].to(gram.dtype)
            grads = self.grads[:, :, group].to(gram.dtype)
            _, t, i = inputs.shape
            k, o = grads.shape[1], grads.shape[3]
            if t == 1:
                _add_single(gram, inputs[:, 0], grads[:, :, 0])
            elif _INNER_PENALTY * (t * t * (i + k * o) + k * k * t * o) < k * k * i * o:
                _add_inner(gram, inputs, grads)
            else:
                for rows in _formed(inputs, grads):
                    Rows(rows).add_to(gram)

    def squares(self) -> Tensor:
        """See :class:`Factor`."""
        n, k = self.grads.shape[:2]
        squares = self.grads.new_zeros(n, k)
        for group in range(self.inputs.shape[1]):
            inputs, grads = self.inputs[:, group], self.grads[:, :, group]
            t, i, o = *inputs.shape[1:], grads.shape[3]
            if t == 1:
                norms = inputs[:, 0].square().sum(dim=1, keepdim=True)
                squares += norms * grads[:, :, 0].square().sum(dim=2)
            elif t * (i + k * o) < k * i * o:
                alike = inputs @ inputs.transpose(1, 2)
                mixed = alike[:, None] @ grads
                squares += (mixed * grads).sum(dim=(2, 3))
            else:
                for rows in _formed(inputs, grads):
                    squares += rows.square().sum(dim=2)
        return squares

    def total(self) -> Tensor:
        """See :class:`Factor`: of shape (G, O, I)."""
        return torch.einsum("ngti,nkgto->goi", self.inputs, self.grads)

    def folded(self, size: int) -> Outer:
        """See :class:`Factor`: more positions."""
        inputs = torch.unflatten(self.inputs, 0, (-1, size)).transpose(1, 2).flatten(2, 3)
        grads = torch.unflatten(self.grads, 0, (-1, size)).movedim(1, 3).flatten(3, 4)
        return Outer(inputs, grads)


@dataclass(frozen=True)
class Lookup:
    """Gradients of the rows of a table.

    Parameters
    ----------
    places : int64 Tensor of shape (N, T)
        Which row was looked up at each position.
    grads : Tensor of shape (N, K, T, O)
    n_rows : int
        Rows of the table.
    """

    places: Tensor
    grads: Tensor
    n_rows: int

    def add_to(self, gram: Tensor) -> None:
        """See :class:`Factor`. Samples meet only in the rows that both look up."""
        n, k = self.grads.shape[:2]
        samples, sums = self._by_row()
        blocks = gram.view(n, k, n, k)
        for sample, grads in zip(samples, sums, strict=True):
            flat = grads.flatten(0, 1).to(gram.dtype)
            products = (flat @ flat.T).view(len(sample), k, len(sample), k)
            blocks[sample[:, None], :, sample[None]] += products.permute(0, 2, 1, 3)

    def squares(self) -> Tensor:
        """See :class:`Factor`."""
        squares = self.grads.new_zeros(self.grads.shape[:2])
        for sample, grads in zip(*self._by_row(), strict=True):
            squares[sample] += grads.square().sum(dim=2)
        return squares

    def total(self) -> Tensor:
        """See :class:`Factor`: of shape (n_rows, O)."""
        table = self.grads.new_zeros(self.n_rows, self.grads.shape[3])
        return table.index_add(0, self.places.flatten(), self.grads.sum(dim=1).flatten(0, 1))

    def folded(self, size: int) -> Lookup:
        """See :class:`Factor`: more positions."""
        places = torch.unflatten(self.places, 0, (-1, size)).flatten(1, 2)
        grads = torch.unflatten(self.grads, 0, (-1, size)).movedim(1, 2).flatten(2, 3)
        return Lookup(places, grads, self.n_rows)

    def _by_row(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return, for each row in use, which samples use it, and their gradients (c, K, O)."""
        n = len(self.places)
        samples = torch.arange(n, device=self.places.device)[:, None]
        keys, which = torch.unique(self.places * n + samples, return_inverse=True)
        sums = self.grads.new_zeros(len(keys), self.grads.shape[1], self.grads.shape[3])
        sums.index_add_(0, which.flatten(), self.grads.transpose(1, 2).flatten(0, 1))
        counts = torch.unique_consecutive(keys // n, return_counts=True)[1].tolist()
        return torch.split(keys % n, counts), torch.split(sums, counts)


def _blocks(n: int, k: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of samples that make some hundred rows."""
    size = max(1, _BLOCK_ROWS // k)
    for start in range(0, n, size):
        yield start, min(n, start + size)


def _add_single(gram: Tensor, inputs: Tensor, grads: Tensor) -> None:
    """Add where there is one position: the products of two small Gram matrices, entry by entry."""
    n, k = grads.shape[:2]
    flat = grads.reshape(n * k, -1)
    for start, stop in _blocks(n, k):
        size = stop - start
        products = flat[start * k : stop * k] @ flat[: stop * k].T
        alike = inputs[start:stop] @ inputs[:stop].T
        part = gram[start * k : stop * k, : stop * k]
        block = torch.unflatten(torch.unflatten(part, 1, (stop, k)), 0, (size, k))
        block.addcmul_(products.view(size, k, stop, k), alike[:, None, :, None])


def _add_inner(gram: Tensor, inputs: Tensor, grads: Tensor) -> None:
    """Add <D_n, (A_n A_m^T) D_m>: nothing as large as a gradient is formed."""
    n, t, i = inputs.shape
    k, o = grads.shape[1], grads.shape[3]
    size = max(1, min(n, int((_CHUNK_ENTRIES / (t * k * o)) ** 0.5)))
    by_position = grads.transpose(1, 2).reshape(n, t, k * o)
    for start in range(0, n, size):
        here = slice(start, min(n, start + size))
        b = here.stop - start
        own = grads[here].reshape(b, k, t * o)
        for other in range(0, start + 1, size):
            there = slice(other, min(n, other + size))
            c = there.stop - other
            alike = inputs[here].reshape(b * t, i) @ inputs[there].reshape(c * t, i).T
            alike = alike.view(b, t, c, t).permute(2, 0, 1, 3).reshape(c, b * t, t)
            mixed = torch.bmm(alike, by_position[there]).view(c, b, t, k, o)
            products = torch.bmm(own, mixed.permute(1, 2, 4, 0, 3).reshape(b, t * o, c * k))
            gram[start * k : here.stop * k, other * k : there.stop * k] += products.view(b * k, -1)


def _formed(inputs: Tensor, grads: Tensor) -> Iterator[Tensor]:
    """Yield the gradients of some inputs at a time, each of shape (N, K, w * O)."""
    n, _, i = inputs.shape
    k, o = grads.shape[1], grads.shape[3]
    width = max(1, _CHUNK_ENTRIES // (n * k * o))
    for start in range(0, i, width):
        part = inputs[:, None, :, start : start + width].transpose(2, 3)
        yield (part @ grads).flatten(2, 3)
