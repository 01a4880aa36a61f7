"""Training to a criterion, and the iterates after it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from geomprobe.clouds import Trajectory
from geomprobe.diagnostics.trained import classes_of, outputs_of
from geomprobe.evidence import Samples, forward
from geomprobe.sampling import TrajectoryRecorder
from geomprobe.zoos.protocol import After, Stop
from geomprobe.zoos.task import Task

#: Hyper-parameters of training, with what they are where a protocol does not say.
TRAINING: dict[str, Any] = {
    "lr": None,
    "batch_size": None,
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 0.0,
    "label_noise": 0.0,
    "adversarial_init": False,
}


@dataclass(eq=False)
class Training:
    """The training of one model, which can go on after it has converged.

    Parameters
    ----------
    task : Task
        Its model is trained in place.
    settings : mapping
        Hyper-parameters; those in :data:`TRAINING` count.
    seed : int
        Of the order of the samples, of label noise, and of augmentation. Dropout draws from the
        global stream.

    Raises
    ------
    ValueError
        No ``lr`` or ``batch_size``, an unknown optimizer, or a label noise outside [0, 1).
    """

    task: Task
    settings: Mapping[str, Any]
    seed: int

    def __post_init__(self) -> None:
        chosen = {**TRAINING, **{k: v for k, v in self.settings.items() if k in TRAINING}}
        if chosen["lr"] is None or chosen["batch_size"] is None:
            raise ValueError("a protocol must say lr and batch_size, as an axis or fixed")
        if not 0 <= chosen["label_noise"] < 1:
            raise ValueError(f"label_noise must lie in [0, 1), got {chosen['label_noise']}")
        self._chosen = chosen
        self._generator = torch.Generator().manual_seed(self.seed)
        self.steps = 0
        self.train = self._noisy(self.task.train)
        if chosen["adversarial_init"]:
            self._learn_shuffled_labels()
        #: The parameters before training on the labels.
        self.initial = copy.deepcopy(self.task.model.state_dict())
        self._batches = self._steps(self.train)

    def until(self, stop: Stop) -> str:
        """Train until the criterion is met; return why not, or nothing."""
        epoch = math.ceil(len(self.train) / self._chosen["batch_size"])
        if stop.epochs is not None:
            return self._look_after(stop.epochs * epoch)[2]
        noisy = self._chosen["label_noise"] > 0
        target = stop.noisy_cross_entropy if noisy else stop.cross_entropy
        between = max(epoch, stop.between_checks)
        loss = math.nan
        while self.steps < stop.steps:
            loss, error, reason = self._look_after(min(between, stop.steps - self.steps))
            if reason:
                return reason
            if loss <= target or (noisy and error == 0):
                return ""
        return f"cross-entropy {loss:.3g} after {self.steps} steps, above {target:g}"

    def _look_after(self, steps: int) -> tuple[float, float, str]:
        """Train on, and return cross-entropy, error, and whether that went wrong."""
        for _ in range(steps):
            next(self._batches)
            self.steps += 1
        loss, error = self.fit(self.train)
        finite = math.isfinite(loss)
        return loss, error, "" if finite else f"the loss was not finite after {self.steps} steps"

    def fit(self, data: Samples) -> tuple[float, float]:
        """Return cross-entropy and error on some data, in evaluation mode."""
        outputs, classes = outputs_of(self.task.model, data), classes_of(data)
        error = float((outputs.argmax(1) != classes).double().mean())
        return float(functional.cross_entropy(outputs, classes)), error

    def further(self, after: After) -> Trajectory | None:
        """Train on as before, and return the iterates with the losses of some training samples."""
        if not after.iterates:
            return None
        model = self.task.model
        recorder = TrajectoryRecorder(
            model, dim=after.dimension, points=after.iterates, seed=self.seed
        )
        some = self.train.take(slice(0, after.samples))
        classes, losses, right = classes_of(some), [], []
        for step in range(after.iterates):
            recorder.record(step, next(self._batches))
            outputs = outputs_of(model, some)
            losses.append(functional.cross_entropy(outputs, classes, reduction="none"))
            right.append(outputs.argmax(1) == classes)
        path = recorder.trajectory
        assert path is not None
        return replace(
            path,
            sample_losses=torch.stack(losses).numpy(),
            sample_correct=torch.stack(right).numpy(),
        )

    def _steps(self, data: Samples) -> Iterator[float]:
        """Yield the loss of each step, without end."""
        model, size = self.task.model, self._chosen["batch_size"]
        optimizer = self._optimizer()
        while True:
            order = torch.randperm(len(data), generator=self._generator)
            for rows in torch.split(order, size):
                batch = data.take(rows)
                inputs = batch.inputs
                if self.task.augmented and self.task.augment is not None:
                    inputs = self.task.augment(inputs, self._generator)
                model.train()
                loss = functional.cross_entropy(forward(model, inputs), classes_of(batch))
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                model.eval()
                yield loss.item()

    def _optimizer(self) -> torch.optim.Optimizer:
        chosen, parameters = self._chosen, self.task.model.parameters()
        if chosen["optimizer"] == "sgd":
            return torch.optim.SGD(
                parameters,
                lr=chosen["lr"],
                momentum=chosen["momentum"],
                weight_decay=chosen["weight_decay"],
            )
        if chosen["optimizer"] == "adam":
            return torch.optim.Adam(
                parameters, lr=chosen["lr"], weight_decay=chosen["weight_decay"]
            )
        raise ValueError(f'optimizer must be "sgd" or "adam", got {chosen["optimizer"]!r}')

    def _noisy(self, data: Samples) -> Samples:
        """Give a share of the samples, chosen at random, another class each."""
        targets = classes_of(data).clone()
        classes = int(targets.max()) + 1
        n = round(self._chosen["label_noise"] * len(data))
        rows = torch.randperm(len(data), generator=self._generator)[:n]
        change = torch.randint(1, classes, (n,), generator=self._generator)
        targets[rows] = (targets[rows] + change.to(targets)) % classes
        return Samples(data.inputs, targets)

    def _learn_shuffled_labels(self) -> None:
        data = self.task.train
        order = torch.randperm(len(data), generator=self._generator)
        data = Samples(data.inputs, classes_of(data)[order])
        batches, epoch = self._steps(data), math.ceil(len(data) / self._chosen["batch_size"])
        for _ in range(ADVERSARIAL_STEPS // max(epoch, 20)):
            for _ in range(max(epoch, 20)):
                next(batches)
            if self.fit(data)[1] == 0:
                return
        raise RuntimeError(
            f"the shuffled labels of an adversarial start were not learned in {ADVERSARIAL_STEPS} "
            "steps"
        )


#: The most steps on shuffled labels.
ADVERSARIAL_STEPS = 20_000


def gaps(training: Training, test: Samples) -> dict[str, float]:
    """Return the gap in error and in cross-entropy, and that in error on each half of the test set.

    Parameters
    ----------
    training : Training
    test : Samples
    """
    outputs, classes = outputs_of(training.task.model, test), classes_of(test)
    wrong = (outputs.argmax(1) != classes).double()
    loss = float(functional.cross_entropy(outputs, classes))
    train_loss, train_error = training.fit(training.train)
    half = len(wrong) // 2
    return {
        "gap": float(wrong.mean()) - train_error,
        "gap_half_1": float(wrong[:half].mean()) - train_error,
        "gap_half_2": float(wrong[half:].mean()) - train_error,
        "gap_cross_entropy": loss - train_loss,
        "test_error": float(wrong.mean()),
        "test_samples": len(test),
    }
