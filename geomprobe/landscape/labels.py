"""Labels: which units the entries of a tensor belong to, and by whose factors they scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from geomprobe.landscape.units import Units, along


@dataclass(frozen=True, eq=False)
class Label:
    """What is known of a tensor.

    Parameters
    ----------
    shape : tuple of int
        Of the tensor; 1 along an axis where it does not change.
    modes : tuple of int64 Tensor
        Atoms, of a shape that broadcasts to this one. An entry belongs to one unit of each mode;
        -1 to none. An axis along which no mode changes is an axis of fixed places.
    scales : tuple of int64 Tensor
        Atoms: an entry scales by the product of their factors.
    """

    shape: tuple[int, ...]
    modes: tuple[Tensor, ...] = ()
    scales: tuple[Tensor, ...] = ()

    def map(self, function: Callable[[Tensor], Tensor], shape: Sequence[int]) -> Label:
        """Apply a function to all arrays as they are kept."""
        modes, scales = (
            tuple(narrowed(function(part)) for part in parts) for parts in (self.modes, self.scales)
        )
        return Label(tuple(shape), modes, scales)

    def map_full(self, function: Callable[[Tensor], Tensor], shape: Sequence[int]) -> Label:
        """Apply a function to all arrays at the tensor's own shape."""
        return self.map(lambda part: function(part.expand(self.shape).contiguous()), shape)

    def of(self, shape: tuple[int, ...]) -> Label:
        """Return it for a tensor of a shape; empty, if it cannot be that of this one."""
        arrays = (*self.modes, *self.scales)
        fits = all(
            part.ndim == len(shape)
            and all(n in (1, m) for n, m in zip(part.shape, shape, strict=True))
            for part in arrays
        )
        return Label(shape, self.modes, self.scales) if fits else Label(shape)

    def lead(self, ndim: int) -> Label:
        """Return it with axes of size one in front."""
        front = (1,) * (ndim - len(self.shape))
        return self.map(lambda part: part.reshape(*front, *part.shape), (*front, *self.shape))

    def unsqueeze(self, axis: int) -> Label:
        """Return it with another axis of size one."""
        shape = list(self.shape)
        shape.insert(axis, 1)
        return self.map(lambda part: part.unsqueeze(axis), shape)

    def squeeze(self, axes: Sequence[int]) -> Label:
        """Return it without some axes along which nothing changes."""
        kept = [axis for axis in range(len(self.shape)) if axis not in axes]
        shape = [self.shape[axis] for axis in kept]
        return self.map(lambda part: part.reshape([part.shape[axis] for axis in kept]), shape)


def varies(array: Tensor, axis: int) -> bool:
    """Whether an array changes along an axis."""
    return array.shape[axis] > 1


def narrowed(array: Tensor) -> Tensor:
    """Return an array with size 1 along the axes where it does not change."""
    for axis, size in enumerate(array.shape):
        if size > 1:
            first = array.narrow(axis, 0, 1)
            if bool((array == first).all()):
                array = first
    return array


def joined(units: Units, labels: Sequence[Label]) -> tuple[Tensor, ...]:
    """Return the modes of what depends on tensors entry by entry; all have the same axes."""
    merged: list[Tensor] = []
    for number, label in enumerate(labels):
        others = [mode for i, other in enumerate(labels) if i != number for mode in other.modes]
        own = list(label.modes)
        for axis, size in enumerate(label.shape):
            covered = any(varies(mode, axis) for mode in own)
            if size > 1 and not covered and any(varies(mode, axis) for mode in others):
                own.append(along(units.places(size), axis, len(label.shape)))
        merged = _united(units, merged, own)
    return tuple(_needed(units, merged))


def _united(units: Units, first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    left: list[Tensor | None] = list(first)
    right: list[Tensor | None] = list(second)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            verdict = units.relate(a, b)
            if verdict in ("same", "a"):
                right[j] = None
                left[i] = torch.where(a < 0, b, a)
            elif verdict == "b":
                left[i] = None
                right[j] = torch.where(b < 0, a, b)
    return [narrowed(mode) for mode in (*left, *right) if mode is not None]


def _needed(units: Units, modes: Sequence[Tensor]) -> list[Tensor]:
    """Leave out modes of fixed places along axes where nothing else changes."""
    fixed = [units.pinned(mode) for mode in modes]
    moving = [mode for mode, still in zip(modes, fixed, strict=True) if not still]

    def meets(mode: Tensor) -> bool:
        axes = [axis for axis in range(mode.ndim) if varies(mode, axis)]
        return any(varies(other, axis) for other in moving for axis in axes)

    return [mode for mode, still in zip(modes, fixed, strict=True) if not still or meets(mode)]


def reduced(units: Units, modes: Sequence[Tensor], axes: Sequence[int]) -> tuple[Tensor, ...]:
    """Return the modes of a symmetric function, such as a sum, over axes, which stay with size 1.

    Where different entries are made of different units, these become parts of one unit each.
    """
    kept = []
    for mode in modes:
        over = [axis for axis in axes if varies(mode, axis)]
        if not over:
            kept.append(mode)
            continue
        rest = [axis for axis in range(mode.ndim) if axis not in over]
        rows = mode.permute(*rest, *over)
        outer = rows.shape[: len(rest)]
        sets = units.moves.roots(rows.reshape(outer.numel(), -1).numpy())
        units.touch(mode.numpy().ravel())
        sets = _distinct(sets)
        distinct, inverse = np.unique(sets, axis=0, return_inverse=True)
        if len(distinct) > 1:
            blocks = units.blocks(distinct)[inverse.ravel()]
            shape = [1 if axis in over else size for axis, size in enumerate(mode.shape)]
            kept.append(torch.from_numpy(blocks).reshape(shape))
    return tuple(kept)


def _distinct(rows: np.ndarray) -> np.ndarray:
    """Return each row sorted, what is there twice once, filled up by -1."""
    rows = np.sort(rows, axis=1)
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1
    return np.sort(rows, axis=1)


def contracted(units: Units, a: Label, b: Label, axis: int) -> Label:
    """Return the label of a sum of products over an axis, which stays with size 1."""
    modes = reduced(units, joined(units, (a, b)), (axis,))
    shape = list(np.broadcast_shapes(a.shape, b.shape))
    shape[axis] = 1
    scales = (*a.scales, *b.scales)
    inside = [scale for scale in scales if varies(scale, axis)]
    if len(inside) == 2:
        units.tie(inside[0], inside[1], -1)
    else:
        units.freeze(*inside)
    return Label(tuple(shape), modes, tuple(s for s in scales if not varies(s, axis)))


def added(units: Units, labels: Sequence[Label]) -> tuple[Tensor, ...]:
    """Return the scales of a sum entry by entry, whose terms must scale alike."""
    if all(len(label.scales) == 1 for label in labels):
        first = labels[0].scales[0]
        for label in labels[1:]:
            units.tie(first, label.scales[0])
        return (first,)
    for label in labels:
        units.freeze(*label.scales)
    return ()


def concatenated(
    units: Units, labels: Sequence[Label], axis: int, *, stacked: bool = False
) -> Label:
    """Return the label of tensors put together along an axis, or along one of their own each."""
    shape = list(labels[0].shape)
    shape[axis] = sum(label.shape[axis] for label in labels)
    aside = [[mode for mode in label.modes if not varies(mode, axis)] for label in labels]
    inside = [[mode for mode in label.modes if varies(mode, axis)] for label in labels]
    modes: list[Tensor] = []
    if stacked and {len(parts) for parts in aside} == {1}:
        modes.append(_side_by_side([mode for (mode,) in aside], axis))
    elif len({len(parts) for parts in aside}) == 1:
        for first, *others in zip(*aside, strict=True):
            for other in others:
                # Another order of parts would do as well: let the same place mean the same unit.
                if units.relate(first, other) != "same":
                    units.pin(first, "is put beside others that differ")
                    units.pin(other, "is put beside others that differ")
            modes.append(first)
    else:
        for mode in (mode for parts in aside for mode in parts):
            units.pin(mode, "is put beside what has no such axis")
    if any(inside):
        if any(len(parts) > 1 for parts in inside):
            for mode in (mode for parts in inside for mode in parts):
                units.pin(mode, "is put beside others along an axis of several meanings")
        else:
            start, arrays = 0, []
            for label, parts in zip(labels, inside, strict=True):
                n = label.shape[axis]
                array = parts[0] if parts else along(units.places(n, start), axis, len(shape))
                arrays.append(array)
                start += n
            modes.append(_side_by_side(arrays, axis))
            every = [np.unique(units.moves.roots(array.numpy())) for array in arrays]
            if sum(map(len, every)) > len(np.unique(np.concatenate(every))):
                # One unit may have another value in each.
                counts = torch.tensor([array.shape[axis] for array in arrays], device="cpu")
                which = units.places(len(arrays)).repeat_interleave(counts)
                modes.append(along(which, axis, len(shape)))
    scales: tuple[Tensor, ...] = ()
    if any(label.scales for label in labels):
        if all(len(label.scales) <= 1 for label in labels):
            ones = [
                label.scales[0] if label.scales else torch.full([1] * len(shape), -1, device="cpu")
                for label in labels
            ]
            sizes = [label.shape[axis] for label in labels]
            scales = (narrowed(_side_by_side(ones, axis, sizes)),)
        else:
            for label in labels:
                units.freeze(*label.scales)
    return Label(tuple(shape), tuple(narrowed(mode) for mode in modes), scales)


def _side_by_side(
    arrays: Sequence[Tensor], axis: int, sizes: Sequence[int] | None = None
) -> Tensor:
    common = list(np.broadcast_shapes(*(tuple(array.narrow(axis, 0, 1).shape) for array in arrays)))
    sizes = [array.shape[axis] for array in arrays] if sizes is None else sizes
    parts = []
    for array, size in zip(arrays, sizes, strict=True):
        common[axis] = size
        parts.append(array.expand(common))
    return torch.cat(parts, axis)


def with_places(units: Units, label: Label) -> Label:
    """Add a mode of fixed places for the axes that no other covers."""
    free = [
        size if not any(varies(mode, axis) for mode in label.modes) else 1
        for axis, size in enumerate(label.shape)
    ]
    if not label.modes or prod(free) == 1:
        return label
    places = units.places(prod(free)).reshape(free)
    return Label(label.shape, (*label.modes, places), label.scales)


def reshaped(units: Units, label: Label, shape: tuple[int, ...]) -> Label:
    """Return it for a tensor with the same entries in another shape."""
    moved = with_places(units, label).map_full(lambda part: part.reshape(shape), shape)
    return Label(shape, joined(units, (moved,)), moved.scales)


def over_places(units: Units, label: Label, n: int, like: Tensor | None = None) -> Label:
    """Pin what changes along the last n axes, and forget it there."""
    axes = range(len(label.shape) - n, len(label.shape))

    def changes(array: Tensor) -> bool:
        return any(varies(array, axis) for axis in axes)

    for mode in filter(changes, label.modes):
        units.pin(mode, "an axis of places: a kernel, or a map")
    units.freeze(*filter(changes, label.scales))
    return Label(
        label.shape if like is None else tuple(like.shape),
        tuple(mode for mode in label.modes if not changes(mode)),
        tuple(scale for scale in label.scales if not changes(scale)),
    )
