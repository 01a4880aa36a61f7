"""Single inputs of a model, as points of a space of many dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from geomprobe.evidence import Samples


def as_batch(sample: Any) -> Any:
    """Return one input, given without the axis of the batch, as a batch of one."""
    return pytree.tree_map(lambda leaf: leaf[None] if isinstance(leaf, Tensor) else leaf, sample)


def moves(leaf: Any) -> bool:
    """Return whether something is a floating-point tensor: what can move."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def aligned(samples: Sequence[Any], names: Sequence[str]) -> list[Tensor]:
    """Return inputs as float64 rows, (samples, 1, *shape), of each tensor that moves.

    Raises
    ------
    ValueError
        They are not of one shape, not finite, or differ in what is not floating point.
    """
    first, spec = pytree.tree_flatten(samples[0])
    columns: list[list[Tensor]] = [[] for leaf in first if moves(leaf)]
    if not columns:
        raise ValueError(f"{names[0]} holds no floating-point tensor that could move")
    for name, sample in zip(names, samples, strict=True):
        leaves, other = pytree.tree_flatten(sample)
        if other != spec:
            raise ValueError(f"{name} is not built like {names[0]}")
        for leaf, model in zip(leaves, first, strict=True):
            if isinstance(leaf, Tensor) and leaf.shape != model.shape:
                raise ValueError(
                    f"{name} has shape {tuple(leaf.shape)}, and {names[0]} {tuple(model.shape)}; "
                    "give single inputs without the axis of the batch"
                )
            if not moves(leaf) and not _same(leaf, model):
                raise ValueError(f"{name} and {names[0]} differ in what is not floating point")
        for column, part in zip(columns, filter(moves, leaves), strict=True):
            if not bool(torch.isfinite(part).all()):
                raise ValueError(f"{name} holds NaN or infinity")
            column.append(part.detach().double()[None])
    return [torch.stack(column) for column in columns]


def rows_of(data: Samples) -> tuple[Any, list[Tensor]]:
    """Return the first of some inputs as a batch of one, and the rows of all of them.

    Raises
    ------
    ValueError
        There are none; what :func:`aligned` refuses.
    """
    if len(data) == 0:
        raise ValueError("data holds no samples")
    singles = [data.take(i).inputs for i in range(len(data))]
    rows = aligned(singles, [f"input {i}" for i in range(len(data))])
    return as_batch(singles[0]), rows


def flattened(rows: Sequence[Tensor]) -> Tensor:
    """Return rows over all their parts as vectors, (n, d)."""
    return torch.cat([part.flatten(1) for part in rows], 1)


def unflattened(vectors: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
    """Return vectors, (n, d), as rows of the shapes of others."""
    sizes = [part[0].numel() for part in rows]
    parts = torch.split(vectors, sizes, 1)
    return [part.reshape(-1, *like.shape[1:]) for part, like in zip(parts, rows, strict=True)]


def _same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


def norm(parts: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norms of rows over all their parts."""
    squares = [part.flatten(1).square().sum(1) for part in parts]
    return torch.stack(squares).sum(0).sqrt()
