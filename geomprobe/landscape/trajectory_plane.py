"""The plane in which a training path moved most, beside what a random walk would show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geomprobe.clouds import Trajectory
from geomprobe.findings import Estimate
from geomprobe.memory import require_memory
from geomprobe.random_walk import walk_components, walk_variances
from geomprobe.storage import Array
from geomprobe.values import ByValue

#: Parameters that are read in double precision at a time.
_CHUNK = 1 << 16


@dataclass(frozen=True, eq=False)
class TrajectoryPlane(ByValue):
    """The first two principal components of a path; made by :func:`trajectory_plane`.

    Parameters
    ----------
    directions : float64 array of shape (p, 2)
        Orthonormal columns.
    mean : float64 array of shape (p,)
        The mean of the points of the path.
    scores : float64 array of shape (T, 2)
        The path in the plane, from its mean.
    shares : float64 array of shape (T - 1,)
        Explained variance of every component, the largest first.
    """

    directions: Array
    mean: Array
    scores: Array
    shares: Array

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def explained(self) -> Estimate:
        """Share of the variance of the path that is in the plane."""
        return Estimate(
            self.shares[:2].sum(), exact=True, n=len(self), method="PCA of the points of the path"
        )

    @property
    def random_walk(self) -> Estimate:
        """The same of a random walk of as many points, in closed form."""
        return Estimate(
            walk_variances(len(self))[:2].sum(),
            exact=True,
            n=len(self),
            method="closed form for many dimensions",
        )

    @property
    def lissajous(self) -> Array:
        """A random walk with the variance of this path in the plane: array of shape (T, 2).

        Its signs are those that resemble the path more.
        """
        waves = walk_components(len(self))
        signs = np.where((waves * self.scores).sum(axis=0) < 0, -1.0, 1.0)
        whole = (self.scores**2).sum() / self.shares[:2].sum()
        drawn: Array = signs * waves * np.sqrt(whole * walk_variances(len(self))[:2])
        return drawn


def trajectory_plane(trajectory: Trajectory) -> TrajectoryPlane:
    """Return the plane of the first two principal components of a path of parameters.

    Parameters
    ----------
    trajectory : Trajectory
        Of the parameters themselves: recorded with ``dim=None``.

    Returns
    -------
    TrajectoryPlane

    Raises
    ------
    ValueError
        The trajectory is a projection, has fewer than three points, points that are not finite, or
        does not leave a line.
    MemoryEstimateError
        Its products do not fit.

    Notes
    -----
    Of the Gram matrix of the centred points, in double precision: O(T^2 p + T^3) time, O(T^2)
    memory beside the points. Each component points to where the path ends.

    References
    ----------
    Li, H. et al. (2018). Visualizing the loss landscape of neural nets. NeurIPS, section 7.
    """
    projection = trajectory.meta.get("projection")
    if projection is not None:
        raise ValueError(
            f"the trajectory is projected to {projection} dimensions, from which no parameters "
            "come back, so that it has no plane: record it with TrajectoryRecorder(model, dim=None)"
        )
    points = trajectory.points
    count, p = points.shape
    if count < 3 or p < 2:
        raise ValueError(
            f"a plane takes three points in two dimensions or more, got {count} in {p}"
        )
    unusable = int((~np.isfinite(points)).any(axis=1).sum())
    if unusable:
        raise ValueError(f"{unusable} of {count} points hold NaN or infinity; leave them out first")
    require_memory(
        8 * (3 * count**2 + 4 * p + 2 * count * min(p, _CHUNK)),
        f"principal components of {count} points",
        "Take every second point of the trajectory.",
    )
    mean = points.mean(axis=0, dtype=np.float64)
    gram = np.zeros((count, count))
    for start in range(0, p, _CHUNK):
        part = points[:, start : start + _CHUNK] - mean[start : start + _CHUNK]
        gram += part @ part.T
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1][:-1].clip(min=0), vectors[:, ::-1][:, :2]
    noise = count * np.finfo(np.float64).eps * values[0]
    if values[0] == 0 or values[1] <= noise:
        raise ValueError("the path does not leave a line: no plane is given by it")
    scores = vectors * np.sqrt(values[:2])
    scores = scores * np.where(scores[-1] < 0, -1.0, 1.0)
    directions = np.empty((p, 2))
    for start in range(0, p, _CHUNK):
        here = slice(start, start + _CHUNK)
        directions[here] = (points[:, here] - mean[here]).T @ (scores / values[:2])
    return TrajectoryPlane(directions, mean, scores, values / values.sum())
