"""A Monitor as a callback of the Trainer of Hugging Face transformers."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch

from geomprobe.callbacks.shell import FrameworkMonitor
from geomprobe.exceptions import GeomprobeWarning, needing
from geomprobe.storage import writing_atomically


class TrainerMonitor(FrameworkMonitor):
    """A :class:`~geomprobe.Monitor` as a callback of transformers' ``Trainer``.

    ::

        watch = TrainerMonitor(probe_data=batches, every="50 steps").attach(trainer)
        trainer.train()

    A step is a step of the optimizer. What is new at the end of an epoch or at an evaluation goes
    to the log history and the reporters, by ``trainer.log``. An evaluation finds every metric as
    ``eval_geom/...``, for ``metric_for_best_model`` and ``EarlyStoppingCallback``. The trainer's
    checkpoints hold the state, as a file ``geomprobe.pt`` of tensors and plain types. Transformers
    tells no callback of an exception: train within ``with watch:`` to let go of the model then too.

    The parameters are those of :class:`~geomprobe.callbacks.FrameworkMonitor`.
    """

    _trainer: Any = None
    _training = False

    @classmethod
    def _bases(cls) -> tuple[type[Any], ...]:
        with needing("transformers", "hf"):
            from transformers import TrainerCallback
        return (TrainerCallback,)

    def attach(self, trainer: Any) -> TrainerMonitor:
        """Become the first callback of a trainer, before those that look at the metrics.

        Raises
        ------
        ValueError
            The trainer has another one of the same name.
        """
        callbacks = trainer.callback_handler.callbacks
        if any(isinstance(c, TrainerMonitor) and c.name == self.name for c in callbacks):
            raise ValueError(f"the trainer has a TrainerMonitor named {self.name!r}: give a name")
        callbacks.insert(0, self)
        self._trainer = trainer
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make the monitor, from its state in the checkpoint if there is one."""
        steps, file = state.global_step, self._file(args, state)
        if steps and file.exists():
            self.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        elif steps:
            message = f"{file} is not there: the monitor goes on at step {steps} without its past"
            warnings.warn(message, GeomprobeWarning, stacklevel=2)
        model, optimizer, self._training = kwargs["model"], kwargs["optimizer"], True
        self._start(model, step=steps, epoch=int(state.epoch or 0), optimizer=optimizer)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count a step of the optimizer, with the loss that was last logged."""
        logged = (row["loss"] for row in reversed(state.log_history) if "loss" in row)
        self._step(next(logged, None))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the epoch, and log what is new."""
        if self._epoch_end():
            self._tell(control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the metrics beside those of an evaluation within the training."""
        if not self._training:
            return
        if self._take_up():
            self._tell(control)
        metrics = kwargs["metrics"]
        metrics.update({f"eval_{name}": value for name, value in self.metrics.items()})
        best = (args.metric_for_best_model or "").removeprefix("eval_")
        if best.startswith(f"{self._prefix}geom/"):
            metrics.setdefault(f"eval_{best}", math.nan)  # The Trainer raises where it is missing.

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the state into the checkpoint."""
        if not state.is_world_process_zero:
            return
        file = self._file(args, state)
        try:
            file.parent.resolve(strict=True)  # A search of hyper-parameters saves elsewhere.
            with writing_atomically(file) as unfinished:
                torch.save(self.state_dict(), unfinished)
        except (OSError, RuntimeError) as error:  # RuntimeError is what torch says of a full disk.
            warnings.warn(
                f"a checkpoint without the monitor: {error}", GeomprobeWarning, stacklevel=2
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the monitor."""
        self._close()
        self._training = False

    def _tell(self, control: Any) -> None:
        if self._trainer is not None:
            due = control.should_log
            self._trainer.log(dict(self.metrics))
            control.should_log = due  # Logging has reset it.

    def _file(self, args: Any, state: Any) -> Path:
        name = f"geomprobe-{self.name}.pt" if self.name else "geomprobe.pt"
        return Path(args.output_dir, f"checkpoint-{state.global_step}", name)
