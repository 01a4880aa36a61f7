"""Products of the gradients of some samples with those of others, as of two processes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from geomprobe.information.factors import Factor, Lookup, Outer, Rows

_CHUNK_ENTRIES = 2**22
# What inner products take beside gradients, for as many operations.
_INNER_PENALTY = 2.0


def add_cross_products(block: Tensor, left: Factor, right: Factor) -> None:
    """Add the products of all rows of one factor with all rows of another of the same parameters.

    Parameters
    ----------
    block : Tensor of shape (N K, M K)
        Contiguous.
    left, right : Factor
        Of N and of M samples.
    """
    if isinstance(left, Outer) and isinstance(right, Outer):
        _of_outers(block, left, right)
    elif isinstance(left, Lookup) and isinstance(right, Lookup):
        _of_lookups(block, left, right)
    else:
        assert isinstance(left, Rows)
        assert isinstance(right, Rows)
        for here in _ranges(left.rows.shape[2], max(len(block), block.shape[1])):
            _add(block, left.rows[:, :, here], right.rows[:, :, here])


def _of_outers(block: Tensor, left: Outer, right: Outer) -> None:
    """By inner products of positions or from gradients of this layer, whichever costs less."""
    for group in range(left.inputs.shape[1]):
        a, b = (one.inputs[:, group].to(block.dtype) for one in (left, right))
        g, h = (one.grads[:, :, group].to(block.dtype) for one in (left, right))
        (t, i), s = a.shape[1:], b.shape[1]
        k, o = g.shape[1], g.shape[3]
        if _INNER_PENALTY * (t * s * (i + k * o) + k * k * t * o) < k * k * i * o or t == s == 1:
            _add_inner(block, a, g, b, h)
        else:
            for here in _ranges(i, o * max(len(block), block.shape[1])):
                formed = (x[:, None, :, here].transpose(2, 3) @ y for x, y in ((a, g), (b, h)))
                _add(block, *formed)


def _add_inner(block: Tensor, a: Tensor, g: Tensor, b: Tensor, h: Tensor) -> None:
    """Add <G_n, (A_n B_m^T) H_m>."""
    (n, k, t, o), m = g.shape, len(h)
    products = block.view(n, k, m, k)
    size = max(1, int((_CHUNK_ENTRIES / (t * k * o)) ** 0.5))
    for rows in _pieces(n, size):
        for columns in _pieces(m, size):
            alike = torch.einsum("nti,msi->nmts", a[rows], b[columns])
            if t == alike.shape[3] == 1:
                inner = torch.einsum("nkto,mlso->nkml", g[rows], h[columns])
                products[rows, :, columns] += inner * alike[:, None, :, 0]
            else:
                mixed = torch.einsum("nmts,mlso->nmlto", alike, h[columns])
                products[rows, :, columns] += torch.einsum("nkto,nmlto->nkml", g[rows], mixed)


def _of_lookups(block: Tensor, left: Lookup, right: Lookup) -> None:
    """Sample meets sample in the rows of the table that both look up."""
    rows = torch.unique(left.places)
    common = rows[torch.isin(rows, right.places)]
    width = left.grads.shape[3] * max(len(block), block.shape[1])
    for here in _ranges(len(common), width):
        _add(block, _at(left, common[here]), _at(right, common[here]))


def _at(lookup: Lookup, rows: Tensor) -> Tensor:
    """Return the gradients of some rows of the table, in ascending order: (N, K, c, O)."""
    (n, k, _, o), c = lookup.grads.shape, len(rows)
    where = torch.searchsorted(rows, lookup.places).clamp(max=c - 1)
    there = rows[where] == lookup.places
    samples = torch.arange(n, device=where.device)[:, None]
    sums = lookup.grads.new_zeros(n * c, k, o)
    sums.index_add_(0, (samples * c + where)[there], lookup.grads.transpose(1, 2)[there])
    return sums.view(n, c, k, o).transpose(1, 2)


def _add(block: Tensor, left: Tensor, right: Tensor) -> None:
    """Add products of gradients (N, K, ...) and (M, K, ...)."""
    flat = (one.flatten(2).flatten(0, 1).to(block.dtype) for one in (left, right))
    block.addmm_(next(flat), next(flat).T)


def _ranges(size: int, entries: int) -> Iterator[slice]:
    """Yield ranges of so many that each makes some megabytes."""
    return _pieces(size, max(1, _CHUNK_ENTRIES // entries))


def _pieces(size: int, step: int) -> Iterator[slice]:
    for start in range(0, size, step):
        yield slice(start, min(size, start + step))
