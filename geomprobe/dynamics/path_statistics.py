"""The shape of a training path in numbers, each beside what a random walk would give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geomprobe.clouds import Trajectory
from geomprobe.dynamics.diffusion import FEWEST, Diffusion, diffusion
from geomprobe.dynamics.time_blocks import block_jackknife
from geomprobe.findings import Estimate
from geomprobe.memory import require_memory
from geomprobe.random_walk import walk_participation, walk_variances
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class PathStatistics(ByValue):
    """The shape of a path; made by :func:`path_statistics`.

    Parameters
    ----------
    steps : int array of shape (T,)
        Optimizer steps of the points that were used.
    length : Estimate
        Distance travelled.
    displacement : Estimate
        Distance from the first point to the last.
    tortuosity : Estimate
        Length over displacement: 1 for a straight path.
    turning_angle : Estimate
        Mean angle between consecutive displacements, in degrees: 0 for a straight path, 90 for a
        random walk in many dimensions, more where the path goes to and fro.
    participation_ratio : Estimate
        Effective number of dimensions of the path: of the variances that PCA finds,
        the squared sum over the sum of squares.
    explained_variance : array of shape (min(T - 1, d),)
        Shares of the variance that PCA finds, the largest first.
    turning_angles : array of shape (T - 2,)
        In degrees; NaN where the path stood still.
    diffusion : Diffusion or None
        How the displacement grows with the lag; None for a path that is not evenly spaced or
        has fewer than 60 points.
    walk : dict of str to float
        What a random walk of as many points in many dimensions gives for ``tortuosity``,
        ``turning_angle``, ``participation_ratio``, ``first_component`` and ``diffusion_exponent``.
    notes : tuple of str
    """

    steps: Array
    length: Estimate
    displacement: Estimate
    tortuosity: Estimate
    turning_angle: Estimate
    participation_ratio: Estimate
    explained_variance: Array
    turning_angles: Array
    diffusion: Diffusion | None
    walk: Mapping[str, float]
    notes: tuple[str, ...] = ()

    @property
    def scalars(self) -> dict[str, Estimate]:
        """All numbers by name."""
        whole, projected = self.participation_ratio, not self.participation_ratio.exact
        if self.diffusion is None:
            reason = f"an exponent takes {FEWEST} points or more that are evenly spaced in time"
            exponent = Estimate.undefined(reason, n=len(self.steps))
        else:
            exponent = self.diffusion.exponent
        return {
            "length": self.length,
            "displacement": self.displacement,
            "tortuosity": self.tortuosity,
            "turning_angle": self.turning_angle,
            "diffusion_exponent": exponent,
            "participation_ratio": whole,
            "first_component": Estimate(
                float(self.explained_variance[0]),
                n=len(self.steps),
                exact=not projected,
                method="share of variance of the first principal component",
                note=whole.note,
            ),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the shares of variance beside those of a random walk."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        own = self.explained_variance[:20]
        walk = walk_variances(len(self.steps), len(own))
        axes.semilogy(np.arange(1, len(own) + 1), own, "o-", ms=3, label="path")
        axes.semilogy(np.arange(1, len(walk) + 1), walk, "--", color="gray", label="random walk")
        axes.set(xlabel="principal component", ylabel="share of variance")
        axes.legend()
        return axes


def path_statistics(trajectory: Trajectory) -> PathStatistics:
    r"""Measure the shape of a training path.

    Parameters
    ----------
    trajectory : Trajectory
        Three finite points or more, as :class:`~geomprobe.TrajectoryRecorder` keeps them. Lengths
        are taken from its ``meta["arc_length"]``, exact and of every step looked at, where it is
        there; all else from the points.

    Returns
    -------
    PathStatistics

    Raises
    ------
    ValueError
        Fewer finite points, or a path that does not move.

    Notes
    -----
    The participation ratio is :math:`(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2` of the eigenvalues
    of the covariance of the points. A random walk has one too, of at most 5/2 however many
    dimensions it has, and its first principal component explains 61 % of it: see
    :func:`~geomprobe.dynamics.walk_variances`. A smooth path has fewer dimensions still, and one
    confined to a minimum has more. The length of a walk of m moves is :math:`\sqrt m` times
    its displacement.

    O(T d min(T, d)) time and O(T d) memory for T points of d coordinates.
    """
    finite = np.isfinite(trajectory.points).all(axis=1)
    rows = np.flatnonzero(finite)
    notes = []
    if len(rows) < len(trajectory):
        notes.append(f"{len(trajectory) - len(rows)} points that are not finite are left out.")
    if len(rows) < 3:
        raise ValueError(f"a path takes 3 finite points or more, there are {len(rows)}")
    n, d = len(rows), trajectory.points.shape[1]
    require_memory(
        8 * (4 * n * d + 3 * min(n, d) ** 2),
        f"statistics of a path of {n} points in {d} dimensions",
        "Record fewer points, or a projection (dim= of TrajectoryRecorder).",
    )
    points = trajectory.points[rows].astype(np.float64)
    points -= points[0]
    moves = np.diff(points, axis=0)
    norms = np.linalg.norm(moves, axis=1)
    if not norms.any():
        raise ValueError("the path does not move: all of its points are equal")

    steps, meta = trajectory.steps[rows], trajectory.meta
    projected = meta.get("projection") is not None
    about = ""
    if projected:
        about = f"of the path projected to {d} dimensions"
        if meta.get("distortion") is not None:
            about += f", which keeps distances to about {meta['distortion']:.0%}"
    if (stride := meta.get("stride") or 1) > 1:
        notes.append(f"Angles and dimensions are of every {stride}th step.")
    length, n_moves = _length(trajectory, rows, float(norms.sum()), about)
    reach = Estimate(
        float(np.linalg.norm(points[-1])),
        n=n,
        exact=not projected,
        method="distance of the first and the last point",
        note=about,
    )
    shares, participation = _principal(points)
    angles = _angles(moves, norms)
    spacing = np.unique(np.diff(steps))
    even = len(spacing) == 1 and spacing[0] > 0 and n >= FEWEST
    return PathStatistics(
        steps=steps,
        length=length,
        displacement=reach,
        tortuosity=_tortuosity(length, reach),
        turning_angle=_mean_angle(angles),
        participation_ratio=Estimate(
            participation,
            n=n,
            exact=not projected,
            method="participation ratio of the principal variances",
            note=about,
        ),
        explained_variance=shares,
        turning_angles=angles,
        diffusion=diffusion(points, spacing=float(spacing[0])) if even else None,
        walk={
            "tortuosity": float(np.sqrt(n_moves)),
            "turning_angle": 90.0,
            "diffusion_exponent": 0.5,
            "participation_ratio": walk_participation(n),
            "first_component": float(walk_variances(n, 1)[0]),
        },
        notes=tuple(notes),
    )


def compare_paths(trajectories: Mapping[str, Trajectory]) -> pd.DataFrame:
    """Return the statistics of several paths in one table, such as those of several optimizers.

    Parameters
    ----------
    trajectories : mapping of str to Trajectory
        By the name of the row.

    Returns
    -------
    pandas.DataFrame
        One row a path, one column a number of :attr:`PathStatistics.scalars`, with ``"..._stderr"``
        beside those that have a standard error, ``"..._walk"`` beside those that a random walk has
        too, and the last ``loss`` that was recorded.

    Raises
    ------
    ValueError
        No paths, or one that :func:`path_statistics` refuses; the message names it.
    """
    import pandas as pd

    if not trajectories:
        raise ValueError("there are no paths; give trajectories by name, {'SGD': ..., 'Adam': ...}")
    table: dict[str, dict[str, Any]] = {}
    for name, trajectory in trajectories.items():
        try:
            found = path_statistics(trajectory)
        except ValueError as error:
            raise ValueError(f"path {name!r}: {error}") from error
        row: dict[str, Any] = {}
        for scalar, one in found.scalars.items():
            row[scalar] = one.value
            if not one.exact and not np.isnan(one.stderr):
                row[f"{scalar}_stderr"] = one.stderr
            if scalar in found.walk:
                row[f"{scalar}_walk"] = found.walk[scalar]
        row["loss"] = trajectory.losses[-1]
        table[name] = row
    frame: pd.DataFrame = pd.DataFrame.from_dict(table, orient="index")
    return frame


def _length(
    trajectory: Trajectory, rows: Array, between: float, about: str
) -> tuple[Estimate, float]:
    """Return the distance travelled, and in how many moves."""
    meta, first, last = trajectory.meta, int(rows[0]), int(rows[-1])
    arc = meta.get("arc_length")
    if arc is None:
        method = "sum of the distances of consecutive points"
        found = Estimate(between, n=len(rows), exact=not about, method=method, note=about)
        return found, float(len(rows) - 1)
    every = meta.get("every") or 1
    looks = float(trajectory.steps[last] - trajectory.steps[first]) / every
    unmeasured = meta.get("unmeasured_steps") or [0] * len(trajectory)
    missing = unmeasured[last] - unmeasured[first]
    notes = [f"without {missing} moves from or to what is not finite"] if missing else []
    if every > 1:
        notes.append(f"of the parameters at every {every}th step")
    found = Estimate(
        arc[last] - arc[first],
        n=round(looks),
        exact=not missing,
        method="sum of the lengths of the steps, before any projection",
        note="; ".join(notes),
    )
    return found, max(looks, 1.0)


def _tortuosity(length: Estimate, reach: Estimate) -> Estimate:
    method = "length over displacement"
    if not reach.value:
        return Estimate.undefined("the path ends where it began", n=length.n, method=method)
    note = "; ".join(filter(None, (length.note, reach.note)))
    exact = length.exact and reach.exact
    value = length.value / reach.value
    return Estimate(value, n=length.n, exact=exact, method=method, note=note)


def _angles(moves: Array, norms: Array) -> Array:
    """Return the angle from each displacement to the next, in degrees."""
    products = np.einsum("ij,ij->i", moves[1:], moves[:-1])
    sizes = norms[1:] * norms[:-1]
    cosines = np.divide(products, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
    angles: Array = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return angles


def _mean_angle(angles: Array) -> Estimate:
    known = angles[~np.isnan(angles)]
    method = "mean over turns; jackknife over ten stretches of time"
    if not len(known):
        return Estimate.undefined("the path stands still at every other step", method=method)
    stderr = block_jackknife(lambda kept: float(known[kept].mean()), len(known))
    note = f"{len(angles) - len(known)} turns at which it stood still are left out"
    missing = len(known) < len(angles)
    return Estimate(known.mean(), stderr, len(known), method=method, note=note if missing else "")


def _principal(points: Array) -> tuple[Array, float]:
    """Return shares of variance, the largest first, and their participation ratio."""
    centred = points - points.mean(axis=0)
    n, d = centred.shape
    gram = centred @ centred.T if n <= d else centred.T @ centred
    variances = np.linalg.eigvalsh(gram)[::-1][: min(n - 1, d)].clip(min=0)
    total = variances.sum()
    return variances / total, float(total**2 / np.square(variances).sum())
