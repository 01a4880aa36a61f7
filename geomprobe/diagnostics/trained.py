"""A trained classifier with what its measures are taken from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from geomprobe.clouds import Trajectory
from geomprobe.diagnostics.layers import entering_last_layer
from geomprobe.evidence import Samples, forward
from geomprobe.hooks import quiet

#: Gives other inputs of the same classes; all that is random is drawn from the generator.
Augment = Callable[[Tensor, torch.Generator], Tensor]
_BATCH = 1024


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A classifier after its training. Nothing here knows of test data.

    Parameters
    ----------
    model : torch.nn.Module
        Of outputs of shape (n, classes); left as it was by every measure.
    train : Samples
        Training inputs, and their classes as the model was shown them.
    initial : mapping of str to Tensor, optional
        The ``state_dict`` before training.
    trajectory : Trajectory, optional
        Iterates after convergence, with losses of training samples.
    hyperparameters : mapping of str to number
        ``lr``, ``batch_size`` and ``steps``, as far as known.
    augment : callable, optional
        ``augment(inputs, generator)`` gives other inputs of the same classes.
    seed : int
        Of every random choice that a measure makes.

    Raises
    ------
    ValueError
        Targets are not one class a sample.
    """

    model: nn.Module
    train: Samples
    initial: Mapping[str, Tensor] | None = None
    trajectory: Trajectory | None = None
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    augment: Augment | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        classes_of(self.train)

    @property
    def classes(self) -> Tensor:
        """Class of each training sample."""
        return classes_of(self.train)

    @cached_property
    def outputs(self) -> Tensor:
        """Outputs on the training samples in evaluation mode, float64 of shape (n, classes)."""
        return outputs_of(self.model, self.train)

    @cached_property
    def features(self) -> tuple[Tensor, nn.Linear]:
        """What enters the last linear layer, of shape (n, d), and that layer."""
        return entering_last_layer(self.model, self.train)


def outputs_of(model: nn.Module, data: Samples) -> Tensor:
    """Return outputs in evaluation mode, float64 of shape (n, classes); the model stays as it was.

    Raises
    ------
    ValueError
        Outputs of another shape.
    """
    with quiet(model), torch.no_grad():
        parts = [forward(model, batch.inputs) for batch in data.batches(_BATCH)]
    outputs = torch.cat(parts).double()
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"expected outputs of shape (n, classes), got {tuple(outputs.shape)}: measures of this "
            "kind are those of classifiers"
        )
    return outputs


def classes_of(data: Samples) -> Tensor:
    """Return the class of each sample.

    Raises
    ------
    ValueError
        Targets are not one class a sample.
    """
    classes = data.targets
    if classes is None or classes.shape != (len(data),) or classes.is_floating_point():
        found = None if classes is None else (classes.dtype, tuple(classes.shape))
        raise ValueError(f"expected one class a sample as targets, got {found}")
    return classes
