"""The life of hooks: attach, tell each output once, survive what goes wrong, leave nothing."""

from __future__ import annotations

import warnings
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from geomprobe.evidence import leading_size
from geomprobe.exceptions import DetachedProbeWarning
from geomprobe.hooks.quiet import visits
from geomprobe.hooks.selection import LayerSelection, unwrap


@dataclass(frozen=True)
class Batch:
    """What is known of the forward pass under way.

    Parameters
    ----------
    size : int or None
        Number of samples; None where the model is given no tensor.
    start : int
        How many samples the tap has seen before.
    training : bool
        Whether the model is in training mode.
    """

    size: int | None
    start: int
    training: bool


class Tap:
    """Tells a listener every output of the selected layers of a model.

    Parameters
    ----------
    model : torch.nn.Module
        Hooks go on the layers, and on the model itself to see where a forward pass begins and ends.
    selection : LayerSelection
        Layers to listen to.
    listen : callable
        ``listen(layer, module, output, batch)``. The k-th repeated call of a module in one forward
        pass is told as layer ``"name#k"``. Whatever it returns is ignored: the layer's output is
        never replaced.
    strict : bool
        Let an exception of the listener pass into the forward. Otherwise it detaches the tap and
        becomes a :class:`~geomprobe.exceptions.DetachedProbeWarning`.

    Notes
    -----
    Outputs outside a forward pass of the whole model are not told. Neither are the recomputations
    of gradient checkpointing, values inside transformations of ``torch.func``, nor the passes of
    other observers, which run inside :func:`~geomprobe.hooks.quiet`: a tap attached outside of it
    does not hear them. Copies and pickles of a hooked model carry hooks that do nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        selection: LayerSelection,
        listen: Callable[[str, nn.Module, Any, Batch], None],
        *,
        strict: bool = False,
    ) -> None:
        self._model = unwrap(model)
        self._selection = selection
        self._listen = listen
        self._strict = strict
        self._handles: list[RemovableHandle] = []
        self._batch: Batch | None = None
        self._calls: Counter[str] = Counter()
        self._visits = 0
        self.samples_seen = 0

    @property
    def attached(self) -> bool:
        """Whether the hooks are in place."""
        return bool(self._handles)

    def attach(self) -> None:
        """Put the hooks in place; a second call changes nothing."""
        if self._handles:
            return
        self._visits = visits(self._model)
        me = weakref.ref(self)
        begin, end = _Begin(me), _End(me)
        self._handles.append(self._model.register_forward_pre_hook(begin, with_kwargs=True))
        for name, module in self._selection.modules.items():
            self._handles.append(module.register_forward_hook(_Output(me, name)))
        self._handles.append(self._model.register_forward_hook(end, always_call=True))

    def detach(self) -> None:
        """Take the hooks off; a second call changes nothing."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._batch = None

    def __enter__(self) -> Tap:
        self.attach()
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()

    def _begin(self, inputs: Any, training: bool) -> None:
        if _in_backward() or visits(self._model) != self._visits:
            return
        self._calls.clear()
        self._batch = Batch(leading_size(inputs), self.samples_seen, training)

    def _end(self) -> None:
        if self._batch is not None and not _in_backward():
            self.samples_seen += self._batch.size or 0
            self._batch = None

    def _output(self, name: str, module: nn.Module, output: Any) -> None:
        if self._batch is None or _in_backward() or _in_functorch(output):
            return
        call = self._calls[name]
        self._calls[name] += 1
        try:
            self._listen(f"{name}#{call}" if call else name, module, output, self._batch)
        except Exception as error:
            self.detach()
            if self._strict:
                raise
            warnings.warn(
                f"observing layer {name!r} failed and the probe is detached: "
                f"{type(error).__name__}: {error}",
                DetachedProbeWarning,
                stacklevel=2,
            )


def _in_backward() -> bool:
    """Whether autograd is running, as it is when checkpointing recomputes a forward."""
    task = getattr(torch._C, "_current_graph_task_id", None)
    return task is not None and task() != -1


def _in_functorch(output: Any) -> bool:
    """Whether a transformation of torch.func is running, inside which values are not data."""
    is_wrapped = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", None)
    tensors = (leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor))
    return is_wrapped is not None and any(map(is_wrapped, tensors))


class _Hook:
    """A hook that holds its tap weakly; copied or unpickled, it has none and does nothing."""

    def __init__(self, tap: Callable[[], Tap | None] = lambda: None, name: str = "") -> None:
        self._tap = tap
        self._name = name

    def __deepcopy__(self, memo: dict[int, Any]) -> _Hook:
        return type(self)()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class _Begin(_Hook):
    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if (tap := self._tap()) is not None:
            tap._begin((args, kwargs), module.training)


class _Output(_Hook):
    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if (tap := self._tap()) is not None:
            tap._output(self._name, module, output)


class _End(_Hook):
    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if (tap := self._tap()) is not None:
            tap._end()
