"""The mean loss of a model over data, as a function of its trainable parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from geomprobe.evidence import Loss, Samples, forward, require_samples
from geomprobe.hooks import quiet
from geomprobe.jacobians import Parameters, row_dtype, trainable_parameters

#: Samples of a pass, by default.
LARGEST_PASS = 256


@dataclass(frozen=True, eq=False)
class Objective:
    """A model, data and a loss that is the mean over samples; made by :func:`objective_of`.

    Parameters
    ----------
    model : torch.nn.Module
    data : Samples
        On the model's device.
    loss : callable
    parameters : dict of str to Tensor
        Those that require gradients, each once, copied as they were.
    batch_size : int
    """

    model: nn.Module
    data: Samples
    loss: Loss
    parameters: Parameters
    batch_size: int

    @property
    def dimension(self) -> int:
        """Number of trainable parameters, p."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def dtype(self) -> torch.dtype:
        """Of flat vectors: that of the parameters, and float32 at least."""
        return row_dtype(self.parameters)

    @cached_property
    def start(self) -> Tensor:
        """The parameters as they were, flat."""
        return self.flat(list(self.parameters.values()))

    def flat(self, values: Sequence[Tensor | None]) -> Tensor:
        """Return one vector of shape (p,); None counts as zeros."""
        pairs = zip(values, self.parameters.values(), strict=True)
        parts = [torch.zeros_like(own) if value is None else value for value, own in pairs]
        return torch.cat([part.reshape(-1).to(self.dtype) for part in parts])

    def split(self, vector: Tensor) -> list[Tensor]:
        """Return a vector of shape (p,) as tensors like the parameters."""
        owned = list(self.parameters.values())
        parts = torch.split(vector, [parameter.numel() for parameter in owned])
        return [part.view_as(own).to(own) for part, own in zip(parts, owned, strict=True)]

    def batches(self) -> Iterator[tuple[float, Samples]]:
        """Yield the samples some at a time, each with its share of all."""
        for batch in self.data.batches(self.batch_size):
            yield len(batch) / len(self.data), batch

    def outputs(self, values: Sequence[Tensor], batch: Samples) -> Any:
        """Return the model's outputs at other parameters."""
        named = dict(zip(self.parameters, values, strict=True))

        def call(*args: Any, **kwargs: Any) -> Any:
            return functional_call(self.model, named, args, kwargs)

        return forward(call, batch.inputs)

    def value(self, values: Sequence[Tensor], batch: Samples) -> Tensor:
        """Return the mean loss over a batch."""
        return self.loss(self.outputs(values, batch), batch.targets)

    def mean(self, vector: Tensor | None = None) -> float:
        """Return the mean loss over all data, at a flat vector of parameters."""
        values = self.split(self.start if vector is None else vector)
        with quiet(self.model), torch.no_grad():
            return sum(share * float(self.value(values, b)) for share, b in self.batches())

    def gradient(self, batch: Samples | None = None) -> Tensor:
        """Return the gradient of the mean loss at the start, over all data or a batch: (p,)."""
        leaves = [value.clone().requires_grad_() for value in self.parameters.values()]
        total = torch.zeros_like(self.start)
        with quiet(self.model), torch.enable_grad():
            for share, part in self.batches() if batch is None else [(1.0, batch)]:
                slopes = torch.autograd.grad(self.value(leaves, part), leaves, allow_unused=True)
                total.add_(self.flat(slopes), alpha=share)
        return total


def objective_of(
    model: nn.Module, data: Samples, loss: Loss, *, batch_size: int | None = None
) -> Objective:
    """Check what is given, on a few samples, and return the objective.

    Raises
    ------
    TypeError
        Data that are no samples of tensors.
    ValueError
        No samples, targets or trainable parameters; a batch size below one; or a loss that is not
        one finite number, or not the mean over samples.
    """
    require_samples(data, targets=True)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    parameters = {name: p.clone() for name, p in trainable_parameters(model).items()}
    data = data.to(next(iter(parameters.values())).device)
    size = min(batch_size or LARGEST_PASS, len(data))
    objective = Objective(model, data, loss, parameters, size)
    few = data.take(slice(0, 3))
    with quiet(model), torch.no_grad():
        outputs = objective.outputs(list(parameters.values()), few)
        _require_mean(loss, outputs, few.targets)
    return objective


def _require_mean(loss: Loss, outputs: Any, targets: Any) -> None:
    once = loss(outputs, targets)
    if not isinstance(once, Tensor) or once.numel() != 1:
        shape = tuple(once.shape) if isinstance(once, Tensor) else type(once).__name__
        raise ValueError(
            f"the loss is {shape}, expected one number: the mean over the samples of a batch"
        )
    if not bool(torch.isfinite(once)):
        raise ValueError(f"the loss of the first samples is {float(once)}")

    def doubled(leaf: Any) -> Any:
        return torch.cat([leaf, leaf]) if isinstance(leaf, Tensor) and leaf.ndim else leaf

    twice = float(loss(*pytree.tree_map(doubled, (outputs, targets))))
    if abs(twice - 2 * float(once)) < 1e-3 * abs(float(once)):
        raise ValueError(
            "the loss grows with the number of samples: it is their sum, and the mean is expected. "
            'Give the loss with reduction="mean"'
        )
