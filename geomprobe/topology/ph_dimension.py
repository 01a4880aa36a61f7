"""PH dimension: how the length of the spanning tree grows with the number of points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.memory import require_memory
from geomprobe.points import as_points
from geomprobe.progress import progress_bar
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array
from geomprobe.topology.graphs import dense_distances, distance_matrix
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Beyond, the dimension is a ratio of noise.
_LARGEST_SLOPE, _SMALLEST_FIT = 0.98, 0.9
# In uniform cubes of one to five dimensions the tree of n points is longer than its limit by the
# share 0.4 n^(-1/d), for the points at the faces.
_BOUNDARY = 0.4


@dataclass(frozen=True, eq=False)
class PHDimension(ByValue):
    """The outcome of :func:`ph_dimension`.

    Parameters
    ----------
    estimate : Estimate
        The dimension; NaN with the reason where the fit means nothing.
    alpha : float
        Power of the lengths.
    sizes, sums : arrays of shape (m,)
        Sizes of the subsets, and the mean sum of the powers of their trees.
    slope, intercept : float
        Of log sum over log size.
    r_squared : float
        Of the same fit to the mean of the powers, sum over size, whose slope is -alpha over the
        dimension: that of the sums themselves says nothing where they hardly change, near
        dimension alpha.
    """

    estimate: Estimate
    alpha: float
    sizes: Array
    sums: Array
    slope: float
    intercept: float
    r_squared: float

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the sums over the sizes, with the line that was fitted, on logarithmic axes."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        axes.loglog(self.sizes, self.sums, "o", label=f"sum of lengths^{self.alpha:g}")
        line = np.exp(self.intercept) * self.sizes**self.slope
        axes.loglog(self.sizes, line, label=f"slope {self.slope:.3f}: dimension {self.estimate}")
        axes.set(xlabel="points", ylabel="E")
        axes.legend()
        return axes


def ph_dimension(
    X: Any,
    *,
    metric: str = "euclidean",
    alpha: float = 1.0,
    n_sizes: int = 10,
    n_subsets: int = 10,
    replicates: int = 8,
    random_state: int = 0,
    progress: bool = True,
) -> PHDimension:
    """Estimate the persistent homology dimension (degree 0) of a set of points.

    The sum E of the alpha-th powers of the edges of a minimum spanning tree grows as a power of
    the number of points, E ~ n^m, and the dimension is alpha / (1 - m).

    Parameters
    ----------
    X : array of shape (n, d), or (n, n) with ``metric="precomputed"``
        At least 40 points, or their distances, such as those of
        :func:`~geomprobe.topology.loss_pseudometric`.
    metric : str
        A metric of ``scipy.spatial.distance.pdist``, or ``"precomputed"``.
    alpha : float
        Positive.
    n_sizes, n_subsets : int
        Sizes from n/10 to 0.9 n in geometric order, and random subsets that are averaged at each.
    replicates : int
        Halves of the points that the sampling error rests on.
    random_state : int
        Seed of the subsets.
    progress : bool
        Show a bar where it takes over two seconds.

    Returns
    -------
    PHDimension
        The standard error of its estimate has two parts: of sampling, by delete-half jackknife; and
        of finite size, for which stands three times the change from the smaller to the larger
        sizes, or the effect of the faces of a uniform cube of that dimension, 0.4 d n^(-1/d),
        whichever is larger. The estimate is NaN where the slope is 0.98 or more, R^2 below 0.9, or
        where small subsets of points that coincide have no extent.

    Raises
    ------
    ValueError
        Too few points, or bad ones; parameters out of range.
    MemoryEstimateError
        The distances do not fit.

    Notes
    -----
    O(n^2 d) time for the distances, once, and O(n^2) for each subset; 8 n^2 bytes. Distances are
    float64 of centred points: from products of float32 that are not centred, the dimension of a
    late trajectory comes out too small. After Ctrl-C the sampling error rests on the halves that
    were done, and is NaN below two.

    References
    ----------
    Birdal, T., Lou, A., Guibas, L. and Şimşekli, U. (2021). Intrinsic dimension, persistent
    homology and generalization in neural networks. NeurIPS. Schweinhart, B. (2021). Persistent
    homology and the upper box dimension. Discrete and Computational Geometry 65.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    for name, value, least in (
        ("n_sizes", n_sizes, 4),
        ("n_subsets", n_subsets, 1),
        ("replicates", replicates, 2),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    from geomprobe.topology.prim import sums_of_trees

    distances = _distances(X, metric)
    n = len(distances)
    generator = np.random.default_rng(random_state)
    steps = (1 + replicates) * n_sizes
    bar = progress_bar(None, "PH dimension", steps, unit="size", show=progress)

    def fit(rows: Array) -> tuple[Array, Array, Array]:
        sizes = np.unique(np.geomspace(len(rows) / 10, 0.9 * len(rows), n_sizes).astype(int))
        sums = np.empty(len(sizes))
        for i, k in enumerate(sizes):
            subsets = [generator.choice(rows, k, replace=False) for _ in range(n_subsets)]
            sums[i] = sums_of_trees(distances, np.stack(subsets), alpha).mean()
            bar.update()
        line = np.full(2, np.nan)
        if (sums > 0).all():
            line = np.polyfit(np.log(sizes), np.log(sums), 1)
        return sizes, sums, line

    sizes, sums, (slope, intercept) = fit(np.arange(n))
    method = f"PH0 dimension, alpha={alpha:g}, {len(sizes)} sizes of {n_subsets} subsets"
    if not (sums > 0).all():
        reason = "so many points coincide that small subsets have no extent"
        undefined = Estimate.undefined(reason, n=n, method=method)
        bar.close()
        return PHDimension(undefined, alpha, sizes, sums, np.nan, np.nan, np.nan)
    x, y = np.log(sizes), np.log(sums)
    residual = float(((y - slope * x - intercept) ** 2).sum())
    total = float((((y - x) - (y - x).mean()) ** 2).sum())
    r_squared = 1 - residual / total if total > 0 else 0.0
    if slope >= _LARGEST_SLOPE or r_squared < _SMALLEST_FIT:
        reason = (
            f"slope {slope:.3f} is {_LARGEST_SLOPE} or more: the tree grows as if every point lay "
            "apart from all others"
            if slope >= _LARGEST_SLOPE
            else f"the sums do not follow a power of the size: R^2 = {r_squared:.3f}"
        )
        estimate = Estimate.undefined(reason, n=n, method=method)
    else:
        value, halves, stopped = alpha / (1 - slope), 0, False

        def of_half(rows: Array) -> float:
            nonlocal halves, stopped
            if stopped:
                return np.nan
            try:
                found = alpha / (1 - fit(rows)[2][0])
            except KeyboardInterrupt:
                stopped = True
                return np.nan
            halves += 1
            return float(found)

        sampling = delete_half_stderr(of_half, n, replicates=replicates, seed=random_state)
        note = f"interrupted after {halves} of {replicates} halves" if stopped else ""
        half = len(x) // 2
        low, high = (
            np.polyfit(x[part], y[part], 1)[0] for part in (slice(half), slice(half, None))
        )
        drift = 3 * abs(alpha / (1 - high) - alpha / (1 - low))
        faces = _BOUNDARY * value * float(np.exp(x.mean())) ** (-1 / value)
        stderr = float(np.hypot(sampling, max(drift, faces)))
        estimate = Estimate(value, stderr, n=n, method=method, note=note)
    bar.close()
    return PHDimension(estimate, alpha, sizes, sums, float(slope), float(intercept), r_squared)


def _distances(X: Any, metric: str) -> Array:
    if metric == "precomputed":
        distances = dense_distances(X)
    else:
        points = as_points(X)
        what = f"The distances of {len(points)} points"
        require_memory(16 * len(points) ** 2, what, "Take every second point, for instance.")
        distances = distance_matrix(points, metric)
    if len(distances) < 40:
        raise ValueError(f"PH dimension needs at least 40 points, got {len(distances)}")
    return distances
