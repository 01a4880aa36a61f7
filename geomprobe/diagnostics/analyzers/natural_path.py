"""The analyzer of a training path in the metric of the predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from geomprobe.clouds import Trajectory
from geomprobe.dynamics.natural_angle import NaturalAngle, natural_angle
from geomprobe.dynamics.natural_length import natural_length
from geomprobe.dynamics.output_metric import Metric
from geomprobe.evidence import NO_LOSS, Evidence, Loss, Samples
from geomprobe.findings import Estimate, Finding
from geomprobe.hooks.selection import unwrap
from geomprobe.information.likelihoods import Likelihood, likelihood_of
from geomprobe.jacobians import split, trainable_parameters
from geomprobe.landscape.copies import copied
from geomprobe.storage import Array

_ANGLES = ("to_natural", "to_gradient", "between")


@dataclass(frozen=True)
class NaturalPath:
    """The path of the parameters in the metric of the predictions, and its angles with descent.

    Parameters
    ----------
    likelihood : Likelihood, optional
        Of the model's outputs, whose Fisher information is the metric; by default that of the loss.
    segments : int
        In which the length is measured: of a longer path, points evenly spaced.
    angles : int
        Updates, evenly spaced along the path, whose angles are measured.
    damping : float
        Of the natural gradient.
    max_samples : int
        Of more samples, so many are drawn at random.

    Notes
    -----
    Yields one finding about the model; see :func:`~geomprobe.dynamics.natural_length` and
    :func:`~geomprobe.dynamics.natural_angle`, for which the path must hold the parameters
    themselves, as that of ``TrajectoryRecorder(model)``. An update goes from one point to the next:
    of a path that is not recorded at every step it is a sum of steps. Arrays: ``segment_steps``, at
    the ends of segments, and their ``segment_lengths``; ``angle_steps``, at the starts of updates,
    and their ``to_natural``, ``to_gradient`` and ``between``, in degrees, NaN where there are none.
    """

    likelihood: Likelihood | None = None
    segments: int = 100
    angles: int = 8
    damping: float = 1e-3
    max_samples: int = 256

    name: ClassVar[str] = "natural_path"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory", "model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "Which optimizer is the better one: angles depend on damping and parametrisation, and an "
        "update of a small batch is mostly noise beside the gradient of these samples."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "natural_length": "Distance that the predictions travelled, in the metric of the Fisher "
        "information: rescaling the parameters does not change it.",
        "natural_per_unit": "How far the predictions move for a way of length one in the "
        "parameters.",
        "to_natural": "Mean angle in degrees of an update with steepest descent in the metric of "
        "the predictions: in thousands of dimensions 90 is what chance gives.",
        "to_gradient": "Mean angle in degrees of an update with the negative gradient: 0 for "
        "gradient descent.",
        "between": "Mean angle in degrees between these two: how far the two metrics disagree.",
    }

    def __post_init__(self) -> None:
        for name in ("segments", "angles", "max_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.damping < math.inf:
            raise ValueError(f"damping must be positive and finite, got {self.damping}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        if evidence.loss is None:
            yield Finding(self.name, "model", failed=NO_LOSS)
            return
        assert evidence.model is not None
        assert evidence.trajectory is not None
        likelihood = self.likelihood or likelihood_of(evidence.loss)
        model, (data, note) = unwrap(evidence.model), evidence.at_most(self.max_samples)
        path = evidence.trajectory
        ends = _spread(len(path), self.segments + 1)
        try:
            found = natural_length(model, data, _some(path, ends), metric=likelihood)
        except ValueError as reason:
            undefined = Estimate.undefined(str(reason))
            yield Finding(self.name, "model", dict.fromkeys(self.readings, undefined))
            return
        length, way = found.length, float(found.euclidean.sum())
        scalars = {"natural_length": length, "natural_per_unit": _over(length, way)}
        arrays = {"segment_steps": path.steps[ends[1:]], "segment_lengths": found.segments}
        notes = [note] if note else []
        if len(ends) < len(path):
            notes.append(f"Length through {len(ends)} of the {len(path)} points of the path.")
        try:
            starts, angles, reasons = self._angles(model, data, evidence.loss, path, likelihood)
        except ValueError as reason:
            scalars |= dict.fromkeys(_ANGLES, Estimate.undefined(str(reason)))
        else:
            arrays["angle_steps"] = path.steps[starts]
            measured = [one for one in angles if one is not None]
            method = f"mean over {len(measured)} updates along the path"
            if summed := _summed(np.diff(path.steps)[starts]):
                method += f", each {summed}"
                notes.append(f"An update is {summed}.")
            if reasons:
                missing = f"{len(reasons)} of {len(angles)} updates have no angles"
                notes.append(f"{missing}: {reasons[0]}.")
            method += f"; damping {self.damping:g}"
            for name in _ANGLES:
                scalars[name] = _mean([getattr(one, name) for one in measured], method)
                arrays[name] = np.array([getattr(one, name, math.nan) for one in angles])
            notes += _unsolved(measured)
        yield Finding(self.name, "model", scalars, arrays, tuple(notes))

    def _angles(
        self, model: nn.Module, data: Samples, loss: Loss, path: Trajectory, metric: Metric
    ) -> tuple[Array, list[NaturalAngle | None], list[str]]:
        """Return starts of updates that moved, their angles, and why some of them have none."""
        moved = np.flatnonzero((path.points[1:] != path.points[:-1]).any(axis=1))
        if not len(moved):
            raise ValueError("the path stands still, and no update has a direction")
        starts = moved[_spread(len(moved), self.angles)]
        own = copied(model)
        parameters = trainable_parameters(own)
        device = next(iter(parameters.values())).device
        angles: list[NaturalAngle | None] = []
        reasons = []
        for start in starts.tolist():
            before, after = torch.tensor(path.points[start : start + 2], device=device)
            for name, value in split(before, parameters).items():
                parameters[name].copy_(value)  # Those of the copy itself, detached.
            update = after - before
            try:
                angles.append(
                    natural_angle(own, data, update, loss=loss, metric=metric, damping=self.damping)
                )
            except ValueError as reason:
                angles.append(None)
                reasons.append(str(reason))
        if len(reasons) == len(angles):
            raise ValueError(reasons[0])
        return starts, angles, reasons


def _spread(there: int, count: int) -> Array:
    """Return the numbers of so many of those there are, evenly spaced, both ends among them."""
    return np.unique(np.linspace(0, there - 1, min(there, count)).round().astype(int))


def _some(path: Trajectory, rows: Array) -> Trajectory:
    return Trajectory(path.points[rows], path.steps[rows], path.losses[rows])


def _over(length: Estimate, way: float) -> Estimate:
    if not way:
        return Estimate.undefined("the path stands still", n=length.n)
    return Estimate(length.value / way, length.stderr / way, length.n, method=length.method)


def _summed(spans: Array) -> str:
    """Say of how many steps updates are the sum; nothing where each is one step."""
    low, high = spans.min(), spans.max()
    if high <= 1:
        return ""
    return f"the sum of {high} steps" if low == high else f"the sum of {low} to {high} steps"


def _mean(degrees: list[float], method: str) -> Estimate:
    n = len(degrees)
    stderr = float(np.std(degrees, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(np.mean(degrees)), stderr, n, method=method)


def _unsolved(angles: list[NaturalAngle]) -> list[str]:
    worst = max(one.residual for one in angles)
    if worst <= 1e-3:
        return []
    return [f"A natural gradient was found up to a residual of {worst:.1e}: take more damping."]
