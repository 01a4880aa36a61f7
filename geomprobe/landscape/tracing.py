"""Follow the units of a model through one pass, operation by operation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from geomprobe.evidence import forward
from geomprobe.hooks import quiet
from geomprobe.landscape.labels import (
    Label,
    added,
    concatenated,
    contracted,
    joined,
    narrowed,
    reduced,
    varies,
)
from geomprobe.landscape.operations import (
    AXES_ALONE,
    BATCH_NORM,
    CONSTANT,
    HOMOGENEOUS,
    HOMOGENEOUS_REDUCE,
    LAYER_NORM,
    MOVE,
    POINTWISE,
    POOL,
    REDUCE,
    REDUCE_KEEPING,
    RESHAPE,
    SAME,
    SUMS,
)
from geomprobe.landscape.units import Units

Given = dict[str, Any]
Watch = Callable[[Label, Tensor], None]


def trace(model: nn.Module, inputs: Any, watch: Watch | None = None) -> Units:
    """Run a model and learn which of its units move and scale together.

    Parameters
    ----------
    model : torch.nn.Module
        Looked at in evaluation mode, and left as it was.
    inputs : tensor, or a tuple, list or dict of tensors
        A batch.
    watch : callable, optional
        Called with the label and the value of each sum of products and of each normalization that
        depends on the inputs.
    """
    units = Units()
    tracer = _Tracer(model, units, watch)
    leaves, spec = pytree.tree_flatten(inputs)
    leaves = [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            tracer.follow(leaf, Label(tuple(leaf.shape)), data=True)
    with quiet(model), torch.no_grad(), _plain_attention(), tracer:
        outputs = forward(model, pytree.tree_unflatten(leaves, spec))
    tracer.finish(outputs)
    return units


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Let attention be computed by products and softmax, not by one fused operation."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of a pass, below modules and autograd."""

    def __init__(self, model: nn.Module, units: Units, watch: Watch | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.units, self.watch = units, watch
        self._labels: Any = WeakTensorKeyDictionary()
        self._of_data: Any = WeakTensorKeyDictionary()
        self._names: Any = WeakTensorKeyDictionary()
        self._indices: Any = WeakTensorKeyDictionary()
        self._unused: dict[str, Label] = {}
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and tensor not in self._labels:
                arrays = units.parameter(name, tensor.shape)
                label = Label(tuple(tensor.shape), arrays, arrays)
                self.follow(tensor, label)
                self._names[tensor] = name
                self._unused[name] = label

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep PyTorch from importing its compiler, which takes seconds, to wrap this mode in."""
        return False

    def follow(self, tensor: Tensor, label: Label, *, data: bool = False) -> None:
        """Keep what is known of a tensor."""
        self._labels[tensor] = label
        if data:
            self._of_data[tensor] = True

    def finish(self, outputs: Any) -> None:
        """Pin what the caller sees, and what was never used."""
        for leaf in pytree.tree_leaves(outputs):
            if isinstance(leaf, Tensor) and leaf in self._labels:
                self._stop(self._labels[leaf], "an output of the model")
        for label in self._unused.values():
            self._stop(label, "not used in the pass")

    def _stop(self, label: Label, reason: str) -> None:
        for mode in label.modes:
            self.units.pin(mode, reason)
        self.units.freeze(*label.scales)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        known = [tensor for tensor in tensors if tensor in self._labels]
        operation = func._schema.name.partition("::")[2]
        if func._schema.is_mutable:
            operation = operation.removesuffix("_")
        if not known or operation in CONSTANT:
            return result
        for tensor in known:
            if self._unused.pop(self._names.get(tensor), None) is not None:
                self.units.used.append(self._names[tensor])
            for mode in self._indices.get(tensor, ()):
                self.units.pin(mode, "is numbered by its place")
        names = [argument.name for argument in func._schema.arguments]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        data = any(tensor in self._of_data for tensor in known)
        made = list(result) if isinstance(result, tuple | list) else [result]
        labels = self._rule(func, operation, given, made, [self._labels[t] for t in known])
        for tensor, label in zip(made, labels, strict=False):
            if isinstance(tensor, Tensor):
                self.follow(tensor, label.of(tuple(tensor.shape)), data=data)
        if self.watch is not None and data and _is_watched(operation):
            self.watch(self._labels[made[0]], made[0])
        return result

    def _rule(
        self, func: Any, operation: str, given: Given, made: list[Any], known: list[Label]
    ) -> list[Label]:
        """Return labels of what an operation makes."""
        if not any(isinstance(part, Tensor) for part in made):
            for label in known:
                self._stop(label, "its value is looked at")
            return []
        moved = self._moved(func, operation, given, made)
        if moved is not None:
            return moved
        for label in known:
            for mode in label.modes:
                self.units.touch(mode.numpy().ravel())
        found = self._computed(func, operation, given, made)
        if found is None:
            for part in known:
                self._stop(part, f"goes through {operation}, whose symmetries are not known")
            return [Label(tuple(part.shape)) for part in made if isinstance(part, Tensor)]
        return [found] * len(made)

    # --- operations that only move entries --------------------------------------------------------

    def _moved(
        self, func: Any, operation: str, given: Given, made: list[Any]
    ) -> list[Label] | None:
        """Return labels where entries are only moved, by moving those of the labels alike."""
        first = next(iter(given.values()))
        if operation in ("cat", "stack"):
            return [self._concatenated(operation, given)]
        if not isinstance(first, Tensor) or first not in self._labels:
            return None
        label: Label = self._labels[first]
        shapes = [tuple(part.shape) for part in made]
        if operation in SAME:
            return [label]
        if operation in ("tril", "triu"):
            return [self._over_places(label, 2)]
        rest = {name: value for name, value in given.items() if value is not first}
        if operation in AXES_ALONE:
            return [label.map(lambda part: func(part, **rest), shapes[0])]
        if operation in RESHAPE:
            return [self._reshaped(label, shapes[0])]
        if operation not in MOVE:
            return None
        if any(leaf in self._labels for leaf in pytree.tree_leaves(rest) if _is_tensor(leaf)):
            return None
        if operation.startswith("pixel"):
            label = self._with_places(label)
        return [
            label.map_full(lambda part: _listed(func(part, **rest))[k], shape)  # noqa: B023
            for k, shape in enumerate(shapes)
        ]

    def _with_places(self, label: Label) -> Label:
        """Add a mode of fixed places for the axes that no other covers."""
        free = [
            size if not any(varies(mode, axis) for mode in label.modes) else 1
            for axis, size in enumerate(label.shape)
        ]
        if not label.modes or prod(free) == 1:
            return label
        places = self.units.places(prod(free)).reshape(free)
        return Label(label.shape, (*label.modes, places), label.scales)

    def _reshaped(self, label: Label, shape: tuple[int, ...]) -> Label:
        moved = self._with_places(label).map_full(lambda part: part.reshape(shape), shape)
        return Label(shape, joined(self.units, (moved,)), moved.scales)

    def _concatenated(self, operation: str, given: Given) -> Label:
        tensors, axis = given["tensors"], given.get("dim", 0)
        labels = [self._of(tensor) for tensor in tensors]
        labels = [
            Label(tuple(tensor.shape), label.modes, label.scales)
            for tensor, label in zip(tensors, labels, strict=True)
        ]
        if operation == "stack":
            axis %= tensors[0].ndim + 1
            labels = [label.unsqueeze(axis) for label in labels]
        axis %= len(labels[0].shape)
        return concatenated(self.units, labels, axis, stacked=operation == "stack")

    # --- operations that compute ------------------------------------------------------------------

    def _of(self, tensor: Tensor) -> Label:
        """Return the label of a tensor; a constant is uniform where it does not change."""
        if tensor in self._labels:
            label: Label = self._labels[tensor]
            return label
        return Label(tuple(narrowed(tensor).shape))

    def _computed(self, func: Any, operation: str, given: Given, made: list[Any]) -> Label | None:
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
            return self._over_places(label, int(re.findall(r"\d", operation)[0]), made[0])
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
        operands = [value for value in given.values() if _is_tensor(value)]
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
        x = self._over_places(self._of(given["input"]), given["weight"].ndim - 2)
        w = self._over_places(self._of(given["weight"]), given["weight"].ndim - 2)
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
        made = self._reshaped(made, (n, out))
        if given.get("bias") is not None:
            made = self._sum([made, self._of(given["bias"])])
        for _ in range(given["weight"].ndim - 2):
            made = made.unsqueeze(2)
        return made

    def _over_places(self, label: Label, n: int, like: Tensor | None = None) -> Label:
        """Pin what changes along the last n axes, and forget it there."""
        axes = range(len(label.shape) - n, len(label.shape))

        def changes(array: Tensor) -> bool:
            return any(varies(array, axis) for axis in axes)

        for mode in filter(changes, label.modes):
            self.units.pin(mode, "an axis of places: a kernel, or a map")
        self.units.freeze(*filter(changes, label.scales))
        return Label(
            label.shape if like is None else tuple(like.shape),
            tuple(mode for mode in label.modes if not changes(mode)),
            tuple(scale for scale in label.scales if not changes(scale)),
        )

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
        variance = self._names.get(statistics[1]) if statistics[1] is not None else None
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
        listed = list(every) if dims is None or dims == [] else _listed(dims)
        axes = sorted({axis % max(len(label.shape), 1) for axis in listed})
        inside = [s for s in label.scales if any(varies(s, axis) for axis in axes)]
        scales = tuple(s for s in label.scales if not any(varies(s, axis) for axis in axes))
        units.freeze(*inside)
        if operation not in HOMOGENEOUS_REDUCE:
            units.freeze(*scales)
            scales = ()
        for indices in made[1:] if operation in ("max", "min") else ():
            # Pinned when they are looked at.
            self._indices[indices] = label.modes
        shape = tuple(1 if k in axes else size for k, size in enumerate(label.shape))
        found = Label(shape, reduced(units, label.modes, axes), scales)
        return found if len(shape) == made[0].ndim else found.squeeze(axes)


def _plane(label: Label, shape: tuple[int, int]) -> Label:
    """Return a label of which only the first two axes are left."""
    return label.map(lambda part: part.reshape(part.shape[:2]), shape)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _is_watched(operation: str) -> bool:
    products = operation.endswith(("mm", "convolution"))
    return products or operation in BATCH_NORM or operation in LAYER_NORM
