"""Draws of a model's parameters, for what is averaged over parameter space."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from geomprobe.hooks import quiet


def parameter_draws(
    model: nn.Module, draws: int, seed: int = 0, *, radius: float | None = None
) -> Iterator[nn.Module]:
    """Yield copies of a model, each with its trainable parameters drawn anew.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it is, and so are the global random streams.
    draws : int
        How many copies.
    seed : int
        Seed of the draws.
    radius : float, optional
        Draw uniformly from the ball of this Euclidean radius around the present parameters. By
        default, draw from the initialisation: call ``reset_parameters()`` of every module that
        owns trainable parameters, which also resets running statistics of batch norm.

    Yields
    ------
    torch.nn.Module
        One copy at a time; frozen parameters keep their values.

    Raises
    ------
    ValueError
        ``draws < 0``, a radius that is not positive, a model that cannot be copied, or a module
        with trainable parameters that has no ``reset_parameters``. Raised before the first draw.
    """
    if draws < 0:
        raise ValueError(f"draws must not be negative, got {draws}")
    if radius is None:
        _require_resets(model)
    elif not 0 < radius < math.inf:
        raise ValueError(f"radius must be positive and finite, got {radius}")
    return _draws(model, draws, seed, radius)


def _draws(model: nn.Module, draws: int, seed: int, radius: float | None) -> Iterator[nn.Module]:
    seeds = torch.Generator().manual_seed(seed)
    for _ in range(draws):
        try:
            drawn = copy.deepcopy(model)
        except Exception as error:
            raise ValueError(
                f"the model cannot be copied to draw its parameters: {error}"
            ) from error
        with quiet(model), torch.no_grad():
            torch.manual_seed(int(torch.randint(2**62, (), generator=seeds, device="cpu")))
            if radius is None:
                _reset(drawn)
            else:
                _move(drawn, radius)
        yield drawn


def _reset(model: nn.Module) -> None:
    frozen = [(p, p.detach().clone()) for p in model.parameters() if not p.requires_grad]
    for module in _owners(model).values():
        reset = _reset_of(module)
        assert reset is not None
        reset()
    for parameter, before in frozen:
        parameter.copy_(before)


def _move(model: nn.Module, radius: float) -> None:
    trainable = [p for p in model.parameters() if p.requires_grad]
    steps = [torch.randn(p.shape, dtype=torch.float64, device="cpu") for p in trainable]
    length = math.sqrt(sum(float(step.square().sum()) for step in steps))
    dimension = sum(p.numel() for p in trainable)
    distance = radius * float(torch.rand((), dtype=torch.float64, device="cpu")) ** (
        1 / max(dimension, 1)
    )
    for parameter, step in zip(trainable, steps, strict=True):
        parameter.add_((distance / length * step).to(parameter))


def _owners(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that own a trainable parameter themselves, by name."""
    return {
        name or "(root)": module
        for name, module in model.named_modules()
        if any(p.requires_grad for p in module.parameters(recurse=False))
    }


def _reset_of(module: nn.Module) -> Callable[[], Any] | None:
    # torch's own MultiheadAttention has the underscored form only.
    return getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))


def _require_resets(model: nn.Module) -> None:
    without = [
        f"{name} ({type(module).__name__})"
        for name, module in _owners(model).items()
        if _reset_of(module) is None
    ]
    if without:
        raise ValueError(
            "parameters cannot be drawn from the initialisation: no reset_parameters() in "
            f"{', '.join(without)}, which own trainable parameters. Write that method, or give a "
            "radius to draw from a ball around the present parameters: "
            "EffectiveDimension(radius=...)"
        )
