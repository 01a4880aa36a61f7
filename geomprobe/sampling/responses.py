"""What a model makes of each of some samples: its loss, and whether it is classified rightly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from geomprobe.evidence import Loss, Samples, forward
from geomprobe.hooks.compiled import eagerly
from geomprobe.hooks.quiet import quiet

# Samples of a pass.
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Responses:
    """What a model makes of n samples.

    Parameters
    ----------
    losses : float64 Tensor of shape (n,)
        Loss of each sample by itself.
    correct : bool Tensor of shape (n,), optional
        Whether the largest of its outputs is that of its class; None where outputs are not of shape
        (n, classes) or targets not classes.
    """

    losses: torch.Tensor
    correct: torch.Tensor | None


def responses(model: nn.Module, samples: Samples, loss: Loss) -> Responses:
    """Show samples to a model in evaluation mode, and leave it as it was.

    Parameters
    ----------
    model : torch.nn.Module
    samples : Samples
        With targets.
    loss : callable
        ``loss(outputs, targets)``; called with one sample at a time.

    Raises
    ------
    ValueError
        There are no samples or targets, or the loss of a sample is not one number.
    """
    if not len(samples) or samples.targets is None:
        raise ValueError("losses of samples take one sample or more, and their targets")
    losses: list[torch.Tensor] = []
    correct: list[torch.Tensor] = []
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with quiet(model), eagerly(), torch.inference_mode(False), torch.no_grad():
        for batch in samples.to(home).batches(_BATCH):
            outputs = forward(model, batch.inputs)
            for one in Samples(outputs, batch.targets).batches(1):
                losses.append(_number(loss(one.inputs, one.targets)))
            if _are_classes(outputs, batch.targets):
                correct.append((outputs.argmax(dim=1) == batch.targets).cpu())
    return Responses(torch.stack(losses).cpu().double(), torch.cat(correct) if correct else None)


def _number(loss: Any) -> torch.Tensor:
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        found = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise ValueError(f"the loss of a sample must be a tensor of one number, got {found}")
    return loss.reshape(())


def _are_classes(outputs: Any, targets: torch.Tensor | None) -> bool:
    return (
        isinstance(outputs, torch.Tensor)
        and targets is not None
        and outputs.ndim == 2
        and outputs.shape[1] > 1
        and targets.ndim == 1
        and not targets.is_floating_point()
    )
