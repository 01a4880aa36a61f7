"""A Monitor as a callback of Lightning: ``lightning.pytorch`` or ``pytorch_lightning``."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import torch

from geomprobe.callbacks.shell import FrameworkMonitor
from geomprobe.exceptions import needing

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


class LightningMonitor(FrameworkMonitor):
    """A :class:`~geomprobe.Monitor` as a callback of Lightning.

    ::

        watch = LightningMonitor(probe_data=(x_val, y_val), every="1 epoch")
        trainer = Trainer(callbacks=[watch, EarlyStopping(monitor="geom/...")])

    It serves ``lightning.pytorch`` and ``pytorch_lightning``, whichever is in use. A step is a step
    of the optimizers, as in ``trainer.global_step``; the sanity check is not seen. At the end of an
    epoch what is new is logged by ``log_dict``, so that loggers, ``EarlyStopping`` and
    ``ModelCheckpoint`` find it. Checkpoints hold its state. Two in one trainer need a ``name``.

    The parameters are those of :class:`~geomprobe.callbacks.FrameworkMonitor`. The model is the
    LightningModule; one that has no ``forward``, or whose steps do not call it as ``self(x)``,
    takes ``part="net"`` for what it calls.
    """

    @classmethod
    def _bases(cls) -> tuple[type[Any], ...]:
        if not any(map(sys.modules.get, _PACKAGES)):
            with needing("Lightning", "lightning"):
                try:
                    import_module("lightning.pytorch")
                except ModuleNotFoundError:
                    import_module("pytorch_lightning")
        loaded = filter(None, map(sys.modules.get, _PACKAGES))
        return tuple(package.Callback for package in loaded)

    @property
    def state_key(self) -> str:
        """Under which checkpoints hold the state."""
        return f"geomprobe.LightningMonitor{{'name': {self.name!r}}}"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the monitor: the checkpoint has been read and the sanity check is over."""
        self._steps = trainer.global_step
        optimizer = trainer.optimizers[0] if len(trainer.optimizers) == 1 else None
        self._start(pl_module, step=self._steps, epoch=trainer.current_epoch, optimizer=optimizer)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch if an optimizer has taken a step."""
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, torch.Tensor):
            loss = loss * trainer.accumulate_grad_batches  # Lightning has divided by it.
        self._step(loss)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Count the epoch, and log what is new."""
        if self._epoch_end():
            # Every process has the same values; the mean of these says so to Lightning.
            pl_module.log_dict(self.metrics, sync_dist=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the monitor."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Let go of the model."""
        self.detach()
