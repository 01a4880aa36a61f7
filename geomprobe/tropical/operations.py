"""Which operations of PyTorch are affine, and which bend: their thresholds, or their windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomprobe.storage import Array

#: Affine in all their arguments together.
_JOINTLY = """
view _unsafe_view _reshape_alias reshape permute transpose t expand squeeze unsqueeze select slice
split split_with_sizes unbind cat stack clone contiguous detach alias lift_fresh _to_copy flip roll
narrow diagonal unfold im2col col2im repeat constant_pad_nd reflection_pad1d reflection_pad2d
reflection_pad3d replication_pad1d replication_pad2d replication_pad3d neg add sub rsub sum mean
cumsum pixel_shuffle pixel_unshuffle channel_shuffle avg_pool1d avg_pool2d avg_pool3d
adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d upsample_nearest1d upsample_nearest2d
upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d
tril triu trace
"""
#: Affine in their first argument.
_IN_THE_FIRST = """
convolution native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm
miopen_batch_norm div index index_select gather masked_fill
"""
_SHAPES = "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty"

#: By operation: the sets of arguments in which it is affine jointly, if all others are constants;
#: None stands for all.
AFFINE: Mapping[str, tuple[frozenset[int] | None, ...]] = {
    **dict.fromkeys(_JOINTLY.split(), (None,)),
    **dict.fromkeys(_IN_THE_FIRST.split(), (frozenset({0}),)),
    **dict.fromkeys(("mul", "mm", "bmm", "mv", "dot"), (frozenset({0}), frozenset({1}))),
    **dict.fromkeys(
        ("addmm", "baddbmm", "addmv", "addbmm"), (frozenset({0, 1}), frozenset({0, 2}))
    ),
    "where": (frozenset({1, 2}),),
    "lerp": (frozenset({0, 1}),),
}

#: These look only at the shape of what they are given.
CONSTANT = frozenset(_SHAPES.split())

#: Which argument tells BatchNorm to use the statistics of its batch.
TRAINING: Mapping[str, int] = dict.fromkeys(
    ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"), 5
)

Values = Sequence[Any]


@dataclass(frozen=True)
class Bend:
    """How an operation bends.

    Parameters
    ----------
    thresholds : tuple
        Of an operation on each entry: the values at which its slope changes; numbers, or tensors
        that broadcast with the entries.
    windows : callable, optional
        Of a maximum: from rows (n, *shape) of each argument to the candidates (n, units, k).
    sign : float
        -1 where ``windows`` holds the negative of what is minimized.
    in_place : callable, optional
        The operation, written over its argument.
    """

    thresholds: tuple[Any, ...] = ()
    windows: Callable[..., Tensor] | None = None
    sign: float = 1.0
    in_place: Callable[[Tensor], Tensor] | None = None


def _elementwise(*thresholds: Any) -> Bend:
    return Bend(tuple(c for c in thresholds if c is not None and not _infinite(c)))


def _infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _threshold(args: Values) -> Bend | None:
    # Anything else jumps.
    return _elementwise(args[1]) if args[1] == args[2] else None


def _softshrink(args: Values) -> Bend:
    width = args[1] if len(args) > 1 else 0.5
    return _elementwise(-width, width)


def _rrelu(args: Values) -> Bend | None:
    return None if len(args) > 4 and args[4] else _elementwise(0.0)


def _pairwise(sign: float) -> Callable[[Values], Bend]:
    def bend(args: Values) -> Bend:
        def windows(*rows: Tensor) -> Tensor:
            moving = iter(rows)
            pair = [next(moving) if arg is None else arg[None] for arg in args[:2]]
            most = max(part.ndim for part in pair)
            pair = [
                part.reshape(len(part), *[1] * (most - part.ndim), *part.shape[1:]) for part in pair
            ]
            shape = np.broadcast_shapes(*(tuple(part.shape) for part in pair))
            spread = torch.stack([part.expand(shape) for part in pair], -1)
            return sign * spread.flatten(1, -2)

        return Bend(windows=windows, sign=sign)

    return bend


def _over_axes(sign: float) -> Callable[[Values], Bend]:
    def bend(args: Values) -> Bend:
        axes = args[1] if len(args) > 1 else ()
        axes = (axes,) if isinstance(axes, int) else tuple(axes)

        def windows(rows: Tensor) -> Tensor:
            n, ndim = len(rows), rows.ndim - 1
            reduced = sorted({axis % ndim for axis in axes} or range(ndim)) if ndim else []
            kept = [axis for axis in range(ndim) if axis not in reduced]
            moved = rows.permute(0, *(axis + 1 for axis in (*kept, *reduced)))
            k = math.prod(rows.shape[axis + 1] for axis in reduced)
            return sign * moved.reshape(n, -1, k)

        return Bend(windows=windows, sign=sign)

    return bend


def _pool(spatial: int) -> Callable[[Values], Bend]:
    """Max-pooling: kernel_size, stride, padding, dilation, ceil_mode."""

    def bend(args: Values) -> Bend:
        kernel, stride, padding, dilation = (
            _per_axis(args[i] if len(args) > i else (), spatial, default)
            for i, default in ((1, None), (2, None), (3, 0), (4, 1))
        )
        stride = stride if len(args) > 2 and args[2] else kernel
        ceil_mode = bool(args[5]) if len(args) > 5 else False

        def lines(axis: int, size: int) -> list[list[int]]:
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            room = size + 2 * padding[axis] - reach
            steps = -(-room // stride[axis]) if ceil_mode else room // stride[axis]
            starts = [i * stride[axis] - padding[axis] for i in range(steps + 1)]
            if ceil_mode and starts[-1] >= size:  # It may not begin in the padding.
                starts.pop()
            offsets = [dilation[axis] * j for j in range(kernel[axis])]
            return [[s + o for o in offsets if 0 <= s + o < size] for s in starts]

        return Bend(windows=_windows(spatial, lines))

    return bend


def _adaptive_pool(spatial: int) -> Callable[[Values], Bend]:
    def bend(args: Values) -> Bend:
        sizes = _per_axis(args[1], spatial, None)

        def lines(axis: int, size: int) -> list[list[int]]:
            out = sizes[axis]
            return [list(range(i * size // out, -(-(i + 1) * size // out))) for i in range(out)]

        return Bend(windows=_windows(spatial, lines))

    return bend


def _per_axis(value: Any, spatial: int, default: int | None) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    if not values:
        values = (0 if default is None else default,)
    return values * spatial if len(values) == 1 else values


def _windows(spatial: int, lines: Callable[[int, int], list[list[int]]]) -> Callable[..., Tensor]:
    def windows(rows: Tensor) -> Tensor:
        shape = rows.shape[-spatial:]
        index = torch.from_numpy(_grid([lines(i, size) for i, size in enumerate(shape)], shape))
        flat = rows.reshape(len(rows), -1, math.prod(shape))
        return flat[:, :, index.to(rows.device)].flatten(1, 2)

    return windows


def _grid(lines: list[list[list[int]]], shape: Sequence[int]) -> Array:
    """Return which entries of a flattened grid each window holds, (windows, k).

    Windows at the border are filled up with their first entry, which changes no maximum.
    """
    grids = [
        [int(np.ravel_multi_index(place, tuple(shape))) for place in product(*window)]
        for window in product(*lines)
    ]
    k = max(map(len, grids))
    return np.array([window + window[:1] * (k - len(window)) for window in grids], np.int64)


#: By operation: from its arguments (data-dependent ones are None) to its bend; None where it jumps.
BENDS: Mapping[str, Callable[[Values], Bend | None]] = {
    "relu": lambda args: Bend((0.0,), in_place=Tensor.relu_),
    "abs": lambda args: _elementwise(0.0),
    "leaky_relu": lambda args: _elementwise(0.0),
    "_prelu_kernel": lambda args: _elementwise(0.0),
    "rrelu_with_noise": _rrelu,
    "threshold": _threshold,
    "hardtanh": lambda args: _elementwise(*(args[1:3] if len(args) > 1 else (-1.0, 1.0))),
    "hardsigmoid": lambda args: _elementwise(-3.0, 3.0),
    "softshrink": lambda args: _elementwise(
        *(s * (args[1] if len(args) > 1 else 0.5) for s in (-1, 1))
    ),
    "clamp": lambda args: _elementwise(*args[1:3]),
    "clamp_min": lambda args: _elementwise(args[1]),
    "clamp_max": lambda args: _elementwise(args[1]),
    "maximum": _pairwise(1.0),
    "minimum": _pairwise(-1.0),
    "amax": _over_axes(1.0),
    "amin": _over_axes(-1.0),
    "max": _over_axes(1.0),
    "min": _over_axes(-1.0),
    "max_pool2d_with_indices": _pool(2),
    "max_pool3d_with_indices": _pool(3),
    "adaptive_max_pool2d": _adaptive_pool(2),
    "adaptive_max_pool3d": _adaptive_pool(3),
}


def _rrelu_evaluated(
    entries: Tensor, noise: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *_: Any
) -> Tensor:
    return torch.nn.functional.leaky_relu(entries, (lower + upper) / 2)


#: What stands for an operation that torch.vmap does not take.
STANDS_FOR: Mapping[str, Callable[..., Tensor]] = {"rrelu_with_noise": _rrelu_evaluated}
