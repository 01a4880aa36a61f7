"""Per-sample gradients of a layer in the form they come in, and their Gram matrix without more.

N samples, K vectors a sample that are pulled back through the model. The gradient of a weight is a
sum of outer products over positions, so that its Gram matrix follows from those of the layer's
inputs and of the gradients at its outputs, and the gradient itself need not be formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

# Rows of a product on the diagonal: few, so that little is done twice above it, and enough for all
# threads.
_BLOCK_ROWS = 192
# Gradients are formed in a buffer of this size, which the allocator hands out again and again.
_BUFFER_BYTES = 24 * 2**20
# What inner products mix at a time: as much as stays in the cache.
_MIXED_BYTES = 4 * 2**20
# What inner products take beside gradients, for as many operations: their products are small.
_INNER_PENALTY = 1.7


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

    def work(self, n: int) -> float:
        """Return about how many multiply-adds :meth:`add_to` takes for a pair of n samples."""
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
        flat = self.rows.reshape(n * k, -1)
        width = max(1, _BUFFER_BYTES // (n * k * gram.itemsize))
        for columns in torch.split(flat, width, dim=1):
            _add_lower(gram, columns.to(gram.dtype))

    def squares(self) -> Tensor:
        """See :class:`Factor`."""
        return self.rows.square().sum(dim=2)

    def total(self) -> Tensor:
        """See :class:`Factor`: of shape (P,)."""
        return self.rows.sum(dim=(0, 1))

    def work(self, n: int) -> float:
        """See :class:`Factor`."""
        return float(self.rows.shape[1] ** 2 * self.rows.shape[2])

    def folded(self, size: int) -> Rows:
        """See :class:`Factor`."""
        return Rows(torch.unflatten(self.rows, 0, (-1, size)).sum(dim=1))


@dataclass(frozen=True)
class Outer:
    """Sums over T positions of outer products, in each of G groups.

    Parameters
    ----------
    values : Tensor of shape (N, G, T, I)
        What goes in.
    grads : Tensor of shape (N, K, G, T, O)
    biased : bool
        Whether one more entry goes in, which is always 1.
    alike : callable, optional
        From a group to :func:`inner_products` of what goes in, where these are kept.
    """

    values: Tensor
    grads: Tensor
    biased: bool = False
    alike: Callable[[int], Tensor] | None = None

    @cached_property
    def inputs(self) -> Tensor:
        """All that goes in, of shape (N, G, T, I) or (N, G, T, I + 1)."""
        ones = self.values.new_ones(*self.values.shape[:3], int(self.biased))
        return torch.cat([self.values, ones], dim=3)

    def add_to(self, gram: Tensor) -> None:
        """See :class:`Factor`. By the cheapest of three routes."""
        for group in range(self.values.shape[1]):
            values = self.values[:, group].to(gram.dtype)
            grads = self.grads[:, :, group].to(gram.dtype)
            inner, formed = self._work(len(self.values))
            if values.shape[1] == 1:
                _add_single(gram, values[:, 0], grads[:, :, 0], self.biased)
            elif inner < formed:
                _add_inner(gram, values, grads, self.biased)
            else:
                for rows in _formed(values, grads):
                    Rows(rows).add_to(gram)
                if self.biased:
                    Rows(grads.sum(dim=2)).add_to(gram)

    def squares(self) -> Tensor:
        """See :class:`Factor`."""
        n, k = self.grads.shape[:2]
        squares = self.grads.new_zeros(n, k)
        for group in range(self.values.shape[1]):
            values, grads = self.values[:, group], self.grads[:, :, group]
            t, i, o = *values.shape[1:], grads.shape[3]
            if t * (i / k + o) < i * o:
                squares += _weighed((self.alike or self._alike)(group), grads)
            else:
                for vector in range(k):
                    rows = torch.bmm(grads[:, vector].transpose(1, 2), values)
                    squares[:, vector] += rows.square_().sum(dim=(1, 2))
                if self.biased:
                    squares += grads.sum(dim=2).square_().sum(dim=2)
        return squares

    def _alike(self, group: int) -> Tensor:
        return inner_products(self.values, self.biased, group)

    def total(self) -> Tensor:
        """See :class:`Factor`: of shape (G, O, I) or (G, O, I + 1)."""
        return torch.einsum("ngti,nkgto->goi", self.inputs, self.grads)

    def work(self, n: int) -> float:
        """See :class:`Factor`."""
        return self.values.shape[1] * min(self._work(n))

    def _work(self, n: int) -> tuple[float, float]:
        """Return what a group takes by inner products, and by gradients."""
        t, i = self.values.shape[2:]
        k, o = self.grads.shape[1], self.grads.shape[4]
        if t == 1:
            return float(i + k * k * o), math.inf
        inner = t * t * (i + k * o) + k * k * t * o
        return _INNER_PENALTY * inner, k * k * i * o + 4 * k * t * i * o / n

    def folded(self, size: int) -> Outer:
        """See :class:`Factor`: more positions."""
        values = torch.unflatten(self.values, 0, (-1, size)).transpose(1, 2).flatten(2, 3)
        grads = torch.unflatten(self.grads, 0, (-1, size)).movedim(1, 3).flatten(3, 4)
        return Outer(values, grads, self.biased)


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
        blocks = gram.view(n, k, n, k)
        everywhere = []
        for sample, grads in zip(*self._by_row(), strict=True):
            if len(sample) == n:
                everywhere.append(grads)
                continue
            flat = grads.flatten(0, 1).to(gram.dtype)
            products = (flat @ flat.T).view(len(sample), k, len(sample), k)
            blocks[sample[:, None], :, sample[None]] += products.permute(0, 2, 1, 3)
        if everywhere:
            Rows(torch.cat(everywhere, dim=2)).add_to(gram)

    def squares(self) -> Tensor:
        """See :class:`Factor`. By pairs of positions, or, of many, by rows of the table."""
        if self.grads.shape[2] <= self.grads.shape[3]:
            same = self.places[:, :, None] == self.places[:, None]
            return _weighed(same.to(self.grads), self.grads)
        keys, sums = self._sums()
        squares = self.grads.new_zeros(self.grads.shape[:2])
        return squares.index_add_(0, keys % len(squares), sums.square_().sum(dim=2))

    def total(self) -> Tensor:
        """See :class:`Factor`: of shape (n_rows, O)."""
        table = self.grads.new_zeros(self.n_rows, self.grads.shape[3])
        return table.index_add(0, self.places.flatten(), self.grads.sum(dim=1).flatten(0, 1))

    def work(self, n: int) -> float:
        """See :class:`Factor`: as if all looked up the same."""
        return float(self.grads[0].numel() * self.grads.shape[1])

    def folded(self, size: int) -> Lookup:
        """See :class:`Factor`: more positions."""
        places = torch.unflatten(self.places, 0, (-1, size)).flatten(1, 2)
        grads = torch.unflatten(self.grads, 0, (-1, size)).movedim(1, 2).flatten(2, 3)
        return Lookup(places, grads, self.n_rows)

    def _sums(self) -> tuple[Tensor, Tensor]:
        """Return each pair of a row and a sample that uses it, as row * N + sample, and its sum."""
        n = len(self.places)
        samples = torch.arange(n, device=self.places.device)[:, None]
        keys, which = torch.unique(self.places * n + samples, return_inverse=True)
        sums = self.grads.new_zeros(len(keys), self.grads.shape[1], self.grads.shape[3])
        sums.index_add_(0, which.flatten(), self.grads.transpose(1, 2).flatten(0, 1))
        return keys, sums

    def _by_row(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return, for each row in use, which samples use it, and their gradients (c, K, O)."""
        keys, sums = self._sums()
        n = len(self.places)
        counts = torch.unique_consecutive(keys // n, return_counts=True)[1].tolist()
        return torch.split(keys % n, counts), torch.split(sums, counts)


def inner_products(values: Tensor, biased: bool, group: int) -> Tensor:
    """Return those of what goes into a group at each two positions of a sample: (N, T, T)."""
    return torch.bmm(values[:, group], values[:, group].transpose(1, 2)) + float(biased)


def _weighed(alike: Tensor, grads: Tensor) -> Tensor:
    """Return <D_n, alike_n D_n> for gradients (N, K, T, O): the squared norms, of shape (N, K)."""
    each = [(one @ one.transpose(1, 2)).mul_(alike).sum(dim=(1, 2)) for one in grads.unbind(dim=1)]
    return torch.stack(each, dim=1)


def _add_lower(gram: Tensor, rows: Tensor) -> None:
    """Add the products of all rows, by halves: a little more than the lower triangle."""
    if len(rows) <= _BLOCK_ROWS:
        gram.addmm_(rows, rows.T)
        return
    half = len(rows) // 2
    upper, lower = rows[:half], rows[half:]
    gram[half:, :half].addmm_(lower, upper.T)
    _add_lower(gram[:half, :half], upper)
    _add_lower(gram[half:, half:], lower)


def _add_single(gram: Tensor, inputs: Tensor, grads: Tensor, biased: bool) -> None:
    """Add where there is one position: the products of two small Gram matrices, entry by entry."""
    n, k = grads.shape[:2]
    flat = grads.reshape(n * k, -1)
    size = max(1, _BLOCK_ROWS // k)
    for start in range(0, n, size):
        stop = min(n, start + size)
        here = slice(start * k, stop * k)
        alike = (inputs[start:stop] @ inputs[:stop].T).add_(float(biased))
        products = torch.unflatten(flat[here] @ flat[: stop * k].T, 0, (-1, k))
        part = torch.unflatten(gram[here, : stop * k], 0, (-1, k))
        part.addcmul_(products, alike.repeat_interleave(k, dim=1)[:, None])


def _add_inner(gram: Tensor, inputs: Tensor, grads: Tensor, biased: bool) -> None:
    """Add <D_n, (A_n A_m^T) D_m>: nothing as large as a gradient is formed."""
    n, t = inputs.shape[:2]
    k, o = grads.shape[1], grads.shape[3]
    size = max(1, min(n, _MIXED_BYTES // (t * k * o * gram.itemsize)))
    grads = grads.contiguous()
    for start in range(0, n, size):
        stop = min(n, start + size)
        for m in range(stop):
            first = max(start, m)
            alike = (inputs[first:stop].flatten(0, 1) @ inputs[m].T).add_(float(biased))
            mixed = torch.bmm(alike.expand(k, -1, -1), grads[m]).view(k, -1, t * o)
            products = torch.bmm(grads[first:stop].flatten(2), mixed.permute(1, 2, 0))
            gram[first * k : stop * k, m * k : (m + 1) * k] += products.flatten(0, 1)


def _formed(inputs: Tensor, grads: Tensor) -> Iterator[Tensor]:
    """Yield the gradients by some outputs at a time, each of shape (N, K, w * I), in one buffer."""
    n, t, i = inputs.shape
    k, o = grads.shape[1], grads.shape[3]
    parts = math.ceil(n * k * i * o * inputs.itemsize / _BUFFER_BYTES)
    width = max(1, math.ceil(o / max(1, parts)))
    buffer = inputs.new_empty(n * k * width * i)
    for start in range(0, o, width):
        part = grads[..., start : start + width].transpose(2, 3).reshape(n, -1, t)
        rows = buffer[: part.shape[:2].numel() * i].view(n, part.shape[1], i)
        torch.bmm(part, inputs, out=rows)
        yield rows.view(n, k, -1)
