"""Persistence diagrams, and what other libraries call one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def as_bars(dgm: Any) -> Array:
    """Return one diagram as a float64 array of shape (n, 2); an empty list has no bars.

    Raises
    ------
    ValueError
        Another shape, or a bar that holds NaN or dies before its birth.
    """
    bars = np.asarray(dgm, dtype=np.float64)
    if bars.size == 0:
        return np.empty((0, 2))
    if bars.ndim != 2 or bars.shape[1] != 2:
        raise ValueError(f"a diagram must have shape (n, 2), births and deaths, got {bars.shape}")
    wrong = int((~(bars[:, 0] <= bars[:, 1])).sum())
    if wrong:
        raise ValueError(f"{wrong} of {len(bars)} bars hold NaN or die before their birth")
    return bars


@dataclass(frozen=True, eq=False)
class Diagrams(ByValue):
    """The persistence diagrams of one point cloud, one a homology dimension.

    Parameters
    ----------
    dgms : sequence of arrays of shape (n, 2)
        Births and deaths in dimension 0, 1, ...; a class that never dies has death ``inf``.
    engine : str
        What computed them.
    metric : str
        Metric of the points, ``"precomputed"`` for distances.
    coeff : int
        Homology with coefficients in the field of this many elements.
    threshold : float
        Largest edge of the complex.
    n_points : int
        Number of points.
    error_bound : float
        Largest bottleneck distance to the diagrams of all points; 0 for exact diagrams.
    critical_edges : tuple of int arrays of shape (n, 4), optional
        The pairs of points whose distances are the birth and the death of each bar; -1 where there
        is none: at births in H0, and at deaths that never come.
    cocycles : tuple of tuples of int arrays of shape (m, k + 2), optional
        A representative cocycle of each bar in dimension k: the vertices of its simplices, and
        their coefficients. Empty for H0.
    """

    dgms: tuple[Array, ...]
    engine: str = ""
    metric: str = "euclidean"
    coeff: int = 2
    threshold: float = np.inf
    n_points: int | None = None
    error_bound: float = 0.0
    critical_edges: tuple[Array, ...] | None = None
    cocycles: tuple[tuple[Array, ...], ...] | None = None

    def __post_init__(self) -> None:
        dgms = tuple(as_bars(dgm) for dgm in self.dgms)
        object.__setattr__(self, "dgms", dgms)

    def __getitem__(self, dim: int) -> Array:
        return self.dgms[dim]

    def __len__(self) -> int:
        return len(self.dgms)

    def __iter__(self) -> Iterator[Array]:
        return iter(self.dgms)

    def finite(self, dim: int) -> Array:
        """Return the bars of a dimension that die, of shape (n, 2)."""
        return self.dgms[dim][np.isfinite(self.dgms[dim][:, 1])]

    def lifetimes(self, dim: int) -> Array:
        """Return death minus birth of every bar of a dimension, ``inf`` included."""
        births, deaths = self.dgms[dim].T
        lengths: Array = deaths - births
        return lengths

    def to_gudhi(self) -> list[tuple[int, tuple[float, float]]]:
        """Return gudhi's list of (dimension, (birth, death))."""
        return [(dim, (float(b), float(d))) for dim, dgm in enumerate(self) for b, d in dgm]

    def to_persim(self) -> list[Array]:
        """Return persim's list of arrays, without the infinite bars that persim cannot take."""
        return [self.finite(dim) for dim in range(len(self))]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw births against deaths; bars that never die lie on a dashed line at the top."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        everything = np.concatenate([*self.dgms, np.zeros((1, 2))])
        finite = everything[np.isfinite(everything)]
        low, high = finite.min(), max(finite.max(), finite.min() + 1e-12)
        top = high + 0.08 * (high - low)
        axes.plot([low, top], [low, top], color="0.6", linewidth=1)
        if np.isinf(everything).any():
            axes.axhline(top, color="0.6", linewidth=1, linestyle="--")
        for dim, dgm in enumerate(self):
            deaths = np.where(np.isinf(dgm[:, 1]), top, dgm[:, 1])
            axes.scatter(dgm[:, 0], deaths, s=12, label=f"H{dim}")
        axes.set(xlabel="birth", ylabel="death")
        axes.legend(loc="lower right")
        return axes


def to_giotto(diagrams: Sequence[Diagrams], *, infinity_value: float | None = None) -> Array:
    """Return diagrams as giotto-tda's array.

    Parameters
    ----------
    diagrams : sequence of Diagrams
        All with the same number of homology dimensions.
    infinity_value : float, optional
        Death of the bars that never die, which may be infinity. ``None`` leaves those bars out.

    Returns
    -------
    array of shape (n_diagrams, n_points, 3)
        Rows (birth, death, dimension). Each dimension is padded to its largest number of bars, at
        least one, by bars of length zero at its smallest birth.
    """
    if not diagrams:
        raise ValueError("there are no diagrams to convert")
    if len({len(one) for one in diagrams}) > 1:
        raise ValueError(
            "diagrams must all have the same homology dimensions, got "
            f"{sorted({len(one) for one in diagrams})} of them"
        )
    blocks = []
    for dim in range(len(diagrams[0])):
        dgms = [
            one.finite(dim)
            if infinity_value is None
            else np.where(np.isinf(one[dim]), infinity_value, one[dim])
            for one in diagrams
        ]
        rows = max(1, *(len(dgm) for dgm in dgms)) if len(dgms) > 1 else max(1, len(dgms[0]))
        births = np.concatenate([dgm[:, 0] for dgm in dgms])
        block = np.full((len(dgms), rows, 3), births.min() if len(births) else 0.0)
        block[:, :, 2] = dim
        for padded, dgm in zip(block, dgms, strict=True):
            padded[: len(dgm), :2] = dgm
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


def from_giotto(array: Any, *, infinity_value: float | None = None) -> list[Diagrams]:
    """Return giotto-tda's array of shape (n_diagrams, n_points, 3) as diagrams.

    Bars of length zero are taken for padding and left out.

    Parameters
    ----------
    array : array of shape (n_diagrams, n_points, 3)
    infinity_value : float, optional
        Bars that die there or later never die: what ``infinity_values`` of giotto-tda's
        transformers is, or was given to :func:`to_giotto`.

    Raises
    ------
    ValueError
        Another shape, NaN, or a dimension that is no whole number from 0.
    """
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            "expected an array of shape (n_diagrams, n_points, 3) with rows (birth, death, "
            f"dimension), got shape {array.shape}"
        )
    listed = array[:, :, 2]
    if np.isnan(array).any() or (listed < 0).any() or (listed % 1).any():
        raise ValueError(
            "expected rows (birth, death, dimension) without NaN and with whole dimensions from 0, "
            f"got dimensions {np.unique(listed).tolist()}"
        )
    dims = range(int(listed.max(initial=0)) + 1)
    diagrams = []
    for rows in array:
        bars = rows[rows[:, 1] > rows[:, 0]]
        if infinity_value is not None:
            bars[bars[:, 1] >= infinity_value, 1] = np.inf
        dgms = tuple(bars[bars[:, 2] == dim, :2] for dim in dims)
        diagrams.append(Diagrams(dgms, engine="giotto-tda"))
    return diagrams
