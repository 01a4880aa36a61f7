"""What operations that compute do to labels: which units they tie, and which factors they stop."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from geomprobe.landscape.labels import (
    Label,
    added,
    contracted,
    joined,
    over_places,
    reduced,
    reshaped,
    varies,
)
from geomprobe.landscape.operations import (
    BATCH_NORM,
    HOMOGENEOUS,
    HOMOGENEOUS_REDUCE,
    LAYER_NORM,
    POINTWISE,
    POOL,
    REDUCE,
    REDUCE_KEEPING,
    SUMS,
)
from geomprobe.landscape.units import Units

Given = dict[str, Any]


class Rules:
    """The rule of each operation that computes.

    Parameters
    ----------
    units : Units
        That the rules tie and pin.
    label_of : callable
        From a tensor to its label.
    name_of : callable
        From a tensor to its name, where it is of the model.
    """

    def __init__(
        self,
        units: Units,
        label_of: Callable[[Tensor], Label],
        name_of: Callable[[Tensor], str | None],
    ) -> None:
        self.units, self._of, self._name_of = units, label_of, name_of
        #: By tensors of places, as of a maximum, the modes that are numbered by them.
        self.indices: Any = WeakTensorKeyDictionary()

    def computed(self, func: Any, operation: str, given: Given, made: list[Any]) -> Label | None:
        """Return the label of what an operation makes; None where there is no rule."""
        units = self.units
        if operation in ("mm", "bmm", "mv", "dot"):
            a, b = (self._of(tensor) for tensor in list(given.values())[:2])
            return self._product(a, b)
        if operation in ("addmm", "baddbmm", "addmv"):
            start, a, b = (self._of(tensor) for tensor in list(given.values())[:3])
            return self._sum([self._product(a, b), start])
        if operation in ("convolution", "_convolution"):
            return self._convolution(given)
        if operation in BATCH_NORM:
            return self._batch_norm(given)
        if operation in LAYER_NORM:
            x = self._of(given["input"])
            n = len(given["normalized_shape"])
            reduced(units, x.modes, range(len(x.shape) - n, len(x.shape)))
            return self._normalized(x, given.get("weight"), given.get("bias"), lambda part: part)
        if operation == "_weight_norm_interface":
            direction, size = self._of(given["v"]), self._of(given["g"])
            units.freeze(*direction.scales)
            return Label(direction.shape, joined(units, (direction, size)), size.scales)
        if operation == "native_group_norm":
            return self._group_norm(given)
        if operation == "embedding":
            return self._embedding(self._of(given["weight"]), given["indices"])
        if operation in POOL:
            label = self._of(next(iter(given.values())))
            return over_places(units, label, int(re.findall(r"\d", operation)[0]), made[0])
        if operation == "constant_pad_nd":
            return self._padded(self._of(given["self"]), given["pad"], given.get("value", 0), made)
        if operation in REDUCE_KEEPING:
            label = self._of(given["self"])
            reduced(units, label.modes, [given["dim"] % len(label.shape)])
            units.freeze(*label.scales)
            return Label(tuple(made[0].shape), label.modes)
        if operation in REDUCE:
            return self._reduced(operation, given, made)
        if operation == "glu":
            x, axis = self._of(given["self"]), given.get("dim", -1) % made[0].ndim
            n = made[0].shape[axis]
            halves = [
                x.map_full(lambda part: part.narrow(axis, start, n), made[0].shape)  # noqa: B023
                for start in (0, n)
            ]
            units.freeze(*halves[1].scales)
            return Label(tuple(made[0].shape), joined(units, halves), halves[0].scales)
        if operation in POINTWISE or torch.Tag.pointwise in func.tags:
            return self._pointwise(operation, given, made[0].ndim)
        return None

    def _pointwise(self, operation: str, given: Given, ndim: int) -> Label:
        units = self.units
        operands = [value for value in given.values() if is_tensor(value)]
        labels = [self._of(value).lead(ndim) for value in operands]
        modes = joined(units, labels)
        shape = np.broadcast_shapes(*(label.shape for label in labels))
        scales: tuple[Tensor, ...] = ()
        if operation in HOMOGENEOUS:
            scales = labels[0].scales
        elif operation == "_prelu_kernel":
            units.freeze(*labels[1].scales)
            scales = labels[0].scales
        elif operation == "mul":
            scales = tuple(scale for label in labels for scale in label.scales)
        elif operation == "div" and operands[0] is next(iter(given.values())):
            for label in labels[1:]:
                units.freeze(*label.scales)
            scales = labels[0].scales
        elif operation in SUMS and len(labels) == 2 + (operation == "where"):
            scales = added(units, labels[operation == "where" :])
        else:
            for label in labels:
                units.freeze(*label.scales)
        return Label(shape, modes, scales)

    def _sum(self, labels: Sequence[Label]) -> Label:
        ndim = max(len(label.shape) for label in labels)
        labels = [label.lead(ndim) for label in labels]
        shape = np.broadcast_shapes(*(label.shape for label in labels))
        return Label(shape, joined(self.units, labels), added(self.units, labels))

    def _product(self, a: Label, b: Label) -> Label:
        """Return the label of a product of matrices or vectors, with batches in front."""
        batch = len(a.shape) == 3
        left = a.unsqueeze(len(a.shape)) if len(b.shape) - batch == 2 else a
        right = b.unsqueeze(int(batch)) if len(a.shape) - batch == 2 else b
        axis = len(a.shape) - 1
        return contracted(self.units, left, right, axis).squeeze([axis])

    def _convolution(self, given: Given) -> Label:
        units, groups = self.units, given["groups"]
        x = over_places(units, self._of(given["input"]), given["weight"].ndim - 2)
        w = over_places(units, self._of(given["weight"]), given["weight"].ndim - 2)
        n, channels, out = x.shape[0], given["input"].shape[1], given["weight"].shape[0]
        x = _plane(x, (n, channels))
        if given["transposed"]:
            # From (inputs, outputs of a group) to (outputs, inputs of a group).
            each = given["weight"].shape[1]
            out = groups * each
            w = _plane(w, (channels, each))
            w = w.map_full(
                lambda part: part.reshape(groups, -1, each).transpose(1, 2),
                (groups, each, channels // groups),
            ).unsqueeze(0)
        else:
            w = _plane(w, (out, channels // groups))
            shape = (1, groups, out // groups, channels // groups)
            w = w.map_full(lambda part: part.reshape(shape), shape)
        shape = (n, groups, 1, channels // groups)
        x = x.map_full(lambda part: part.reshape(shape), shape)
        if groups > 1 and channels > groups:
            for mode in w.modes:
                if varies(mode, 3):
                    units.pin(mode, "an input of a group of a convolution, which keeps its place")
        made = contracted(units, x, w, 3)
        made = reshaped(units, made, (n, out))
        if given.get("bias") is not None:
            made = self._sum([made, self._of(given["bias"])])
        for _ in range(given["weight"].ndim - 2):
            made = made.unsqueeze(2)
        return made

    def _normalized(
        self, x: Label, weight: Any, bias: Any, place: Callable[[Label], Label]
    ) -> Label:
        units = self.units
        units.freeze(*x.scales)
        parts = [place(self._of(t)).lead(len(x.shape)) for t in (weight, bias) if t is not None]
        scales = added(units, parts) if len(parts) > 1 else parts[0].scales if parts else ()
        return Label(x.shape, joined(units, (x, *parts)), scales)

    def _batch_norm(self, given: Given) -> Label:
        units = self.units
        x = self._of(given["input"])

        def place(label: Label) -> Label:
            return label.map(
                lambda part: part.reshape(-1, *[1] * (len(x.shape) - 2)),
                (*label.shape, *[1] * (len(x.shape) - 2)),
            )

        statistics = [given.get("running_mean"), given.get("running_var")]
        held = [place(self._of(t)).lead(len(x.shape)) for t in statistics if t is not None]
        modes = joined(units, (x, *held))
        variance = self._name_of(statistics[1]) if statistics[1] is not None else None
        if variance is not None and not given.get("training", False):
            # Factors before the norm are undone by its own mean and variance.
            added(units, (x, *held))
            units.variances[variance] = float(
                given["epsilon"] if "epsilon" in given else given["eps"]
            )
        else:
            for label in (x, *held):
                units.freeze(*label.scales)
        x = Label(x.shape, modes)
        return self._normalized(x, given.get("weight"), given.get("bias"), place)

    def _group_norm(self, given: Given) -> Label:
        x = self._of(given["input"])
        groups = given["group"]
        shape = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
        apart = x.map_full(lambda part: part.reshape(shape), shape)
        reduced(self.units, apart.modes, range(2, len(shape)))

        def place(label: Label) -> Label:
            ones = [1] * (len(x.shape) - 2)
            return label.map(lambda part: part.reshape(-1, *ones), (*label.shape, *ones))

        return self._normalized(x, given.get("weight"), given.get("bias"), place)

    def _embedding(self, table: Label, indices: Tensor) -> Label:
        for mode in table.modes:
            if varies(mode, 0):
                self.units.pin(mode, "a row of an embedding, which the data choose")
        self.units.freeze(*(scale for scale in table.scales if varies(scale, 0)))
        rows = Label(
            (1, *table.shape[1:]),
            tuple(mode for mode in table.modes if not varies(mode, 0)),
            tuple(scale for scale in table.scales if not varies(scale, 0)),
        )
        rows = rows.squeeze([0]).lead(indices.ndim + 1)
        return Label((*indices.shape, *table.shape[1:]), rows.modes, rows.scales)

    def _padded(self, label: Label, pad: Sequence[int], value: Any, made: list[Any]) -> Label:
        def padded(part: Tensor) -> Tensor:
            sizes = list(pad)
            for k in range(len(pad) // 2):
                if not varies(part, part.ndim - 1 - k):
                    sizes[2 * k : 2 * k + 2] = [0, 0]
            return nn.functional.pad(part, sizes, value=-1)

        if value != 0:
            self.units.freeze(*label.scales)
            label = Label(label.shape, label.modes)
        return label.map(padded, made[0].shape)

    def _reduced(self, operation: str, given: Given, made: list[Any]) -> Label:
        units = self.units
        label = self._of(given["self"])
        dims = given.get("dim")
        every = range(len(label.shape))
        summed = list(every) if dims is None or dims == [] else listed(dims)
        axes = sorted({axis % max(len(label.shape), 1) for axis in summed})
        inside = [s for s in label.scales if any(varies(s, axis) for axis in axes)]
        scales = tuple(s for s in label.scales if not any(varies(s, axis) for axis in axes))
        units.freeze(*inside)
        if operation not in HOMOGENEOUS_REDUCE:
            units.freeze(*scales)
            scales = ()
        for indices in made[1:] if operation in ("max", "min") else ():
            # Pinned when they are looked at.
            self.indices[indices] = label.modes
        shape = tuple(1 if k in axes else size for k, size in enumerate(label.shape))
        found = Label(shape, reduced(units, label.modes, axes), scales)
        return found if len(shape) == made[0].ndim else found.squeeze(axes)


def _plane(label: Label, shape: tuple[int, int]) -> Label:
    """Return a label of which only the first two axes are left."""
    return label.map(lambda part: part.reshape(part.shape[:2]), shape)


def is_tensor(value: Any) -> bool:
    """Whether an argument of an operation is a tensor."""
    return isinstance(value, Tensor)


def listed(value: Any) -> list[Any]:
    """Return one argument or result, or several, as a list."""
    return list(value) if isinstance(value, tuple | list) else [value]
