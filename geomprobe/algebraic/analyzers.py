"""What algebra says of a trained model: its real parameters, its degree, and where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from geomprobe.algebraic.critical_points import classify_critical_point
from geomprobe.algebraic.effective_degree import effective_degree
from geomprobe.algebraic.functional_dimension import functional_dimension
from geomprobe.evidence import Evidence, Samples, forward
from geomprobe.findings import Estimate, Finding
from geomprobe.hooks import quiet
from geomprobe.jacobians import trainable_parameters

#: Outputs for each parameter that are enough for the rank of a Jacobian.
_ROWS_A_PARAMETER = 3


@dataclass(frozen=True)
class FunctionalDimension:
    """How many parameters of a model change what it computes, by the rank of its Jacobian.

    Parameters
    ----------
    max_parameters : int
        Of larger models the numbers are undefined.
    draws : int
        At how many random parameters to look as well.

    Notes
    -----
    Yields one finding about the model: ``functional_dimension``, ``redundant_parameters``,
    ``silent_parameters``, ``dimension_drop`` and ``rank_gap``. Arrays: ``singular_values``. More
    samples than three outputs a parameter are thinned to a uniform sample.
    """

    max_parameters: int = 2000
    draws: int = 1

    name: ClassVar[str] = "functional_dimension"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "How the model behaves on other inputs: the rank is that on these data, and more data "
        "can only raise it."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "functional_dimension": "In how many directions the parameters change the outputs on the "
        "data, to first order: what remains of the parameters after symmetries, and never more "
        "than the data have outputs.",
        "redundant_parameters": "Parameters less functional dimension: directions that change no "
        "output on the data; each hidden unit of a ReLU network has one at least.",
        "silent_parameters": "Parameters that change no output by themselves: weights of dead "
        "units, or of inputs that are always 0.",
        "dimension_drop": "How far the functional dimension is below that at random parameters of "
        "the same size: above 0, the parameters are singular, by dead or equal units for example.",
        "rank_gap": "Decades between the smallest singular value that counts and the largest that "
        "does not: below 3 the functional dimension is a matter of taste.",
    }

    def __post_init__(self) -> None:
        _require({"max_parameters": (self.max_parameters, 1), "draws": (self.draws, 0)})

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        model, data = _of(evidence)
        p = _n_parameters(model)
        if p > self.max_parameters:
            yield _too_large(self.name, self.readings, p, self.max_parameters)
            return
        data, note = _thinned(evidence, _ROWS_A_PARAMETER * p)
        found = functional_dimension(model, data, draws=self.draws, seed=evidence.seed)
        method = f"singular values of a Jacobian of {found.n_rows} outputs by {p} parameters"
        doubt = f"{found.doubtful} singular values are near the tolerance" if found.doubtful else ""

        def count(value: float) -> Estimate:
            exact = not found.doubtful
            return Estimate(value, found.doubtful, len(data), exact, method, doubt)

        scalars = {
            "functional_dimension": count(found.rank),
            "redundant_parameters": count(found.redundant),
            "silent_parameters": Estimate(
                sum(found.silent.values()), n=len(data), exact=True, method="columns of zeros"
            ),
            "dimension_drop": count(found.drop),
            "rank_gap": Estimate(np.log10(found.gap), n=len(data), exact=True, method=method)
            if found.rank
            else Estimate.undefined("no parameter changes any output"),
        }
        notes = [note, *found.notes, *_of_data(found.rank, found.rank_of_half, found.n_rows)]
        largest = sorted(found.redundancy.items(), key=lambda item: -item[1].sum())[:3]
        shares = [f"{name} {shares.sum():.1f}" for name, shares in largest if shares.sum() > 0.05]
        if shares:
            notes.append(f"Most of the redundant directions lie in {', '.join(shares)}.")
        arrays = {"singular_values": found.singular_values}
        yield Finding(self.name, "model", scalars, arrays, tuple(filter(None, notes)))


@dataclass(frozen=True)
class EffectiveDegree:
    """Of what degree polynomials must be to follow a model between two inputs.

    Parameters
    ----------
    tolerance : float
        Error to allow, over the variation, as root mean squares.
    segments : int
        Pairs of inputs.
    max_degree : int
        Largest degree that is tried.

    Notes
    -----
    Yields one finding about the model: ``effective_degree`` and ``nonlinearity``. Arrays:
    ``errors_by_degree``.
    """

    tolerance: float = 0.01
    segments: int = 64
    max_degree: int = 64

    name: ClassVar[str] = "effective_degree"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "What happens away from the segments between these inputs, or how well the model does."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "effective_degree": "Degree of the polynomials that follow the outputs between two inputs "
        "to the tolerance: 1 for a linear model, more the more it bends; it changes with the "
        "tolerance and with how far apart inputs are.",
        "nonlinearity": "What the best straight line between two inputs misses, as a share of the "
        "outputs' variation (root mean squares): 0 for a linear model, below 1 always.",
    }

    def __post_init__(self) -> None:
        _require({"segments": (self.segments, 4), "max_degree": (self.max_degree, 1)})
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must be in (0, 1), got {self.tolerance}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        model, data = _of(evidence)
        found = effective_degree(
            model,
            data,
            tolerance=self.tolerance,
            segments=self.segments,
            max_degree=self.max_degree,
            seed=evidence.seed,
        )
        scalars = {"effective_degree": found.degree, "nonlinearity": found.nonlinearity}
        notes = (f"Errors up to {self.tolerance:g} of the variation are allowed.",)
        yield Finding(self.name, "model", scalars, {"errors_by_degree": found.errors}, notes)


@dataclass(frozen=True)
class CriticalPoint:
    """What kind of point of the loss the parameters of a small model are.

    Parameters
    ----------
    max_parameters : int
        Of larger models the numbers are undefined.
    newton_steps : int
        Newton steps of a copy towards the critical point nearby.
    tolerance : float
        Relative gradient up to which a point is critical.

    Notes
    -----
    Yields one finding about the model: ``relative_gradient``, ``morse_index``,
    ``flat_directions``, ``symmetric_directions`` and ``unexplained_directions``. Arrays:
    ``hessian_eigenvalues``.
    """

    max_parameters: int = 500
    newton_steps: int = 0
    tolerance: float = 1e-5

    name: ClassVar[str] = "critical_point"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "That training has found a good minimum: the point is classified by its second order "
        "alone, on these data."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "relative_gradient": "Gradient norm over the largest curvature times the norm of the "
        "parameters: how far from critical; training seldom goes below 1e-5.",
        "morse_index": "Directions in which the loss falls on both sides: 0 at a minimum.",
        "flat_directions": "Directions without curvature beyond what rounding and the remaining "
        "gradient leave open.",
        "symmetric_directions": "Flat directions along which the model computes the same for all "
        "inputs, such as rescalings of units: they say nothing of the data.",
        "unexplained_directions": "Flat directions that are no symmetry: along them the data "
        "decide nothing to second order, as where there are fewer data than parameters.",
    }

    def __post_init__(self) -> None:
        _require(
            {
                "max_parameters": (self.max_parameters, 1),
                "newton_steps": (self.newton_steps, 0),
            }
        )
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must be in (0, 1), got {self.tolerance}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        model, data = _of(evidence)
        if evidence.loss is None:
            reason = "nothing says what the model minimises: pass loss=, that of its training"
            yield Finding(self.name, "model", failed=reason)
            return
        p = _n_parameters(model)
        if p > self.max_parameters:
            yield _too_large(self.name, self.readings, p, self.max_parameters)
            return
        found = classify_critical_point(
            model,
            data,
            evidence.loss,
            newton_steps=self.newton_steps,
            tolerance=self.tolerance,
            seed=evidence.seed,
        )
        method = f"all {p} eigenvalues of the Hessian"
        note = f"eigenvalues within {found.tolerance:.2g} of zero are flat"

        def count(value: float) -> Estimate:
            return Estimate(value, n=len(data), exact=True, method=method, note=note)

        scalars = {
            "relative_gradient": Estimate(
                found.relative_gradient, n=len(data), exact=True, method="gradient over all data"
            ),
            "morse_index": count(found.index),
            "flat_directions": count(found.flat),
            "symmetric_directions": count(found.symmetric),
            "unexplained_directions": count(found.unexplained),
        }
        notes = [f"Kind of point: {found.kind}."]
        if found.moved:
            notes.append(f"After Newton steps of {found.moved:.2g} of the parameters' norm.")
        arrays = {"hessian_eigenvalues": found.eigenvalues}
        yield Finding(self.name, "model", scalars, arrays, (*notes, *found.notes))


def _of(evidence: Evidence) -> tuple[nn.Module, Samples]:
    assert evidence.model is not None
    assert evidence.data is not None
    return evidence.model, evidence.data


def _n_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in trainable_parameters(model).values())


def _too_large(name: str, readings: Mapping[str, str], p: int, most: int) -> Finding:
    reason = f"{p} trainable parameters, and at most {most} are looked at; see max_parameters"
    return Finding(name, "model", {scalar: Estimate.undefined(reason) for scalar in readings})


def _thinned(evidence: Evidence, rows: int) -> tuple[Samples, str]:
    """Return a uniform sample of the data that has so many outputs, and what to say of it."""
    assert evidence.model is not None
    assert evidence.data is not None
    with quiet(evidence.model), torch.no_grad():
        outputs = forward(evidence.model, evidence.data.take([0]).inputs)
    size = outputs.numel() if isinstance(outputs, torch.Tensor) else 1
    return evidence.at_most(-(-rows // max(size, 1)))


def _of_data(rank: int, of_half: int, n_rows: int) -> list[str]:
    if rank == n_rows:
        return ["The dimension is as large as the data have outputs: more data give more."]
    if of_half < rank:
        return [f"Half of the inputs give {of_half}: more data may give more."]
    return []


def _require(parameters: Mapping[str, tuple[int, int]]) -> None:
    for name, (value, least) in parameters.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
