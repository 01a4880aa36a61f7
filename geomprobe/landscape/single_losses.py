"""A loss of a batch, and of each of its samples by itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as pytree

from geomprobe.evidence import Loss, Samples


def losses_alone(loss: Loss, outputs: Any, targets: Any) -> Tensor:
    """Return the loss of each sample by itself, (n,)."""

    def one(output: Any, target: Any) -> Tensor:
        alone = pytree.tree_map(lambda leaf: leaf[None], (output, target))
        return loss(*alone).reshape(())

    try:
        mapped: Tensor = vmap(one)(outputs, targets)
        return mapped
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception:  # Of what vmap cannot follow, such as a loss that asks for values.
        each = Samples(outputs, targets).batches(1)
        return torch.stack([loss(single.inputs, single.targets).reshape(()) for single in each])


def whole_loss(loss: Loss, outputs: Any, targets: Any, where: str) -> Tensor:
    """Return the loss of a batch.

    Parameters
    ----------
    loss : callable
    outputs, targets
    where : str
        What the loss is of, for the error.

    Raises
    ------
    ValueError
        It is not one finite number.
    """
    value = loss(outputs, targets)
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"the loss is {found}, expected one number: the mean over the samples of a batch"
        )
    if not bool(torch.isfinite(value)):
        raise ValueError(f"the loss {where} is {float(value)}")
    return value


def is_mean(whole: Tensor, alone: Tensor, tolerance: float) -> bool:
    """Whether the loss of a batch is the mean of those of its samples, in its precision."""
    mean, value = float(alone.double().mean()), float(whole)
    near = max(tolerance, 4 * torch.finfo(whole.dtype).eps)
    return abs(mean - value) <= near * max(abs(mean), abs(value), 1e-12)
