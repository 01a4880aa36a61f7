"""Evidence: all that has been collected about one model at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from geomprobe.clouds import CloudSet, Trajectory

Loss = Callable[[Any, Any], torch.Tensor]
T = TypeVar("T")

#: Why an analyzer that takes gradients has nothing to say without a loss.
NO_LOSS = "there is no loss to differentiate: pass loss=, the one the model was trained with"
#: What an analyzer can ask for.
NEEDS = frozenset({"activations", "trajectory", "model", "data", "optimizer", "others"})


def forward(model: Callable[..., Any], inputs: Any) -> Any:
    """Call a model on a batch: a mapping as keywords, a tuple or list as arguments."""
    if isinstance(inputs, dict):
        return model(**inputs)
    if isinstance(inputs, tuple | list):
        return model(*inputs)
    return model(inputs)


def leading_size(tree: Any, axis: int = 0) -> int | None:
    """Return the number of samples in a batch: the size of its first tensor along an axis.

    A packed sequence has as many samples as sequences. None where there is no tensor.
    """
    for leaf in pytree.tree_leaves(tree, is_leaf=lambda node: isinstance(node, PackedSequence)):
        if isinstance(leaf, PackedSequence):
            return int(leaf.batch_sizes[0])
        if isinstance(leaf, torch.Tensor) and leaf.ndim > axis:
            return int(leaf.size(axis))
    return None


@dataclass(frozen=True)
class Samples:
    """Inputs and targets kept for passes of an analyzer's own.

    Parameters
    ----------
    inputs : tensor, or a tuple, list or dict of tensors
        All with the samples along the first axis; given to the model as :func:`forward` does.
    targets : tensor, optional
        One entry a sample.
    ids : tensor, optional
        Which sample of the stream each one is.
    """

    inputs: Any
    targets: torch.Tensor | None = None
    ids: torch.Tensor | None = None

    def __len__(self) -> int:
        return leading_size(self.inputs) or 0

    def take(self, rows: Any) -> Samples:
        """Return a copy of the samples of the given rows (slice, indices or mask).

        A model that works in place on its inputs then changes nobody's.
        """
        view = isinstance(rows, slice)

        def rows_of(leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor) or not leaf.ndim:
                return leaf
            return leaf[rows].clone() if view else leaf[rows]

        return Samples(*(pytree.tree_map(rows_of, part) for part in self.parts))

    def to(self, device: torch.device | str) -> Samples:
        """Return the samples on a device."""

        def move(leaf: Any) -> Any:
            return leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf

        return Samples(*(pytree.tree_map(move, part) for part in self.parts))

    def batches(self, size: int) -> Iterator[Samples]:
        """Yield the samples in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    @property
    def parts(self) -> tuple[Any, torch.Tensor | None, torch.Tensor | None]:
        """Inputs, targets and ids."""
        return self.inputs, self.targets, self.ids


def require_samples(data: Any, *, targets: bool = False) -> None:
    """Raise unless data are samples of tensors.

    Parameters
    ----------
    data
        What was given.
    targets : bool
        Whether there must be targets as well.

    Raises
    ------
    TypeError
        Something else, such as a loader, or a part of them that is no tensor.
    ValueError
        No samples, or no targets.
    """
    if not isinstance(data, Samples):
        raise TypeError(
            f"data must be Samples(inputs, targets) of tensors, got {type(data).__name__}; of a "
            "loader take the batches of a pass, joined by torch.cat"
        )
    for title, part in (("inputs", data.inputs), ("targets", data.targets)):
        arrays = any(isinstance(leaf, np.ndarray) for leaf in pytree.tree_leaves(part))
        if arrays or (part is not None and leading_size(part) is None):
            kind = "ndarray" if arrays else type(part).__name__
            raise TypeError(
                f"{title} must be tensors with the samples first, got {kind}; torch.as_tensor "
                "makes one of an array"
            )
    if len(data) == 0:
        raise ValueError("data holds no samples")
    if targets and data.targets is None:
        raise ValueError("targets are needed; give Samples(inputs, targets)")


def require_loss(loss: Any) -> None:
    """Raise a TypeError unless a loss is a callable, or there is none."""
    if loss is not None and not callable(loss):
        raise TypeError(
            "loss must be a callable of outputs and targets, such as "
            f"torch.nn.functional.cross_entropy, got {loss!r}"
        )


def require_counts(least: int, **values: Any) -> None:
    """Raise for the first of the values that is no whole number from ``least`` on, nor None.

    Raises
    ------
    TypeError
        It is no whole number: a text, or a float, even one without a fraction.
    ValueError
        It is too small.
    """
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(f"{name} must be a whole number such as {least + 9}, got {value!r}")
        if int(value) < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class Earlier:
    """A model as it was at a former moment.

    Parameters
    ----------
    state : mapping of str to tensor
        Its ``state_dict``.
    step : int
        The optimizer step.
    """

    state: Mapping[str, torch.Tensor]
    step: int


@dataclass(frozen=True)
class Evidence:
    """What analyzers look at. Every part may be missing; :attr:`available` says which are there.

    Parameters
    ----------
    clouds : CloudSet
        Activation clouds by layer.
    trajectory : Trajectory, optional
        The path of the parameters so far.
    model : torch.nn.Module, optional
        The model itself. Analyzers must leave it as they found it.
    data : Samples, optional
        Inputs, and targets where known, for passes of an analyzer's own.
    loss : callable, optional
        ``loss(outputs, targets)``, as in training.
    step : int, optional
        Optimizer step at which the evidence was collected.
    n_train : int, optional
        Number of training samples, for what depends on it (effective dimension).
    earlier : Earlier, optional
        The model at the observation before, for analyzers whose ``looks_back`` is true.
    optimizer : torch.optim.Optimizer, optional
        That of the model's parameters, as it is now.
    others : mapping of str to torch.nn.Module
        Other models by name, for what lies between them and the model. Left as they were, too.
    seed : int
        Seed of every random choice an analyzer makes.
    """

    clouds: CloudSet = field(default_factory=CloudSet)
    trajectory: Trajectory | None = None
    model: nn.Module | None = None
    data: Samples | None = None
    loss: Loss | None = None
    step: int | None = None
    n_train: int | None = None
    earlier: Earlier | None = None
    optimizer: torch.optim.Optimizer | None = None
    others: Mapping[str, nn.Module] = field(default_factory=dict)
    seed: int = 0
    _shared: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def available(self) -> frozenset[str]:
        """Which of :data:`NEEDS` this evidence can serve."""
        there = {
            "activations": len(self.clouds) > 0,
            "trajectory": self.trajectory is not None,
            "model": self.model is not None,
            "data": self.data is not None and len(self.data) > 0,
            "optimizer": self.optimizer is not None,
            "others": len(self.others) > 0,
        }
        return frozenset(need for need, is_there in there.items() if is_there)

    def at_most(self, count: int | None) -> tuple[Samples, str]:
        """Return the data, or so many samples of them drawn at random, and a note that says so."""
        assert self.data is not None
        there = len(self.data)
        if count is None or there <= count:
            return self.data, ""
        rows = np.sort(np.random.default_rng(self.seed).choice(there, count, replace=False))
        note = f"A uniform sample of {count} of {there} inputs."
        return self.data.take(torch.from_numpy(rows)), note

    def shared(self, key: Any, compute: Callable[[], T]) -> T:
        """Compute something once for all analyzers of this evidence.

        ``key`` must name the computation and everything it depends on besides the evidence.
        """
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]  # type: ignore[no-any-return]
