"""What is pulled back through a model: some vectors at the outputs of each sample.

Their outer products, pulled back to the parameters and averaged, are the Fisher information.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from geomprobe.information.likelihoods import Likelihood
from geomprobe.memory import require_memory


def expected(
    likelihood: Likelihood, outputs: Tensor, targets: Tensor | None, memory_share: float
) -> Tensor:
    """Return rows for the expectation over the model's own labels, of shape (N, K, ...).

    Raises
    ------
    MemoryEstimateError
        K is about the number of outputs of a sample, and so are the entries of each row.
    """
    n_outputs = outputs[0].numel()
    require_memory(
        4 * outputs.element_size() * len(outputs) * n_outputs**2,
        f"the true Fisher of {len(outputs)} samples with {n_outputs} outputs each",
        'It takes a row of gradients an output: use fewer samples, or draw labels by kind="mc".',
        share=memory_share,
    )
    return likelihood.rows(outputs, targets)


def sampled(
    likelihood: Likelihood, outputs: Tensor, targets: Tensor | None, draws: int, seed: int
) -> Tensor:
    """Return gradients at labels drawn from the model, of shape (N, draws, ...)."""
    generator = torch.Generator(outputs.device).manual_seed(seed)
    rows = [
        at_labels(likelihood, outputs, likelihood.sample(outputs, generator, targets))
        for _ in range(draws)
    ]
    return torch.cat(rows, dim=1) / math.sqrt(draws)


def at_labels(likelihood: Likelihood, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of each sample's negative log-likelihood, of shape (N, 1, ...)."""
    outputs = outputs.detach().requires_grad_()
    with torch.enable_grad():
        losses = likelihood.negative_log_likelihood(outputs, targets)
    (gradients,) = torch.autograd.grad(losses.sum(), outputs)
    return torch.unsqueeze(gradients, 1)


def of_loss(loss: Any, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of any loss of each sample, called as a batch of one: (N, 1, ...)."""
    if len(targets) != len(outputs):
        raise ValueError(f"there are {len(outputs)} samples, but {len(targets)} targets")
    gradients = []
    for output, target in zip(torch.split(outputs, 1), torch.split(targets, 1), strict=True):
        output = output.detach().requires_grad_()
        with torch.enable_grad():
            value = loss(output, target)
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise ValueError(
                "the loss of one sample must be one differentiable number, got "
                f"{type(value).__name__} of shape {tuple(getattr(value, 'shape', ()))}"
            )
        gradients.append(torch.autograd.grad(value.sum(), output)[0])
    return torch.stack(gradients)
