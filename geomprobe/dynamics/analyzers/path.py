"""The analyzer of the path of the parameters, beside a random walk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from geomprobe.dynamics.path_statistics import path_statistics
from geomprobe.evidence import Evidence
from geomprobe.findings import Estimate, Finding
from geomprobe.random_walk import walk_variances

_COMPONENTS = 20
_FEWEST = 3


@dataclass(frozen=True)
class TrainingPath:
    """Length, straightness, diffusion and dimension of the path, beside those of a random walk.

    Notes
    -----
    Yields one finding about the model; see :func:`~geomprobe.dynamics.path_statistics`. Arrays:
    ``explained_variance`` and ``walk_explained_variance``, shares of up to 20 components;
    ``lags``, in steps, and ``root_mean_square_displacement``.
    """

    name: ClassVar[str] = "training_path"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "Where the training will go, or what it has found: a random walk gives many of these "
        "numbers too, and stands beside them."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "length": "Distance that the parameters travelled: about learning rate times the sum of "
        "the gradient norms.",
        "displacement": "Distance of the last parameters from the first.",
        "tortuosity": "Length over displacement: 1 for a straight path.",
        "turning_angle": "Mean angle in degrees from one step to the next: 0 for a straight path, "
        "90 for a random walk, more where steps go to and fro across a valley.",
        "diffusion_exponent": "By which power of time the distance from a point grows: 1 for a "
        "straight path, one half for a random walk, less where it is confined.",
        "participation_ratio": "Effective number of dimensions of the path; a random walk has at "
        "most two and a half, so that a small number is no sign of a simple path.",
        "first_component": "Share of the variance of the path along its first principal direction; "
        "61 percent for a long random walk.",
        "walk_tortuosity": "Length over displacement of a random walk of as many steps.",
        "walk_participation_ratio": "Effective number of dimensions of a random walk of as many "
        "points.",
        "walk_first_component": "Share of the variance of a random walk of as many points along "
        "its first principal direction.",
    }

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        trajectory = evidence.trajectory
        assert trajectory is not None
        points = trajectory.points[np.isfinite(trajectory.points).all(axis=1)]
        if len(points) < _FEWEST or (points == points[:1]).all():
            reason = f"a path takes {_FEWEST} finite points that differ, there are {len(points)}"
            yield Finding(self.name, "model", failed=reason)
            return
        found = path_statistics(trajectory)
        scalars = dict(found.scalars)
        for scalar in ("tortuosity", "participation_ratio", "first_component"):
            method = "random walk, in closed form"
            scalars[f"walk_{scalar}"] = Estimate(
                found.walk[scalar], n=len(found.steps), exact=True, method=method
            )
        shares = found.explained_variance[:_COMPONENTS]
        arrays = {
            "explained_variance": shares,
            "walk_explained_variance": walk_variances(len(found.steps), len(shares)),
        }
        if found.diffusion is not None:
            arrays["lags"] = found.diffusion.lags
            arrays["root_mean_square_displacement"] = np.sqrt(found.diffusion.squares)
        yield Finding(self.name, "model", scalars, arrays, found.notes)
