"""How far a model can be moved before its loss has multiplied."""

from __future__ import annotations

import numpy as np
from torch import nn

from geomprobe.evidence import Loss, Samples
from geomprobe.findings import Estimate
from geomprobe.landscape.directions import random_directions
from geomprobe.landscape.slices import LossSlice, loss_slice, uninterrupted
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array


def basin_width(
    model: nn.Module,
    data: Samples,
    loss: Loss,
    *,
    factor: float = 2.0,
    lines: int = 8,
    extent: float = 1.0,
    points: int = 21,
    normalize: str = "filter",
    batch_size: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Return the distance along random directions at which the loss has multiplied.

    Parameters
    ----------
    model, data, loss, batch_size
        As of :func:`loss_slice`.
    factor : float
        What the loss at the model is multiplied by.
    lines : int
        Random directions, each looked along to both sides.
    extent : float
        How far to look.
    points : int
        Of each line; between them the loss is taken to be straight.
    normalize : {"filter", "entry"}
        The unit of length: see :func:`random_directions`. The width is then a share of the size of
        the weights, and is the same for a network rescaled as said there.
    seed : int

    Returns
    -------
    Estimate
        The median over lines and sides, with its standard error over lines by the delete-half
        jackknife; undefined where the loss does not multiply within the extent on half of the
        sides, or is not positive at the model.

    Raises
    ------
    ValueError
        A factor of at most 1, fewer than one line, an even number of points, and what
        :func:`loss_slice` raises.

    Notes
    -----
    ``lines * points`` passes over the data.
    """
    if not 1 < factor < np.inf:
        raise ValueError(f"factor must be above 1 and finite, got {factor}")
    if lines < 1:
        raise ValueError(f"lines must be at least 1, got {lines}")
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points must be an odd number of at least 3, got {points}")
    directions = random_directions(model, lines, normalize=normalize, seed=seed)
    cuts = [
        uninterrupted(
            loss_slice(model, data, loss, one, extent=extent, points=points, batch_size=batch_size)
        )
        for one in directions.T
    ]
    method = f"median over both sides of {lines} lines, normalised by {normalize}"
    centre = cuts[0].centre.value
    if centre <= 0:
        reason = f"the loss of the model is {centre:.3g}, and has no multiple above it"
        return Estimate.undefined(reason, n=2 * lines, method=method)
    widths = np.array([_sides(cut, factor * centre) for cut in cuts])
    reached = int(np.isfinite(widths).sum())
    middle = float(np.median(widths))
    if not np.isfinite(middle):
        reason = (
            f"the loss reaches {factor:g} times its value within {extent:g} on {reached} of "
            f"{widths.size} sides only: look further"
        )
        return Estimate.undefined(reason, n=2 * lines, method=method)

    def of(rows: Array) -> float:
        return float(np.median(widths[rows]))

    stderr = float(delete_half_stderr(of, lines, seed=seed))
    note = "" if reached == widths.size else f"not reached on {widths.size - reached} sides"
    return Estimate(middle, stderr, 2 * lines, method=method, note=note)


def _sides(cut: LossSlice, height: float) -> tuple[float, float]:
    """Return how far it is to a height on either side of the centre; infinity where it is not."""
    (x,), middle = cut.coordinates, len(cut.values) // 2
    return (
        _first(-x[middle::-1], cut.values[middle::-1], height),
        _first(x[middle:], cut.values[middle:], height),
    )


def _first(x: Array, values: Array, height: float) -> float:
    """Return where values first reach a height; what is not finite has."""
    above = np.flatnonzero(~(values < height))
    if not len(above):
        return float("inf")
    after = int(above[0])
    before = max(after - 1, 0)
    if not np.isfinite(values[after]):
        return float(x[after])
    return float(np.interp(height, values[[before, after]], x[[before, after]]))
