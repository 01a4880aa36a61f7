"""The life of hooks: attach, tell each output once, survive what goes wrong, leave nothing."""

from __future__ import annotations

import sys
import threading
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from geomprobe.evidence import leading_size
from geomprobe.exceptions import DetachedProbeWarning, SkippedLayerWarning
from geomprobe.hooks.compiled import compiled_parts, eager_stance
from geomprobe.hooks.names import key_of, split_port
from geomprobe.hooks.outputs import arguments, leaves
from geomprobe.hooks.quiet import visits
from geomprobe.hooks.selection import LayerSelection, unwrap


@dataclass(frozen=True)
class Batch:
    """What is known of the forward pass under way.

    Parameters
    ----------
    size : int or None
        Number of samples; None where the model is given no tensor, and a listener may say it by
        :meth:`Tap.count`.
    start : int
        How many samples the tap has seen before.
    phase : str
        ``"train"`` or ``"eval"``, as the model's flag says, or what :meth:`Tap.phase` names.
    given : callable
        Returns what the model was called with: see :func:`~geomprobe.hooks.outputs.arguments`.
    """

    size: int | None
    start: int
    phase: str
    given: Callable[[], dict[str, Any]]


class Tap:
    """Tells a listener every output of the selected layers of a model.

    Parameters
    ----------
    model : torch.nn.Module
        Hooks go on the layers, and on the model itself to see where a forward pass begins and ends.
    selection : LayerSelection
        What to listen to.
    listen : callable
        ``listen(site, call, module, value, batch)``: the value is the layer's output, or for a
        site ``"...#in"`` its arguments by name; ``call`` counts the calls of the site in one
        forward pass from 0. What it returns is ignored: an output is never replaced.
    batch_axis : int
        Which axis of the model's inputs runs over the samples.
    strict : bool
        Let an exception of the listener pass into the forward. Otherwise it detaches the tap and
        becomes a :class:`~geomprobe.exceptions.DetachedProbeWarning`.

    Notes
    -----
    Not told are outputs outside a forward pass of the whole model, the recomputations of gradient
    checkpointing, values inside transformations of ``torch.func``, and the passes of other
    observers, which run inside :func:`~geomprobe.hooks.quiet`: a tap attached outside of it does
    not hear them; nor are the passes of ``torch.jit.trace``, nor those that a CUDA graph captures
    or replays. :attr:`unheard` keeps the reasons.
    Copies and pickles of a hooked model carry hooks that do nothing, and that its first pass takes
    off; a copy of a tap is detached. Of passes that several threads make at once, one at a time is
    told. Compiled code calls no hooks, and while a tap is attached to a model with compiled parts,
    whatever ``torch.compile`` has compiled runs eagerly.
    """

    def __init__(
        self,
        model: nn.Module,
        selection: LayerSelection,
        listen: Callable[[str, int, nn.Module, Any, Batch], None],
        *,
        batch_axis: int = 0,
        strict: bool = False,
    ) -> None:
        self._model = unwrap(model)
        self._is_compiled = bool(compiled_parts(model))
        self._selection = selection
        self._listen = listen
        self._batch_axis = batch_axis
        self._strict = strict
        self._hooks: weakref.finalize[..., Tap] | None = None
        self._batch: Batch | None = None
        self._inputs: tuple[Any, Any] | None = None
        self._calls: Counter[str] = Counter()
        self._visits = 0
        self._depth = 0
        self._counted = 0
        self._lock, self._thread = threading.Lock(), 0
        self._phase: str | None = None
        #: Wall time that listening has taken.
        self.seconds = 0.0
        self.passes = 0
        self.samples_seen = 0
        #: What has detached the tap; empty unless something has.
        self.failure = ""
        #: Why calls of a site were not told, by site.
        self.unheard: dict[str, str] = {}

    @property
    def attached(self) -> bool:
        """Whether the hooks are in place."""
        return self._hooks is not None and self._hooks.alive

    def attach(self) -> None:
        """Put the hooks in place; a second call changes nothing.

        Raises
        ------
        TypeError
            The model has compiled parts, and this PyTorch cannot run them eagerly for a while.
        """
        if self.attached:
            return
        if self._is_compiled:
            eager_stance.hold()
        self._visits = visits(self._model)
        me = weakref.ref(self)
        handles = [self._model.register_forward_pre_hook(_Begin(me), with_kwargs=True)]
        for site, module in self._selection.modules.items():
            if split_port(site)[1].startswith("#in"):
                handle = module.register_forward_pre_hook(_Input(me, site), with_kwargs=True)
            else:
                handle = module.register_forward_hook(_Output(me, site))
            handles.append(handle)
        handles.append(self._model.register_forward_hook(_End(me), always_call=True))
        self._hooks = weakref.finalize(self, _take_off, handles, self._is_compiled)
        self._hooks.atexit = False

    def detach(self) -> None:
        """Take the hooks off; a second call changes nothing."""
        self._batch = self._inputs = None
        self._thread = 0
        if self._hooks is not None:
            self._hooks()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has: it is detached, and belongs to the copy of the model."""
        mine = ("_hooks", "_batch", "_inputs", "_lock", "_thread")
        return {name: value for name, value in vars(self).items() if name not in mine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._hooks = self._batch = self._inputs = None
        self._lock, self._thread = threading.Lock(), 0

    def __enter__(self) -> Tap:
        self.attach()
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Name the phase of the passes within, such as ``"sanity check"``."""
        before, self._phase = self._phase, name
        try:
            yield
        finally:
            self._phase = before

    def _begin(self, args: Any, kwargs: Any) -> None:
        started = time.perf_counter()
        if _captured() or not self._hears() or not self._enters():
            return
        if self._batch is not None and _calls_itself(self._model):
            self._depth += 1
            return
        self._calls.clear()
        self._depth = self._counted = 0
        self._inputs = args, kwargs
        phase = self._phase or ("train" if self._model.training else "eval")
        with self._surviving("reading the inputs of the model"):
            size = leading_size(list(leaves((args, kwargs))), self._batch_axis)
            self._batch = Batch(size, self.samples_seen, phase, self._given)
            self.passes += 1
        self.seconds += time.perf_counter() - started

    def _given(self) -> dict[str, Any]:
        return {} if self._inputs is None else arguments(self._model, *self._inputs)

    def _enters(self) -> bool:
        """Whether no other thread is within a pass; hooks keep account of one at a time."""
        with self._lock:
            if self._thread not in (0, threading.get_ident()):
                return False
            self._thread = threading.get_ident()
            return True

    def _hears(self) -> bool:
        """Whether what runs now is a pass to be heard, or a part of one."""
        return not _in_functorch() and self._looks()

    def _looks(self) -> bool:
        """Whether this is no recomputation, tracing, or pass of another observer."""
        if _in_backward() or torch._C._is_tracing():
            return False
        return visits(self._model) == self._visits

    def count(self, samples: int) -> None:
        """Say how many samples the pass under way has, where its inputs do not tell."""
        self._counted = max(self._counted, samples)

    def _end(self) -> None:
        if self._batch is None or _captured() or not self._hears():
            return
        if self._thread != threading.get_ident():
            return
        if self._depth:
            self._depth -= 1
            return
        size = self._batch.size
        self.samples_seen += self._counted if size is None else size
        self._batch = self._inputs = None
        self._thread = 0

    def _tell(self, site: str, module: nn.Module, value: Any) -> None:
        if not self._looks():
            return
        if _in_functorch():
            self.unheard[site] = "called inside torch.func, where values are not data"
            return
        if _captured():
            self.unheard[site] = (
                "called while a CUDA graph is captured, whose replays call no hooks"
            )
            return
        if self._batch is None:
            self.unheard[site] = "called outside a forward pass of the whole model"
            return
        if self._thread != threading.get_ident():
            if site not in self.unheard:
                self.unheard[site] = "called from another thread in the middle of a pass"
                message = f"layer {site!r} is not observed in some passes: {self.unheard[site]}"
                warnings.warn(message, SkippedLayerWarning, stacklevel=3)
            return
        started = time.perf_counter()
        call = self._calls[site]
        self._calls[site] += 1
        with self._surviving(f"observing layer {key_of(site, call)!r}"):
            self._listen(site, call, module, value, self._batch)
            self.seconds += time.perf_counter() - started

    @contextmanager
    def _surviving(self, what: str) -> Iterator[None]:
        """Detach at an exception, and let the forward pass go on."""
        try:
            yield
        except Exception as error:
            self.detach()
            if self._strict:
                raise
            self.failure = f"{what} failed: {type(error).__name__}: {error}"
            message = f"the probe is detached, since {self.failure}"
            warnings.warn(message, DetachedProbeWarning, stacklevel=4)


def _take_off(handles: list[RemovableHandle], is_compiled: bool) -> None:
    for handle in handles:
        handle.remove()
    if is_compiled:
        eager_stance.release()


def _in_backward() -> bool:
    """Whether autograd is running, as it is when checkpointing recomputes a forward."""
    task = getattr(torch._C, "_current_graph_task_id", None)
    return task is not None and task() != -1


def _in_functorch() -> bool:
    """Whether a transformation of torch.func is running, inside which values are not data."""
    stack = getattr(torch._C._functorch, "peek_interpreter_stack", None)
    return stack is not None and stack() is not None


def _captured() -> bool:
    """Whether a CUDA graph is being captured, when nothing has a value yet."""
    there = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return bool(there and torch.cuda.is_current_stream_capturing())


def _calls_itself(model: nn.Module) -> bool:
    """Whether a pass of the model is under way within another one.

    Asked where the last pass has not told its end. It may have been cut off: an interrupt calls no
    hooks.
    """
    passes, frame = 0, sys._getframe()
    while (caller := frame.f_back) is not None:
        frame = caller
        passes += frame.f_code.co_name == "_call_impl" and frame.f_locals.get("self") is model
    return passes > 1


class _Hook:
    """A hook that holds its tap weakly; copied, unpickled or compiled, it does nothing."""

    def __init__(self, tap: Callable[[], Tap | None] = lambda: None, site: str = "") -> None:
        self._tap = tap
        self._site = site

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class _Begin(_Hook):
    # Without kwargs where another hook of a copy has just taken them all off.
    def __call__(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        if torch.compiler.is_compiling():
            return
        if (tap := self._tap()) is not None:
            tap._begin(args, kwargs)
        else:
            _clean(module)


class _Input(_Hook):
    def __call__(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        if not torch.compiler.is_compiling() and (tap := self._tap()) is not None:
            tap._tell(self._site, module, arguments(module, args, kwargs))


class _Output(_Hook):
    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if not torch.compiler.is_compiling() and (tap := self._tap()) is not None:
            tap._tell(self._site, module, output)


class _End(_Hook):
    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if not torch.compiler.is_compiling() and (tap := self._tap()) is not None:
            tap._end()


def _clean(model: nn.Module) -> None:
    """Take the hooks that a copy has got off it; they have no tap."""
    for module in model.modules():
        for name in ("_forward_pre_hooks", "_forward_hooks"):
            hooks = getattr(module, name, {})
            copied = [
                key for key, one in hooks.items() if isinstance(one, _Hook) and one._tap() is None
            ]
            for key in copied:
                for kind in ("", "_with_kwargs", "_always_called"):
                    getattr(module, name + kind, {}).pop(key, None)
