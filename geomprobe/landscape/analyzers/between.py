"""The analyzers of what lies between models: a line, a curve, and the barriers of several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import nn

from geomprobe.evidence import Evidence, Loss, Samples, require_counts
from geomprobe.findings import Estimate, Finding
from geomprobe.landscape.alignment import Alignment, align, distance
from geomprobe.landscape.analyzers.surface import NO_LOSS
from geomprobe.landscape.barriers import linear_barrier
from geomprobe.landscape.connectivity import connectivity_matrix
from geomprobe.landscape.copies import require_alike
from geomprobe.landscape.curves import low_loss_curve
from geomprobe.landscape.paths import LossPath
from geomprobe.landscape.tracing import UNKNOWN
from geomprobe.storage import Array

_NEEDS = frozenset({"model", "data", "others"})
_CHECKED = 64  # Samples on which an aligned copy is checked to be the same function.
_SEARCH = (
    "Whether there is a lower way: {} that was not found may exist. And a barrier says nothing of "
    "how well either model generalizes."
)


@dataclass(frozen=True)
class LineBetween:
    """The loss on the straight line to another model, as it is and with its units matched.

    Parameters
    ----------
    points : int
        Positions on the line.
    reset_bn : bool
        Take the running statistics of batch normalization anew at each.
    test : Samples, optional
        Others than the evidence holds, for a second barrier.
    max_samples : int
        Of more samples, so many are drawn at random.

    Notes
    -----
    Yields one finding for each other model, under its name. Arrays: mean losses ``path_straight``
    and ``path_aligned`` over ``path_positions``, their standard errors, and those of the test data.
    Two times ``points`` passes, and two alignments.
    """

    points: int = 25
    reset_bn: bool = True
    test: Samples | None = field(default=None, repr=False, compare=False)
    max_samples: int = 512

    name: ClassVar[str] = "mode_connectivity"
    needs: ClassVar[frozenset[str]] = _NEEDS
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = _SEARCH.format("a better order of the units, or a curve,")
    readings: ClassVar[Mapping[str, str]] = {
        "barrier": "How far the mean loss on the straight line rises above that of its ends, by "
        "interpolation: 0 where both models lie in one valley.",
        "test_barrier": "The same on the test data.",
        "aligned_barrier": "The barrier once the units of the other model stand in the places of "
        "those of the model that they are most like. What alignment takes away was a matter of "
        "their order; what it leaves lies between the functions.",
        "aligned_test_barrier": "The same on the test data.",
        "distance": "Euclidean distance of the parameters.",
        "aligned_distance": "The same once the units are matched.",
        "symmetry_distance": "The same modulo rescalings too, each unit with incoming weights of "
        "norm one: 0 for models that differ by symmetries alone.",
        "moved_units": "How many interchangeable units changed their place.",
    }

    def __post_init__(self) -> None:
        require_counts(3, points=self.points)
        require_counts(2, max_samples=self.max_samples)

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding for each other model."""
        assert evidence.model is not None
        data, thinned = evidence.at_most(self.max_samples)
        for name, other in evidence.others.items():
            notes = [thinned] if thinned else []
            try:
                require_alike({"the model": evidence.model, name: other})
                found = self._between(evidence, name, other, data, notes)
            except Exception as reason:
                found = Finding(self.name, name, failed=_why(reason))
            yield found

    def _between(
        self, evidence: Evidence, name: str, other: nn.Module, data: Samples, notes: list[str]
    ) -> Finding:
        model = evidence.model
        assert model is not None
        ends, scalars, arrays = {"": other}, dict[str, Estimate](), dict[str, Array]()
        try:
            few = data.take(slice(0, _CHECKED))
            found = align(model, other, few, random_state=evidence.seed)
            apart = distance(model, other, few, random_state=evidence.seed)
        except ValueError as reason:
            unmatched = Estimate.undefined(f"the units cannot be matched: {reason}")
            scalars["aligned_barrier"] = unmatched
        else:
            ends["aligned_"] = found.model
            scalars |= _distances(found) | {"symmetry_distance": apart}
            notes += _unmoved(found)
        for way, end in ends.items():
            try:
                line = linear_barrier(
                    model,
                    end,
                    _with_targets(data),
                    _given(evidence.loss),
                    test=self.test,
                    points=self.points,
                    reset_bn=self.reset_bn,
                )
            except ValueError as reason:
                scalars[f"{way}barrier"] = Estimate.undefined(str(reason))
                continue
            scalars[f"{way}barrier"] = line.barrier
            if line.test is not None:
                scalars[f"{way}test_barrier"] = line.test_barrier
            arrays |= _drawn("aligned" if way else "straight", line.train, line.test)
        ordered = {stat: scalars[stat] for stat in self.readings if stat in scalars}
        return Finding(self.name, name, ordered, arrays, tuple(notes))


@dataclass(frozen=True)
class CurveBetween:
    """A curve to another model, trained so that the loss on it is low.

    Parameters
    ----------
    bends, steps, batch_size, points : int
        As for :func:`~geomprobe.landscape.low_loss_curve`.
    test : Samples, optional
        Others than the evidence holds, on which the curve is looked at too.
    max_samples : int
        Of more samples, so many are drawn at random.

    Notes
    -----
    Yields one finding for each other model, under its name. Arrays: mean losses ``path_curve`` and
    ``path_straight`` over ``path_positions``, and their standard errors. Four gradients a step.
    """

    bends: int = 3
    steps: int = 200
    batch_size: int = 64
    points: int = 25
    test: Samples | None = field(default=None, repr=False, compare=False)
    max_samples: int = 512

    name: ClassVar[str] = "low_loss_curve"
    needs: ClassVar[frozenset[str]] = _NEEDS
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = _SEARCH.format("a curve")
    readings: ClassVar[Mapping[str, str]] = {
        "curve_barrier": "How far the mean loss on the curve rises above that of its ends, by "
        "interpolation: 0 where a bent valley connects the models.",
        "curve_test_barrier": "The same on the test data, which the curve was not trained on.",
        "stretch": "Length of the curve over the distance of its ends: 1 for a straight line.",
    }

    def __post_init__(self) -> None:
        require_counts(1, bends=self.bends, steps=self.steps)
        require_counts(2, batch_size=self.batch_size, max_samples=self.max_samples)
        require_counts(3, points=self.points)

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding for each other model."""
        model = evidence.model
        assert model is not None
        data, thinned = evidence.at_most(self.max_samples)
        for name, other in evidence.others.items():
            try:
                ends = model, other, _with_targets(data), _given(evidence.loss)
                curve = low_loss_curve(
                    *ends,
                    bends=self.bends,
                    steps=self.steps,
                    batch_size=self.batch_size,
                    points=self.points,
                    test=self.test,
                    random_state=evidence.seed,
                )
                line = linear_barrier(*ends, points=self.points, reset_bn=True)
            except Exception as reason:
                yield Finding(self.name, name, failed=_why(reason))
                continue
            scalars = {"curve_barrier": curve.barrier}
            if curve.test is not None:
                scalars["curve_test_barrier"] = curve.test_barrier
            method = f"by the polygon of {self.points} positions"
            scalars["stretch"] = Estimate(curve.stretch, method=method)
            arrays = _drawn("straight", line.train) | _drawn("curve", curve.path, curve.test)
            yield Finding(self.name, name, scalars, arrays, (thinned,) if thinned else ())


@dataclass(frozen=True)
class BarriersBetween:
    """The barriers between every two of three models or more, before and after alignment.

    Parameters
    ----------
    points : int
        Positions on each line.
    reset_bn : bool
        Take the running statistics of batch normalization anew at each.
    max_samples : int
        Of more samples, so many are drawn at random.
    first : str
        What the model is called, before the others.

    Notes
    -----
    Yields one finding, or none for two models, of which ``mode_connectivity`` tells all. Arrays:
    ``barriers`` and ``aligned_barriers``, (k, k). An alignment and twice ``points`` passes a pair.
    """

    points: int = 11
    reset_bn: bool = True
    max_samples: int = 512
    first: str = "model"

    name: ClassVar[str] = "connectivity_matrix"
    needs: ClassVar[frozenset[str]] = _NEEDS
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = LineBetween.caveat
    readings: ClassVar[Mapping[str, str]] = {
        "mean_barrier": "Mean over all pairs of how far the loss on the straight line rises above "
        "that of its ends: 0 where all models lie in one valley.",
        "mean_aligned_barrier": "The same with the units of the second of each pair in the places "
        "of those of the first that they are most like.",
        "loss_spread": "Standard deviation of the losses of the models: how far their minima "
        "differ in height.",
    }

    def __post_init__(self) -> None:
        require_counts(3, points=self.points)
        require_counts(2, max_samples=self.max_samples)

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about all of several models."""
        assert evidence.model is not None
        if len(evidence.others) < 2:
            return
        data, thinned = evidence.at_most(self.max_samples)
        names = [self.first, *evidence.others]
        try:
            found = connectivity_matrix(
                [evidence.model, *evidence.others.values()],
                _with_targets(data),
                _given(evidence.loss),
                names=names,
                points=self.points,
                reset_bn=self.reset_bn,
                random_state=evidence.seed,
            )
        except ValueError as reason:
            yield Finding(self.name, "model", failed=str(reason))
            return
        assert found.aligned is not None
        scalars = {
            "mean_barrier": _mean(found.barriers),
            "mean_aligned_barrier": _mean(found.aligned),
            "loss_spread": found.spread,
        }
        arrays = {"barriers": found.barriers, "aligned_barriers": found.aligned}
        numbered = "; ".join(f"{place}. {name}" for place, name in enumerate(names, start=1))
        notes = (f"Rows and columns: {numbered}.", *([thinned] if thinned else []))
        yield Finding(self.name, "model", scalars, arrays, notes)


def _why(error: Exception) -> str:
    """Return the reason for which nothing is found about one other model."""
    told = isinstance(error, ValueError)  # Of our own, in words.
    return str(error) if told else f"{type(error).__name__}: {error}"


def _given(loss: Loss | None) -> Loss:
    """Return a loss; raise ValueError where there is none."""
    if loss is None:
        raise ValueError(NO_LOSS)
    return loss


def _with_targets(data: Samples) -> Samples:
    """Return data; raise ValueError where they have no targets."""
    if data.targets is None:
        raise ValueError("there are no targets to take the loss of: give data with targets")
    return data


def _distances(found: Alignment) -> dict[str, Estimate]:
    before, after = (
        Estimate(value, exact=True, method="Euclidean, over parameters")
        for value in (found.distance_before, found.distance_after)
    )
    units = sum(found.symmetries.spaces.values())
    moved = Estimate(found.moved, n=units, exact=True, method=found.method)
    return {"distance": before, "aligned_distance": after, "moved_units": moved}


def _unmoved(found: Alignment) -> list[str]:
    """Return which axes keep their order for want of a rule, or that all do."""
    notes = [
        f"{axis} keeps its order: {reason}."
        for axis, reason in found.symmetries.pinned.items()
        if reason.endswith(UNKNOWN)
    ]
    if not found.symmetries.levels:
        notes.append("No units are interchangeable: alignment changes nothing.")
    return notes


def _drawn(kind: str, train: LossPath, test: LossPath | None = None) -> dict[str, Array]:
    """Return the mean losses along a path, as a report draws them."""
    arrays = {
        "path_positions": train.positions,
        f"path_{kind}": train.mean,
        f"path_{kind}_stderr": train.stderr,
    }
    return arrays if test is None else {**arrays, f"path_{kind}_test": test.mean}


def _mean(barriers: Array) -> Estimate:
    pairs = barriers[np.triu_indices(len(barriers), 1)]
    note = "pairs share their models: no standard error"
    return Estimate(float(pairs.mean()), n=len(pairs), method="mean over pairs", note=note)
