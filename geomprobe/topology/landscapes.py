"""Functions and images of a diagram: landscapes and their means, silhouettes, images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geomprobe.points import as_points
from geomprobe.progress import progress_bar
from geomprobe.storage import Array
from geomprobe.topology.diagrams import Diagrams, as_bars, to_giotto
from geomprobe.topology.rips import rips_persistence
from geomprobe.topology.vectorizers import giotto_installed
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GRID = 128


def landscape(dgm: Any, grid: Any, layers: int = 1) -> Array:
    """Return the persistence landscape of a diagram.

    Its k-th layer at t is the k-th largest of the tents max(0, min(t - birth, death - t)).

    Parameters
    ----------
    dgm : array of shape (n, 2)
        Bars that never die are left out: their tents would grow for ever.
    grid : array of shape (m,)
        Scales.
    layers : int
        How many layers, from the largest; those above the number of bars are 0.

    Returns
    -------
    array of shape (layers, m)

    References
    ----------
    Bubenik, P. (2015). Statistical topological data analysis using persistence landscapes. JMLR 16.
    """
    if layers < 1:
        raise ValueError(f"layers must be at least 1, got {layers}")
    tents = _tents(_lasting(dgm), grid)
    heights = np.zeros((layers, tents.shape[1]))
    kept = min(layers, len(tents))
    if kept:
        heights[:kept] = -np.sort(-tents, axis=0)[:kept]
    return heights


def silhouette(dgm: Any, grid: Any, power: float = 1.0) -> Array:
    """Return the power-weighted silhouette of a diagram.

    The mean of the tents of :func:`landscape`, each weighted by the length of its bar to the power:
    0 gives every bar the same say, and a large power leaves the longest alone.

    Parameters
    ----------
    dgm : array of shape (n, 2)
        Bars that never die are left out, and so are those of length zero.
    grid : array of shape (m,)
        Scales.
    power : float
        Not negative.

    Returns
    -------
    array of shape (m,)
        0 where there is no bar.

    References
    ----------
    Chazal, F., Fasy, B. T., Lecci, F., Rinaldo, A. and Wasserman, L. (2014). Stochastic convergence
    of persistence landscapes and silhouettes. SoCG.
    """
    if not power >= 0:
        raise ValueError(f"power cannot be negative, got {power}")
    bars = _lasting(dgm)
    tents = _tents(bars, grid)
    if not len(bars):
        return np.zeros(tents.shape[1])
    lengths = bars[:, 1] - bars[:, 0]
    weights = (lengths / lengths.max()) ** power
    mean: Array = weights @ tents / weights.sum()
    return mean


def persistence_image(
    dgm: Any, births: Any, lifetimes: Any, *, sigma: float, power: float = 1.0
) -> Array:
    """Return the persistence image of a diagram.

    A sum of Gaussians about (birth, lifetime), each weighted by its lifetime to the power,
    integrated over each pixel.

    Parameters
    ----------
    dgm : array of shape (n, 2)
        Bars that never die are left out.
    births, lifetimes : arrays of shape (p + 1,) and (q + 1,)
        Edges of the pixels, ascending.
    sigma : float
        Standard deviation of the Gaussians.
    power : float
        Positive, so that bars at the diagonal weigh nothing, as stability needs.

    Returns
    -------
    array of shape (p, q)
        Axis 0 is birth, axis 1 lifetime.

    Notes
    -----
    The integrals are exact, as persim's. giotto-tda's image is a density instead, of bars rounded
    to pixels, with weights by pixel and lifetime downwards.

    References
    ----------
    Adams, H., et al. (2017). Persistence images: a stable vector representation of persistent
    homology. JMLR 18.
    """
    from scipy.special import ndtr

    if not (sigma > 0 and power > 0):
        raise ValueError(f"sigma and power must be positive, got {sigma} and {power}")
    edges = [_edges(births, "births"), _edges(lifetimes, "lifetimes")]
    bars = _lasting(dgm)
    lengths = bars[:, 1] - bars[:, 0]
    along, up = (
        np.diff(ndtr((edge - centres[:, None]) / sigma), axis=1)
        for edge, centres in zip(edges, (bars[:, 0], lengths), strict=True)
    )
    image: Array = (along * lengths[:, None] ** power).T @ up
    return image


def landscapes(
    diagrams: Diagrams, grid: Any, layers: int = 1, *, giotto: bool | None = None
) -> Array:
    """Return the landscape of each dimension on an evenly spaced grid.

    Parameters
    ----------
    diagrams : Diagrams
        With dimensions 0 to D.
    grid : array of shape (m,)
        Evenly spaced scales.
    layers : int
        As for :func:`landscape`.
    giotto : bool, optional
        Whether giotto-tda computes them; by default where it is installed.

    Returns
    -------
    array of shape (D + 1, layers, m)
    """
    if giotto_installed() if giotto is None else giotto:
        from gtda.diagrams import PersistenceLandscape

        grid = np.asarray(grid, dtype=np.float64)
        transformer = PersistenceLandscape(n_layers=layers, n_bins=len(grid))
        found = _by_giotto(transformer, diagrams, grid)
        return found.reshape(len(diagrams), layers, len(grid))
    return np.stack([landscape(dgm, grid, layers) for dgm in diagrams])


def silhouettes(
    diagrams: Diagrams, grid: Any, power: float = 1.0, *, giotto: bool | None = None
) -> Array:
    """Return the silhouette of each dimension on an evenly spaced grid.

    Parameters
    ----------
    diagrams, grid, giotto
        As for :func:`landscapes`.
    power : float
        As for :func:`silhouette`; giotto-tda computes those of positive power.

    Returns
    -------
    array of shape (D + 1, m)
    """
    if power > 0 and (giotto_installed() if giotto is None else giotto):
        from gtda.diagrams import Silhouette

        grid = np.asarray(grid, dtype=np.float64)
        return _by_giotto(Silhouette(power=power, n_bins=len(grid)), diagrams, grid)
    return np.stack([silhouette(dgm, grid, power) for dgm in diagrams])


@dataclass(frozen=True, eq=False)
class AverageLandscape(ByValue):
    """The mean landscape of random subsets of a cloud, with a band about each value.

    Parameters
    ----------
    grid : array of shape (m,)
        Scales.
    mean, stderr : arrays of shape (layers, m)
        Mean over the subsets, and its standard error.
    level : float
        Confidence level of the band.
    n_subsets, size : int
        How many subsets, and of how many points.
    """

    grid: Array
    mean: Array
    stderr: Array
    level: float
    n_subsets: int
    size: int

    @property
    def lower(self) -> Array:
        """Lower edge of the band, of shape (layers, m)."""
        edge: Array = np.maximum(self.mean - self._reach, 0)
        return edge

    @property
    def upper(self) -> Array:
        """Upper edge of the band, of shape (layers, m)."""
        edge: Array = self.mean + self._reach
        return edge

    @property
    def _reach(self) -> Array:
        from scipy.special import stdtrit

        reach: Array = stdtrit(self.n_subsets - 1, (1 + self.level) / 2) * self.stderr
        return reach

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw each layer with its band."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        for k, (mean, lower, upper) in enumerate(
            zip(self.mean, self.lower, self.upper, strict=True), start=1
        ):
            (line,) = axes.plot(self.grid, mean, label=f"layer {k}")
            axes.fill_between(self.grid, lower, upper, alpha=0.25, color=line.get_color())
        axes.set(xlabel="scale", ylabel=f"mean landscape of {self.size} points")
        axes.legend()
        return axes


def average_landscape(
    X: Any,
    dim: int = 1,
    *,
    size: int = 100,
    n_subsets: int = 30,
    layers: int = 1,
    grid: Any = None,
    level: float = 0.95,
    metric: str = "euclidean",
    seed: int = 0,
) -> AverageLandscape:
    """Return the mean landscape of random subsets of a cloud.

    Parameters
    ----------
    X : array of shape (n, d)
        Points.
    dim : int
        Homology dimension.
    size : int
        Points of a subset, at least 2 and at most n.
    n_subsets : int
        At least 2. After Ctrl-C, the mean over the subsets that are done, if there are two.
    layers : int
        As for :func:`landscape`.
    grid : array of shape (m,), optional
        Scales; by default 128 from 0 to the last death in any subset.
    level : float
        Confidence level of the band.
    metric : str
        See :func:`~geomprobe.topology.rips_persistence`.
    seed : int
        Seed of the subsets.

    Raises
    ------
    ValueError
        What ``rips_persistence`` refuses, or a number out of its range.

    Notes
    -----
    Subsets are drawn without replacement, and apart from each other, so that their mean estimates
    the mean landscape of all subsets of this size; its band, by Student's t, holds at each scale by
    itself, not at all at once. It is not the landscape of the whole cloud, but a few outliers
    change it little, since most subsets have none. Beyond this cloud it speaks of the distribution
    it was drawn from only where the subsets together are much smaller than it.

    References
    ----------
    Chazal, F., Fasy, B. T., Lecci, F., Michel, B., Rinaldo, A. and Wasserman, L. (2015).
    Subsampling methods for persistent homology. ICML.
    """
    points = as_points(X)
    if not 2 <= size <= len(points):
        raise ValueError(f"size must be from 2 to the {len(points)} points, got {size}")
    if n_subsets < 2 or dim < 0 or layers < 1 or not 0 < level < 1:
        raise ValueError(
            "n_subsets must be at least 2, dim 0, layers 1, and level between 0 and 1, got "
            f"{n_subsets}, {dim}, {layers} and {level}"
        )
    generator = np.random.default_rng(seed)
    dgms: list[Array] = []
    try:
        for _ in progress_bar(range(n_subsets), "landscapes", unit="subset"):
            rows = generator.choice(len(points), size, replace=False)
            dgms.append(rips_persistence(points[rows], dim, metric=metric)[dim])
    except KeyboardInterrupt:
        if len(dgms) < 2:
            raise
    if grid is None:
        last = max(float(dgm[np.isfinite(dgm)].max(initial=0.0)) for dgm in dgms)
        grid = np.linspace(0, last or 1.0, _GRID)
    grid = np.asarray(grid, dtype=np.float64)
    drawn = np.stack([landscape(dgm, grid, layers) for dgm in dgms])
    stderr = drawn.std(axis=0, ddof=1) / math.sqrt(len(dgms))
    return AverageLandscape(grid, drawn.mean(axis=0), stderr, level, len(dgms), size)


def _lasting(dgm: Any) -> Array:
    """Return the bars that die after they were born."""
    bars = as_bars(dgm)
    return bars[np.isfinite(bars[:, 1]) & (bars[:, 0] < bars[:, 1])]


def _tents(bars: Array, grid: Any) -> Array:
    """Return the tent of each bar on the grid, of shape (n, m)."""
    scales = np.asarray(grid, dtype=np.float64)
    if scales.ndim != 1:
        raise ValueError(f"grid must have shape (m,), got {scales.shape}")
    births, deaths = bars.T[:, :, None]
    tents: Array = np.maximum(0, np.minimum(scales - births, deaths - scales))
    return tents


def _edges(values: Any, name: str) -> Array:
    edges = np.asarray(values, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"{name} must be two edges of pixels or more, ascending, got {values!r}")
    return edges


def _by_giotto(transformer: Any, diagrams: Diagrams, grid: Array) -> Array:
    # giotto-tda samples between the smallest birth and the largest death that it was fitted to.
    span = np.array([[[grid[0], grid[-1], dim] for dim in range(len(diagrams))]])
    found = transformer.fit(span).transform(to_giotto([diagrams]))[0]
    return np.asarray(found, dtype=np.float64)
