"""A Monitor that is attached to an Engine of Ignite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from geomprobe.callbacks.shell import FrameworkMonitor, StepCounter
from geomprobe.exceptions import needing


class IgniteMonitor(FrameworkMonitor):
    """A :class:`~geomprobe.Monitor` attached to the trainer of Ignite.

    ::

        watch = IgniteMonitor(probe_data=(x_val, y_val)).attach(trainer, model, optimizer)
        checkpoint = Checkpoint({"model": model, "geometry": watch}, ...)

    A step is a step of the optimizer. At the end of an epoch the metrics are in
    ``trainer.state.metrics``, for loggers, ``EarlyStopping`` and the ``score_function`` of a
    ``Checkpoint`` whose handlers are attached later. It has ``state_dict`` and ``load_state_dict``
    for ``to_save`` and ``Checkpoint.load_objects``.

    The parameters are those of :class:`~geomprobe.callbacks.FrameworkMonitor`.
    """

    @classmethod
    def _bases(cls) -> tuple[type[Any], ...]:
        with needing("ignite", "ignite"):
            import ignite.engine  # noqa: F401
        return ()

    def attach(
        self,
        engine: Any,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        loss: Callable[[Any], Any] = lambda output: output,
    ) -> IgniteMonitor:
        """Add the handlers to a trainer.

        Parameters
        ----------
        engine : ignite.engine.Engine
            The trainer.
        model : torch.nn.Module
            What it trains.
        optimizer : torch.optim.Optimizer
            Whose steps count.
        loss : callable
            Returns the loss from ``engine.state.output``.

        Returns
        -------
        IgniteMonitor
            Itself.
        """
        from ignite.engine import Events

        counter = StepCounter(optimizer)

        def start(engine: Any) -> None:
            counter.stepped()
            state = engine.state
            self._start(model, step=state.iteration, epoch=state.epoch, optimizer=optimizer)

        def step(engine: Any) -> None:
            if counter.stepped():
                self._step(loss(engine.state.output))

        def epoch_end(engine: Any) -> None:
            self._epoch_end()
            engine.state.metrics.update(self.metrics)

        def close(engine: Any) -> None:
            self._close()

        engine.add_event_handler(Events.STARTED, start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, epoch_end)
        engine.add_event_handler(Events.COMPLETED, close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._let_go)
        return self

    def _let_go(self, engine: Any, error: BaseException) -> None:
        """Detach; and raise the exception, as Ignite does where nobody has a handler for it."""
        from ignite.engine import Events

        self.detach()
        handlers = [entry[0] for entry in engine._event_handlers[Events.EXCEPTION_RAISED]]
        owners = [getattr(handler, "__self__", None) for handler in handlers]
        if owners[-1] is self and all(isinstance(owner, IgniteMonitor) for owner in owners):
            raise error
