"""A Monitor as a callback of skorch."""

from __future__ import annotations

from typing import Any

from geomprobe.callbacks.shell import FrameworkMonitor, StepCounter
from geomprobe.exceptions import needing


class SkorchMonitor(FrameworkMonitor):
    """A :class:`~geomprobe.Monitor` as a callback of skorch.

    ::

        watch = SkorchMonitor(probe_data=(x_val, y_val), log="geom/*/fc/*")
        net = NeuralNetClassifier(module, callbacks=[("geometry", watch), ...])

    A step is a step of ``net.optimizer_``. At the end of an epoch the metrics are recorded in
    ``net.history``, where ``EarlyStopping(monitor="geom/...")`` finds them if it comes later in the
    list; ``log`` keeps the printed table narrow. A ``Checkpoint(f_geometry="geometry.pt")`` holds
    the state, and a ``LoadInitState`` of it, later in the list, brings it back. (With a ``name``
    that is ``f_<name>``.)

    skorch does not tell a callback of an exception: fit within ``with watch:`` to let go of the
    model then too.

    The parameters are those of :class:`~geomprobe.callbacks.FrameworkMonitor`.
    """

    _counter: StepCounter | None = None

    @classmethod
    def _bases(cls) -> tuple[type[Any], ...]:
        with needing("skorch", "skorch"):
            from skorch.callbacks import Callback
        return (Callback,)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, for ``sklearn.clone``."""
        return {"name": self.name, "part": self.part, "log": self._told, **self.options}

    def set_params(self, **params: Any) -> SkorchMonitor:
        """Set parameters, and forget what has been observed."""
        self.__init__(**{**self.get_params(), **params})  # type: ignore[misc]
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Make the monitor."""
        steps = sum(row.get("train_batch_count", 0) for row in net.history)
        self._start(net.module_, step=steps, epoch=len(net.history), optimizer=net.optimizer_)
        setattr(net, f"{self.name or 'geometry'}_", self)  # Where checkpoints look for f_geometry.
        self._counter = StepCounter(net.optimizer_)

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Count the batch if the optimizer has taken a step."""
        if training and self._counter is not None and self._counter.stepped():
            self._step(kwargs.get("loss"))

    def on_epoch_end(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Count the epoch, and record the metrics."""
        self._epoch_end()
        for name, value in self.metrics.items():
            net.history.record(name, value)

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Close the monitor."""
        self._close()
        self._stop_counting()

    def detach(self) -> None:
        """Let go of the model and of the optimizer."""
        super().detach()
        self._stop_counting()

    def _stop_counting(self) -> None:
        if self._counter is not None:
            self._counter.remove()
            self._counter = None
