"""The analyzer of the loss around a model: widths, and slices for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from geomprobe.evidence import Evidence, Loss, Samples
from geomprobe.exceptions import MemoryEstimateError
from geomprobe.findings import Estimate, Finding
from geomprobe.landscape.basin_width import basin_width
from geomprobe.landscape.slices import LossSlice, loss_slice, uninterrupted
from geomprobe.landscape.trajectory_plane import trajectory_plane
from geomprobe.storage import Array

NO_LOSS = "there is no loss to look at: pass loss=, the one the model was trained with"
_MOST_DRAWN = 300  # Points of a path in a finding.


@dataclass(frozen=True)
class LossSurface:
    """How wide the loss is around a model, and what it looks like over two planes through it.

    Parameters
    ----------
    points : int
        Of the planes, along each direction.
    lines : int
        Random directions along which widths are measured.
    extent : float
        How far to go along random directions, as a share of the size of each filter.
    max_samples : int
        Of more samples, so many are drawn at random.

    Notes
    -----
    Yields one finding about a random plane, normalised by filter, and where the trajectory has the
    parameters themselves, one about its plane. Arrays: ``slice_values`` over ``slice_x`` and
    ``slice_y``, and of the plane of a trajectory ``slice_path`` and ``slice_random_walk``, each of
    at most 300 points. ``points ** 2`` passes a plane, and 21 a line.
    """

    points: int = 21
    lines: int = 8
    extent: float = 1.0
    max_samples: int = 512

    name: ClassVar[str] = "loss_slice"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "What the loss is like in other directions: a slice of a few dimensions through very "
        "many hides most of them."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "loss": "Mean loss of the model over the samples.",
        "doubling_width": "How far the filters can be moved at random before the loss has doubled, "
        "as a share of their size: rescaling whole layers does not change it; a smaller loss at "
        "the model makes it smaller.",
        "lower_share": "Share of the random plane where the loss is lower than that of the model "
        "by more than two standard errors of the difference: 0 around a minimum.",
        "explained_variance": "Share of the variance of the path that is in the plane drawn. Only "
        "what is above that of a random walk tells of the training.",
        "random_walk_variance": "The same of a random walk of as many points in many dimensions, "
        "whose path in such a plane is a Lissajous curve, and means nothing.",
    }

    def __post_init__(self) -> None:
        for name, least in (("points", 2), ("lines", 1), ("max_samples", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.extent < np.inf:
            raise ValueError(f"extent must be positive and finite, got {self.extent}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about a random plane, and one about that of the trajectory."""
        if evidence.loss is None:
            yield Finding(self.name, "model", failed=NO_LOSS)
            return
        model, data, loss, note = self._given(evidence)
        around = uninterrupted(
            loss_slice(
                model, data, loss, extent=self.extent, points=self.points, seed=evidence.seed
            )
        )
        width = basin_width(
            model, data, loss, lines=self.lines, extent=self.extent, seed=evidence.seed
        )
        scalars = {
            "loss": around.centre,
            "doubling_width": width,
            "lower_share": _lower_share(around),
        }
        notes = [*note, *around.notes]
        plane = None
        if evidence.trajectory is not None:
            try:
                plane = trajectory_plane(evidence.trajectory)
            except (ValueError, MemoryEstimateError) as reason:
                notes.append(f"No plane of the trajectory: {reason}")
        yield Finding(self.name, "model", scalars, _arrays(around), tuple(notes))
        if plane is None:
            return
        along = uninterrupted(loss_slice(model, data, loss, plane, points=self.points))
        explained = {
            "explained_variance": plane.explained,
            "random_walk_variance": plane.random_walk,
        }
        yield Finding(self.name, "model", explained, _arrays(along), (*note, *along.notes))

    def _given(self, evidence: Evidence) -> tuple[torch.nn.Module, Samples, Loss, list[str]]:
        model, loss = evidence.model, evidence.loss
        assert model is not None
        assert loss is not None
        data, note = evidence.at_most(self.max_samples)
        return model, data, loss, [note] if note else []


def _lower_share(around: LossSlice) -> Estimate:
    lower = around.values - around.centre.value < -2 * around.stderr
    if np.isnan(around.stderr).all():
        return Estimate.undefined("the loss has no standard errors by sample", n=lower.size)
    method = "points of the grid, at these directions"
    return Estimate(float(lower.mean()), n=lower.size, method=method)


def _arrays(found: LossSlice) -> dict[str, Array]:
    x, y = found.coordinates
    arrays = {"slice_x": x, "slice_y": y, "slice_values": found.values}
    if found.path is not None and found.random_walk is not None:
        some = np.unique(np.linspace(0, len(found.path) - 1, _MOST_DRAWN).round().astype(int))
        arrays |= {"slice_path": found.path[some], "slice_random_walk": found.random_walk[some]}
    return arrays
