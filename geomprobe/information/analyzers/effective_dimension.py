"""The analyzer of the effective dimension, local and global."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from geomprobe.evidence import Evidence, require_counts
from geomprobe.findings import Estimate, Finding
from geomprobe.hooks import quiet
from geomprobe.information.analyzers.shared_gram import (
    NO_LOSS,
    Limits,
    estimate_unless_zero,
    likelihood_for,
    model_and_samples,
    provenance,
    shared_gram,
)
from geomprobe.information.convergence import METHOD, dimension_by_inputs
from geomprobe.information.effective_dimension import (
    global_effective_dimension,
    resolution,
    smallest_valid_n,
)
from geomprobe.information.fisher import fisher_gram
from geomprobe.information.gram import FisherGram
from geomprobe.information.likelihoods import Likelihood
from geomprobe.information.parameters import parameter_draws
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array

_CURVE_POINTS = 49


@dataclass(frozen=True)
class EffectiveDimension:
    """Local and global effective dimension (Abbas et al. 2021) from the true Fisher information.

    Parameters
    ----------
    max_samples : int, optional
        Of more samples, this many are drawn at random; by default all that the evidence holds.
    gamma : float
        Constant of the resolution, in (0, 1].
    n : int, optional
        Number of data that sets the resolution; by default the number of training samples.
    draws : int
        Draws of the parameters for the global effective dimension; 0 leaves it out.
    radius : float, optional
        Draw from the ball of this radius around the present parameters, instead of from the
        model's initialisation.
    likelihood : Likelihood, optional
        What the outputs mean; by default what the evidence's loss says.
    max_rows, max_gigabytes : int, float
        As for :class:`FisherInformation`.
    """

    max_samples: int | None = None
    gamma: float = 1.0
    n: int | None = None
    draws: int = 4
    radius: float | None = None
    likelihood: Likelihood | None = None
    max_rows: int = 2048
    max_gigabytes: float = 2.0

    name: ClassVar[str] = "effective_dimension"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    caveat: ClassVar[str] = (
        "How many parameters are needed, or how the model generalizes: it depends on n, on the "
        "number of inputs and on the scale of the Fisher information."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "local": (
            "How many directions of the parameters n data can tell apart at the trained model; it "
            "grows with the number of inputs it is computed from, and smaller has not been shown "
            "to mean better generalization."
        ),
        "local_limit": (
            "What the local effective dimension tends to as the number of inputs it is computed "
            "from grows, by extrapolation; undefined where the growth shows no end, which is the "
            "rule for networks with more parameters than gradients."
        ),
        "local_normalized": (
            "The local effective dimension per parameter, for models of different size; it may "
            "exceed 1 where n is close to the smallest valid one."
        ),
        "global": (
            "The same averaged over draws of the parameters: what the architecture could express, "
            "and nothing about the trained model."
        ),
    }

    def __post_init__(self) -> None:
        require_counts(1, max_samples=self.max_samples)
        require_counts(0, draws=self.draws)
        require_counts(2, n=self.n)
        smallest_valid_n(self.gamma)

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        likelihood = likelihood_for(self.likelihood, evidence)
        if likelihood is None:
            yield Finding(self.name, "model", failed=NO_LOSS)
            return
        gram = shared_gram(evidence, "true", likelihood, self._limits)
        n, origin = self._n(evidence)
        grid = _grid(n, self.gamma)
        try:
            kappa, invalid = f"{resolution(n, self.gamma):.6g}", ""
            points = np.append(grid, n)
        except ValueError as error:
            kappa, invalid = "undefined", str(error)
            points = np.append(grid, grid[0])
        notes = [
            *provenance(gram, evidence),
            f"n = {n} ({origin}), gamma = {self.gamma:g}, kappa = {kappa}.",
            f"Normaliser: d = {gram.n_parameters} over tr F = {gram.trace():.6g} "
            "for the local form.",
            f"It has not converged in the number of inputs, N = {gram.n_samples}: it grows with N, "
            "and the standard error does not contain that bias. Compare models at equal N and n.",
        ]

        curve = _local_curve(gram, points, self.gamma, evidence.seed)
        arrays = {"n": grid, "n_used": np.array([n])}
        arrays |= {"local_curve": curve[0][:-1], "local_curve_stderr": curve[1][:-1]}
        method = "ln det(I + kappa F) / ln kappa at the present parameters; delete-half jackknife"
        local = _last(curve, gram.n_samples, method, invalid)
        if self.n is None and evidence.n_train is None and not invalid:
            local = replace(local, note=f"at n = {n}, {origin}")
        scalars = {"local": local, "local_normalized": _divided(local, gram.n_parameters)}
        scalars["local_limit"], by_inputs = _by_inputs(gram, n, self.gamma, evidence.seed, invalid)
        arrays |= by_inputs
        if self.draws:
            method = f"{self.draws} draws {self._origin_of_draws()}; jackknife over draws"
            try:
                spectra = self._spectra(evidence, likelihood)
            except ValueError as error:
                scalars["global"] = Estimate.undefined(str(error), method=method)
            else:
                curve = _global_curve(spectra, points, gram.n_parameters, self.gamma)
                arrays |= {"global_curve": curve[0][:-1], "global_curve_stderr": curve[1][:-1]}
                scalars["global"] = _last(curve, self.draws, method, invalid)
                trace = np.mean([one.sum() for one in spectra])
                notes.append(
                    f"Normaliser: d over a mean tr F of {trace:.6g} for the global form, of "
                    f"{self.draws} draws."
                )
        yield Finding(self.name, "model", scalars, arrays, tuple(notes))

    @property
    def _limits(self) -> Limits:
        return self.max_samples, self.max_rows, self.max_gigabytes

    def _n(self, evidence: Evidence) -> tuple[int, str]:
        """Return the n to use, and where it is from."""
        if self.n is not None:
            return self.n, "as asked for"
        if evidence.n_train is not None:
            return evidence.n_train, "training samples"
        assert evidence.data is not None
        return len(evidence.data), "the samples kept: give n_train, the number of training samples"

    def _origin_of_draws(self) -> str:
        if self.radius is None:
            return "of the parameters from each module's own initialisation (reset_parameters)"
        return f"of the parameters, uniform in the ball of radius {self.radius:g} around the model"

    def _spectra(self, evidence: Evidence, likelihood: Likelihood) -> list[Array]:
        model, data = model_and_samples(evidence, self._limits)
        drawn = parameter_draws(model, self.draws, evidence.seed, radius=self.radius)
        with quiet(model):
            return [fisher_gram(one, data, likelihood=likelihood).significant() for one in drawn]


Curve = tuple[Array, Array]  # values at each n, and their standard errors


def _grid(n: int, gamma: float) -> Array:
    lowest = smallest_valid_n(gamma)
    highest = max(10**6, 10 * n, 10 * lowest)
    return np.unique(np.geomspace(lowest, highest, _CURVE_POINTS).round().astype(np.int64))


def _local_curve(gram: FisherGram, points: Array, gamma: float, seed: int) -> Curve:
    def values(samples: Array) -> Array:
        return np.asarray(gram.subset(samples).effective_dimension(points, gamma))

    stderrs = delete_half_stderr(values, gram.n_samples, seed=seed)
    return values(np.arange(gram.n_samples)), stderrs


def _by_inputs(
    gram: FisherGram, n: int, gamma: float, seed: int, invalid: str
) -> tuple[Estimate, dict[str, Array]]:
    """Return the limit of many inputs, and the growth towards it."""
    try:
        growth = dimension_by_inputs(gram, n, gamma, seed=seed)
    except ValueError as error:
        return Estimate.undefined(invalid or str(error), n=gram.n_samples, method=METHOD), {}
    return growth.limit, {
        "inputs": growth.inputs,
        "local_by_inputs": growth.dimensions,
        "local_by_inputs_stderr": growth.stderrs,
    }


def _global_curve(spectra: list[Array], points: Array, n_parameters: int, gamma: float) -> Curve:
    def values(drawn: list[Array]) -> Array:
        dimensions = global_effective_dimension(
            drawn, points, n_parameters=n_parameters, gamma=gamma
        )
        return np.asarray(dimensions)

    draws = len(spectra)
    if draws == 1:
        return values(spectra), np.full(points.shape, np.nan)
    without_one = [values(spectra[:i] + spectra[i + 1 :]) for i in range(draws)]
    return values(spectra), np.sqrt(draws - 1) * np.std(without_one, axis=0)


def _last(curve: Curve, n: int, method: str, invalid: str) -> Estimate:
    """Return the last point of a curve as an estimate, unless it is invalid for a reason."""
    if invalid:
        return Estimate.undefined(invalid, n=n, method=method)
    return estimate_unless_zero(curve[0][-1], curve[1][-1], n, method)


def _divided(estimate: Estimate, divisor: int) -> Estimate:
    return replace(estimate, value=estimate.value / divisor, stderr=estimate.stderr / divisor)
