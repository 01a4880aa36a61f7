"""What lies between two models of one architecture: the loss on the straight line, and how far."""

from __future__ import annotations

from typing import Any

from torch import nn

from geomprobe.evidence import Loss
from geomprobe.findings import Estimate
from geomprobe.landscape import align, linear_barrier
from geomprobe.sampling.collect import sample_of


def between(
    a: nn.Module, b: nn.Module, data: Any, loss: Loss, *, samples: int = 512, seed: int = 0
) -> dict[str, Estimate]:
    """Return barriers and distances of two models, as they are and with the units of b matched.

    Parameters
    ----------
    a, b : torch.nn.Module
        Of one architecture; left as they were.
    data
        Loader, dataset or tensors, with targets.
    loss : callable
        ``loss(outputs, targets)``: the mean over the samples of a batch.
    samples : int
        Of more, so many are drawn at random.
    seed : int

    Returns
    -------
    dict of str to Estimate
        ``linear_barrier``, ``aligned_barrier``, ``distance`` and ``aligned_distance``. Where units
        cannot be matched there is the first alone, and the reason in the second.

    Raises
    ------
    ValueError
        What :func:`~geomprobe.landscape.linear_barrier` refuses: two architectures, for instance.
    """
    kept = sample_of(data, a, samples, seed=seed)
    barrier = linear_barrier(a, b, kept, loss).barrier
    try:
        found = align(a, b, kept, random_state=seed)
    except ValueError as error:
        reason = f"the units cannot be matched: {error}"
        return {"linear_barrier": barrier, "aligned_barrier": Estimate.undefined(reason)}
    before, after = (
        Estimate(value, exact=True, method="Euclidean distance of the parameters")
        for value in (found.distance_before, found.distance_after)
    )
    return {
        "linear_barrier": barrier,
        "aligned_barrier": linear_barrier(a, found.model, kept, loss).barrier,
        "distance": before,
        "aligned_distance": after,
    }
