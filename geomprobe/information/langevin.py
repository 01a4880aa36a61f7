"""Stochastic gradient Langevin dynamics around a model's parameters, several chains at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from geomprobe.evidence import Samples
from geomprobe.hooks import quiet
from geomprobe.information.objective import Objective
from geomprobe.progress import progress_bar
from geomprobe.storage import Array

# From points (chains, p) and samples to a loss each, or a gradient and a loss each.
Mapped = Callable[[Tensor, Samples], Any]


def langevin_chains(
    objective: Objective,
    *,
    chains: int,
    burn_in: int,
    draws: int,
    step: float,
    n_beta: float,
    localization: float,
    batch_size: int,
    seed: int,
) -> tuple[Array, Array]:
    r"""Sample from :math:`\exp(-n\beta L_n(w) - \frac{\gamma}{2} |w - w^*|^2)`, from w* on.

    .. math::
        w \leftarrow w - \frac{\epsilon}{2} \left( n\beta \nabla L_B(w) + \gamma (w - w^*) \right)
        + \mathcal N(0, \epsilon)

    Parameters
    ----------
    objective : Objective
        L_n, at w*.
    chains, burn_in, draws : int
        How many, and steps of each before and while it is looked at.
    step, n_beta, localization : float
        Epsilon, n beta and gamma.
    batch_size : int
        Of the batches B. Every step of every chain draws one anew, with replacement; one that would
        hold all data or more is the data.
    seed : int
        Of noise and batches.

    Returns
    -------
    gains : float64 array of shape (chains, draws)
        ``L_B(w) - L_B(w*)`` on the batch of the step. w does not know this batch, so the mean is
        that of ``L_n(w) - L_n(w*)``, with far less noise than a difference of two batches.
    distances : float64 array of shape (chains, draws)
        ``|w - w*|``. After Ctrl-C both have the draws that were done, if there are at least 10.

    References
    ----------
    Welling, M. and Teh, Y. W. (2011). Bayesian learning via stochastic gradient Langevin dynamics.
    ICML.
    """
    start = objective.start
    whole = batch_size >= len(objective.data)
    batches = repeat(objective.data) if whole else _batches(objective, chains, batch_size, seed)
    noise = torch.Generator().manual_seed(seed)
    points = start.repeat(chains, 1)
    gains, distances = [], []
    with quiet(objective.model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        losses_at, slopes_at = _over_chains(objective, points, next(batches), whole)
        initial = losses_at(points, next(batches))
        try:
            for count in progress_bar(range(burn_in + draws), "langevin"):
                batch = next(batches)
                gradients, losses = slopes_at(points, batch)
                moved = points - start
                if count >= burn_in:
                    before = initial if whole else losses_at(start.expand_as(points), batch)
                    gains.append((losses - before).double().cpu().numpy())
                    distances.append(torch.linalg.vector_norm(moved, dim=1).cpu().numpy())
                drift = n_beta * gradients + localization * moved
                kick = torch.randn(points.shape, generator=noise, device="cpu").to(points)
                points = points - step / 2 * drift + step**0.5 * kick
        except KeyboardInterrupt:
            if len(gains) < 10:
                raise
    return np.array(gains).T, np.array(distances, dtype=np.float64).T


def _batches(objective: Objective, chains: int, size: int, seed: int) -> Iterator[Samples]:
    """Yield a batch for each chain, that knows nothing of those before, along a first axis."""
    generator = torch.Generator().manual_seed(seed + 1)
    while True:
        rows = torch.randint(len(objective.data), (chains, size), generator=generator, device="cpu")
        yield objective.data.take(rows)


def _over_chains(
    objective: Objective, points: Tensor, batch: Samples, whole: bool
) -> tuple[Mapped, Mapped]:
    """Return losses, and gradients with losses, at once by vmap, or in turn where that fails."""

    def value(vector: Tensor, inputs: Any, targets: Tensor) -> Tensor:
        return objective.value(objective.split(vector), Samples(inputs, targets)).squeeze()

    def slope(vector: Tensor, inputs: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        leaf = vector.clone().requires_grad_()
        with torch.enable_grad():
            loss = value(leaf, inputs, targets)
        return torch.autograd.grad(loss, leaf)[0], loss.detach()

    def at_once(function: Callable[..., Any], points: Tensor, batch: Samples) -> Any:
        def axis(leaf: Any) -> int | None:
            return None if whole or not isinstance(leaf, Tensor) or not leaf.ndim else 0

        parts = batch.inputs, batch.targets
        return vmap(function, (0, *pytree.tree_map(axis, parts)))(points, *parts)

    def in_turn(function: Callable[..., Any], points: Tensor, batch: Samples) -> Any:
        own = [batch if whole else batch.take(chain) for chain in range(len(points))]
        found = [function(p, b.inputs, b.targets) for p, b in zip(points, own, strict=True)]
        return pytree.tree_map(lambda *leaves: torch.stack(leaves), *found)

    together = grad_and_value(value)
    try:
        at_once(together, points, batch)
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception:
        return partial(in_turn, value), partial(in_turn, slope)
    return partial(at_once, value), partial(at_once, together)
