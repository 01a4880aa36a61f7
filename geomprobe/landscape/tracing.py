"""Follow the units of a model through one pass, operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
    concatenated,
    narrowed,
    over_places,
    reshaped,
    with_places,
)
from geomprobe.landscape.operations import (
    AXES_ALONE,
    BATCH_NORM,
    CONSTANT,
    LAYER_NORM,
    MOVE,
    RESHAPE,
    SAME,
)
from geomprobe.landscape.rules import Given, Rules, is_tensor, listed
from geomprobe.landscape.units import Units

#: Ends the reason why units that go through an operation without a rule keep their places.
UNKNOWN = "whose symmetries are not known"

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
        self._rules = Rules(units, self._of, self._names.get)
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
            for mode in self._rules.indices.get(tensor, ()):
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
        found = self._rules.computed(func, operation, given, made)
        if found is None:
            for part in known:
                self._stop(part, f"goes through {operation}, {UNKNOWN}")
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
            return [over_places(self.units, label, 2)]
        rest = {name: value for name, value in given.items() if value is not first}
        if operation in AXES_ALONE:
            return [label.map(lambda part: func(part, **rest), shapes[0])]
        if operation in RESHAPE:
            return [reshaped(self.units, label, shapes[0])]
        if operation not in MOVE:
            return None
        if any(leaf in self._labels for leaf in pytree.tree_leaves(rest) if is_tensor(leaf)):
            return None
        if operation.startswith("pixel"):
            label = with_places(self.units, label)
        return [
            label.map_full(lambda part: listed(func(part, **rest))[k], shape)  # noqa: B023
            for k, shape in enumerate(shapes)
        ]

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

    def _of(self, tensor: Tensor) -> Label:
        """Return the label of a tensor; a constant is uniform where it does not change."""
        if tensor in self._labels:
            label: Label = self._labels[tensor]
            return label
        return Label(tuple(narrowed(tensor).shape))


def _is_watched(operation: str) -> bool:
    products = operation.endswith(("mm", "convolution"))
    return products or operation in BATCH_NORM or operation in LAYER_NORM
