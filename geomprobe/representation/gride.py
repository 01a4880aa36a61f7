"""Gride: intrinsic dimension over scales, from ratios of distances to further neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geomprobe.representation.neighbours import TIED, distinct_points, nearest_neighbours
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class GrideScan(ByValue):
    """Intrinsic dimension at each scale.

    Parameters
    ----------
    orders : int array of shape (s,)
        n1 of each scale: the ratio is that of the distances to neighbours 2 n1 and n1.
    dimensions, stderrs : arrays of shape (s,)
        NaN at a scale where both distances are equal at every point.
    scales : array of shape (s,)
        Mean distance to neighbour 2 n1, in the unit of the points.
    n : int
        Number of distinct points.
    duplicates : int
        How many points were left out for being equal to others.
    """

    orders: Array
    dimensions: Array
    stderrs: Array
    scales: Array
    n: int
    duplicates: int = 0

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the dimension against the scale, with standard errors."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        axes.errorbar(self.scales, self.dimensions, self.stderrs, marker="o", markersize=3)
        axes.set(xscale="log", xlabel="mean distance of neighbours", ylabel="intrinsic dimension")
        return axes


def gride(X: Any, *, largest: int = 64) -> GrideScan:
    r"""Estimate the intrinsic dimension of a cloud at scales of 2, 4, 8, ... neighbours.

    The ratio :math:`\mu` of the distances to neighbours :math:`n_2 = 2 n_1` and :math:`n_1` has in
    dimension D a density proportional to :math:`D (\mu^D - 1)^{n_2 - n_1 - 1} \mu^{-(n_2 - 1) D -
    1}`; D is the most likely one. With :math:`n_1 = 1` this is TwoNN. A plateau over scales is a
    dimension; a fall at small scales is the end of noise.

    Parameters
    ----------
    X : array of shape (n, d)
        Points; duplicates count once. At least 8 distinct ones.
    largest : int
        Largest n2; scales go as far as there are neighbours.

    Returns
    -------
    GrideScan
        Standard errors are those of the likelihood of n / 2 ratios: a pair of mutual neighbours
        has two that go together. Finite size is not in them: the change from scale to scale shows
        it.

    Raises
    ------
    ValueError
        Fewer than 8 distinct points, ``largest`` below 2, or no cloud.

    References
    ----------
    Denti, F., Doimo, D., Laio, A. and Mira, A. (2022). The generalized ratios intrinsic dimension
    estimator. Scientific Reports 12.
    """
    if largest < 2:
        raise ValueError(f"largest must be at least 2, got {largest}")
    points, duplicates = distinct_points(X)
    n = len(points)
    if n < 8:
        raise ValueError(f"Gride needs at least 8 distinct points, got {n}")
    most = min(largest, n - 1)
    orders = 2 ** np.arange(int(np.log2(most)))
    _, distances = nearest_neighbours(points, 2 * int(orders[-1]))
    found = []
    for order in orders.tolist():
        far = distances[:, 2 * order - 1]
        found.append((*_likeliest(np.log(far / distances[:, order - 1]), order), far.mean()))
    dimensions, stderrs, scales = np.array(found).T
    return GrideScan(orders, dimensions, math.sqrt(2) * stderrs, scales, n, duplicates)


def _likeliest(logs: Array, order: int) -> tuple[float, float]:
    """Return the most likely dimension for logarithms of ratios, and its standard error."""
    from scipy.optimize import brentq

    if logs.mean() < TIED:
        return math.nan, math.nan
    power = order - 1  # n2 - n1 - 1
    total = logs.sum()
    positive = logs[logs > 0]
    # Each point has the factor D, and ties have it once more for each power of mu^D - 1.
    factors = len(logs) + power * (len(logs) - len(positive))

    def slope(dimension: float) -> float:
        # mu^D / (mu^D - 1) = 1 / (1 - mu^-D)
        pulls = positive / -np.expm1(-dimension * positive)
        return float(factors / dimension + power * pulls.sum() - (2 * order - 1) * total)

    low, high = 1e-6, 1.0
    while slope(high) > 0:
        low, high = high, 2 * high
    dimension = float(brentq(slope, low, high))
    shrunk = np.exp(-dimension * positive)
    bends = positive**2 * shrunk / np.expm1(-dimension * positive) ** 2
    return dimension, float((factors / dimension**2 + power * bends.sum()) ** -0.5)
