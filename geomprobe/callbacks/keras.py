"""A Monitor as a callback of Keras 3 on PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from geomprobe.callbacks.shell import FrameworkMonitor
from geomprobe.exceptions import needing


class KerasMonitor(FrameworkMonitor):
    """A :class:`~geomprobe.Monitor` as a callback of Keras 3 with the backend ``torch``.

    ::

        watch = KerasMonitor(probe_data=(x_val, y_val))
        model.fit(x, y, callbacks=[watch, EarlyStopping(monitor="geom/...", mode="min")])

    A step is a step of the optimizer, as in ``model.optimizer.iterations``. At the end of an epoch
    the metrics enter its logs, for the history and for callbacks that come later in the list.
    Keras saves no callbacks: keep ``watch.state_dict()`` beside the model, and give it to
    ``load_state_dict`` before ``fit(..., initial_epoch=...)``.

    Layers have their names in Keras, with dots below a layer that has layers: ``block.dense``.
    Keras does not tell a callback of an exception: fit within ``with watch:`` to let go of the
    model then too.

    The parameters are those of :class:`~geomprobe.callbacks.FrameworkMonitor`.

    Raises
    ------
    ValueError
        Keras uses another backend.
    """

    @classmethod
    def _bases(cls) -> tuple[type[Any], ...]:
        with needing("Keras", "keras"):
            import keras
        if keras.backend.backend() != "torch":
            raise ValueError(
                f"Keras runs on {keras.backend.backend()!r}: set the environment variable "
                "KERAS_BACKEND=torch before it is imported"
            )
        return (keras.callbacks.Callback,)

    model: Any
    _layers: Layers | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Wait for the first epoch, which has a number."""
        self._starts = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Make the monitor."""
        if self._starts:
            self._starts, self._steps = False, self._iterations()
            if self._layers is None or self._layers.of[0] is not self.model:
                self._layers = Layers(self.model)
            self._start(self._layers, step=self._steps, epoch=epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the batch if the optimizer has taken a step, with Keras' mean loss so far."""
        if (steps := self._iterations()) != self._steps:
            self._steps = steps
            self._step((logs or {}).get("loss"))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Count the epoch, and put the metrics into the logs."""
        self._epoch_end()
        if logs is not None:
            logs.update(self.metrics)

    def on_train_end(self, logs: Any = None) -> None:
        """Close the monitor."""
        self._close()

    def _iterations(self) -> int:
        return int(self.model.optimizer.iterations)


class Layers(nn.Module):
    """A Keras model as a module whose children are its layers, by their dotted names.

    Keras keeps them in lists, where PyTorch does not see them.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.of = [model]  # In a list, for its own children would be seen as well.
        self._modules.update(_named_layers(model))

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Call the model."""
        return self.of[0](*inputs, **named)


def _named_layers(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for layer in getattr(model, "layers", model._layers):
        yield f"{prefix}{layer.name}", layer
        yield from _named_layers(layer, f"{prefix}{layer.name}.")
