"""What is trained: a model, and its data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from geomprobe.diagnostics.trained import Augment, classes_of
from geomprobe.evidence import Samples


@dataclass(frozen=True, eq=False)
class Task:
    """What the callable that a protocol names returns.

    Parameters
    ----------
    model : torch.nn.Module
        A classifier of outputs (n, classes), with its initial parameters.
    train, test : Samples
        Inputs and classes. The training set should be the same for all models of a zoo.
    augment : callable, optional
        ``augment(inputs, generator)`` gives other inputs of the same classes.
    augmented : bool
        Whether batches are augmented in training.

    Raises
    ------
    TypeError
        Something else.
    ValueError
        Samples without classes, or augmented training without an augmentation.
    """

    model: nn.Module
    train: Samples
    test: Samples
    augment: Augment | None = None
    augmented: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(self.model).__name__}")
        for name in ("train", "test"):
            samples = getattr(self, name)
            if not isinstance(samples, Samples):
                raise TypeError(f"{name} must be Samples(inputs, classes), got {samples!r:.80}")
            classes_of(samples)
        if self.augmented and self.augment is None:
            raise ValueError("augmented training needs an augmentation")
