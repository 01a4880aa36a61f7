"""What the callbacks for training frameworks share: a Monitor that lives as long as a training."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import nn

from geomprobe.callbacks.monitor import Monitor
from geomprobe.exceptions import DetachedProbeWarning
from geomprobe.hooks.optimizers import unwrap_optimizer
from geomprobe.hooks.patterns import matcher
from geomprobe.hooks.selection import unwrap

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class FrameworkMonitor:
    """A :class:`~geomprobe.Monitor` as a callback of a training framework.

    The monitor is made when the training begins, of the model that is trained, and is there as
    ``monitor``. Whatever the monitor does, the training goes on; ``strict=True`` raises.

    Parameters
    ----------
    probe_data
        See :class:`~geomprobe.Monitor`.
    name : str
        Tells several in one training apart: in checkpoints, and before the names of their metrics,
        as in ``name/geom/...``.
    part : str
        Name of the submodule to watch, as if it were the whole model: where a training step calls
        not the model itself, but ``self.net(x)``, it is ``"net"``.
    log : str or sequence of str
        Which metrics the framework is told of: names, globs, or ``re:...``. All are in
        ``monitor.history`` and go to its ``sinks``.
    **options
        Those of :class:`~geomprobe.Monitor`. Steps and epochs are counted by the framework.

    Attributes
    ----------
    monitor : Monitor or None
        Of the training that is under way, or was last.
    metrics : dict of str to float
        What the framework has been told: the latest finite value of each metric.

    Raises
    ------
    ImportError
        The framework is missing; the message names the extra to install.
    TypeError
        An option that a Monitor does not have.
    ValueError
        A name that no file could have.
    """

    _plain: ClassVar[type[Any]]

    def __new__(
        cls,
        probe_data: Any = None,
        *,
        name: str = "",
        part: str = "",
        log: str | Sequence[str] = "*",
        **options: Any,
    ) -> Self:
        """Make one that is also a callback of the framework, which is imported now."""
        missing = tuple(base for base in cls._bases() if not issubclass(cls, base))
        joined: type[Self] = _joined(cls, missing) if missing else cls
        return object.__new__(joined)

    def __init__(
        self,
        probe_data: Any = None,
        *,
        name: str = "",
        part: str = "",
        log: str | Sequence[str] = "*",
        **options: Any,
    ) -> None:
        super().__init__()
        if "steps_per_epoch" in options:
            raise TypeError("the framework counts the epochs: leave steps_per_epoch out")
        signature(Monitor).bind(None, probe_data, **options)
        if not re.fullmatch(r"[\w.-]*", name):
            raise ValueError(f"name must be of letters, digits, '_', '-' and '.', got {name!r}")
        self.name, self.part = name, part
        self.options = {"probe_data": probe_data, **options}
        self.monitor: Monitor | None = None
        self.metrics: dict[str, float] = {}
        self._told = log
        _matchers(log)
        self._prefix = f"{name}/" if name else ""
        self._state: Mapping[str, Any] | None = None
        self._watching, self._taken_up = False, 0

    @classmethod
    def _bases(cls) -> tuple[type[Any], ...]:
        """Return the framework's classes of callbacks."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        plain = getattr(type(self), "_plain", type(self))
        return plain.__new__, (plain,), vars(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def detach(self) -> None:
        """Let go of the model, of workers and of sinks, as after a training that has failed."""
        self._ask(Monitor.detach)
        self._watching = False

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the monitor, as :meth:`Monitor.state_dict` does; empty before it."""
        if self._state is not None:
            return dict(self._state)
        return self._ask(Monitor.state_dict, always=True) or {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: at once during a training, or else when one begins."""
        if not state:
            return
        if self._watching and self.monitor is not None:
            self.monitor.load_state_dict(state)
            self._taken_up = 0
        else:
            self._state = state

    # --- what the frameworks' hooks call ----------------------------------------------------------

    def _start(self, model: nn.Module, *, step: int = 0, epoch: int = 0, **found: Any) -> None:
        """Make the monitor of a model.

        It goes on from the state that was loaded; or, with the same model as before, from the
        monitor before; or else from the steps and epochs that the framework has counted.
        """
        if self.part:
            model = unwrap(model).get_submodule(self.part)
        state, before = self._state, self.monitor
        if before is not None:
            before.detach()
            if state is None and before.model is unwrap(model):
                state = before.state_dict()
        self.monitor = Monitor(model, **{**found, **self.options})
        if state is None and step:
            state = {**self.monitor.state_dict(), "cadence": {"steps": step, "epochs": epoch}}
        if state is not None:
            self.monitor.load_state_dict(state)
        self._state, self._watching, self._taken_up, self.metrics = None, True, 0, {}
        # A checkpoint of the last step of an epoch is written before the epoch's end is told.
        for _ in range(epoch - self.monitor.state_dict()["cadence"]["epochs"]):
            self._ask(Monitor.epoch_end)

    def _step(self, loss: Any = None) -> None:
        """Say that the optimizer has taken a step."""
        is_scalar = isinstance(loss, int | float) or (
            isinstance(loss, torch.Tensor) and loss.numel() == 1
        )
        self._ask(lambda monitor: monitor.step(loss if is_scalar else None))

    def _epoch_end(self) -> bool:
        """Say that an epoch has ended; see :meth:`_take_up`."""
        self._ask(Monitor.epoch_end)
        return self._take_up()

    def _take_up(self) -> bool:
        """Wait for what is being analyzed, update the metrics, and tell whether there is news."""
        news = self._ask(lambda monitor: monitor.history[self._taken_up :]) or ()
        told = _matchers(self._told)
        for record in news:
            for name, value in record.values.items():
                if any(matches(name) for matches in told):
                    self.metrics[self._prefix + name] = value
        self._taken_up += len(news)
        return len(news) > 0

    def _close(self) -> None:
        """Say that the training has ended as it should."""
        self._ask(Monitor.close)
        self._watching = False

    def _ask(self, what: Callable[[Monitor], T], *, always: bool = False) -> T | None:
        """Ask something of the monitor while it watches, or ``always``; failing ends that."""
        if self.monitor is None or not (self._watching or always):
            return None
        try:
            return what(self.monitor)
        except Exception as error:
            if self.options.get("strict"):
                raise
            self._watching = False
            with suppress(Exception):
                self.monitor.detach()
            warnings.warn(
                f"the training is watched no longer: {type(error).__name__}: {error}",
                DetachedProbeWarning,
                stacklevel=4,
            )
            return None


def _matchers(patterns: str | Sequence[str]) -> list[Callable[[str], bool]]:
    return list(map(matcher, [patterns] if isinstance(patterns, str) else patterns))


_JOINED: dict[tuple[type[Any], ...], type[Any]] = {}


def _joined(plain: type[Any], bases: tuple[type[Any], ...]) -> type[Any]:
    """Return the class that is also a callback of its framework, the same at every call."""
    parents = (plain, *bases)
    if parents not in _JOINED:
        facts = {"__module__": plain.__module__, "__doc__": plain.__doc__, "_plain": plain}
        _JOINED[parents] = type(plain.__name__, parents, facts)
    return _JOINED[parents]


class StepCounter:
    """Tells whether an optimizer has taken a step, whatever the loop around it does.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._taken = False
        self._handle = unwrap_optimizer(optimizer).register_step_post_hook(self._count)

    def _count(self, *_: Any) -> None:
        self._taken = True

    def stepped(self) -> bool:
        """Whether it has taken a step since this was last asked."""
        taken, self._taken = self._taken, False
        return taken

    def remove(self) -> None:
        """Count no longer."""
        self._handle.remove()
