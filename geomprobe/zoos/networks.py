"""The networks of geomprobe's own zoos."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def mlp(
    n_inputs: int,
    n_classes: int,
    *,
    width: int,
    depth: int,
    dropout: float = 0.0,
    activation: str = "relu",
) -> nn.Sequential:
    """Return a perceptron with ``depth`` hidden layers of equal width, dropout after each."""
    sizes = [n_inputs, *depth * [width]]
    parts: list[nn.Module] = [nn.Flatten()]
    for entering, leaving in pairwise(sizes):
        parts += [nn.Linear(entering, leaving), _activation(activation)]
        if dropout:
            parts.append(nn.Dropout(dropout))
    return nn.Sequential(*parts, nn.Linear(sizes[-1], n_classes))


def cnn(
    length: int, n_classes: int, *, channels: int, depth: int, activation: str = "relu"
) -> nn.Sequential:
    """Return ``depth`` convolutions of stride 2 over inputs (n, length), and a linear layer."""
    parts: list[nn.Module] = [nn.Unflatten(1, (1, length))]
    for layer in range(depth):
        parts.append(nn.Conv1d(channels if layer else 1, channels, 5, stride=2, padding=2))
        parts.append(_activation(activation))
        length = (length + 1) // 2
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels * length, n_classes))


def _activation(name: str) -> nn.Module:
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation must be one of {[*_ACTIVATIONS]}, got {name!r}")
    return _ACTIVATIONS[name]()


def relu_teacher(
    inputs: torch.Tensor, n_classes: int, *, width: int, generator: torch.Generator
) -> torch.Tensor:
    """Return the classes that a random ReLU network of one hidden layer gives, all about as often.

    Its outputs are standardized over the inputs, so that no class wins everywhere.
    """
    first = torch.randn(inputs.shape[1], width, generator=generator) / inputs.shape[1] ** 0.5
    second = torch.randn(width, n_classes, generator=generator)
    outputs = (inputs @ first).relu() @ second
    standard: torch.Tensor = (outputs - outputs.mean(dim=0)) / outputs.std(dim=0)
    return standard.argmax(dim=1)
