"""Analyzers of the Fisher information: its spectrum, and the effective dimension it gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from geomprobe.evidence import Evidence
from geomprobe.findings import Estimate, Finding
from geomprobe.information.effective_dimension import (
    global_effective_dimension,
    resolution,
    smallest_valid_n,
)
from geomprobe.information.fisher import fisher_gram
from geomprobe.information.gram import FisherGram
from geomprobe.information.likelihoods import Likelihood
from geomprobe.information.parameters import parameter_draws
from geomprobe.information.shared_gram import (
    NO_LOSS,
    Limits,
    likelihood_for,
    model_and_samples,
    provenance,
    shared_gram,
)
from geomprobe.information.spectra import participation_ratio, stable_rank
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array

_LONGEST_SPECTRUM = 1024
_CURVE_POINTS = 49
_KINDS = ("true", "empirical")
_EMPIRICAL = ("trace", "largest_eigenvalue")


@dataclass(frozen=True)
class FisherInformation:
    """Trace and spectrum of the Fisher information, true and empirical.

    Parameters
    ----------
    max_samples : int, optional
        Of more samples, this many are drawn at random; by default all that the evidence holds.
    kinds : tuple of {"true", "empirical"}
        Which of the two to compute. Without targets the empirical one is left out with a note.
    likelihood : Likelihood, optional
        What the outputs mean; by default what the evidence's loss says.
    max_rows, max_gigabytes : int, float
        Fewer samples are used where their gradients, one for each output of each sample, would be
        more than so many, or take more memory. A note says so.
    """

    max_samples: int | None = None
    kinds: tuple[str, ...] = _KINDS
    likelihood: Likelihood | None = None
    max_rows: int = 2048
    max_gigabytes: float = 2.0

    name: ClassVar[str] = "fisher_information"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    readings: ClassVar[Mapping[str, str]] = {
        "trace": (
            "Twice the mean KL divergence, in nats, between the predictions before and after a "
            "small random step of the parameters, per unit of the step's variance; it changes with "
            "the scale of the parameters, and does not by itself say how well a model generalizes."
        ),
        "largest_eigenvalue": (
            "Sensitivity of the predictions along the most sensitive direction of the parameters; "
            "it is not the sharpness of the loss except where the model fits its data."
        ),
        "stable_rank": (
            "Trace over largest eigenvalue: how many directions as sensitive as the first would "
            "make up the trace; a small one means that a few directions rule, not that the others "
            "can be cut."
        ),
        "participation_ratio": (
            "How many equal eigenvalues would have this trace and this sum of squares; a second "
            "count of ruling directions, never below the stable rank, and not a count of "
            "parameters that matter."
        ),
        "empirical_trace": (
            "Mean squared norm of the loss gradient of a sample, at the labels of the data; it "
            "falls to zero as the model fits them, and is not the trace of the Fisher information."
        ),
        "empirical_largest_eigenvalue": (
            "Mean squared gradient along the direction in which the gradients of the samples agree "
            "most; it is not a curvature."
        ),
    }

    def __post_init__(self) -> None:
        if self.max_samples is not None:
            _require_at_least(self.max_samples, 1, "max_samples")
        if not self.kinds or not set(self.kinds) <= set(_KINDS):
            raise ValueError(f"kinds must be some of {_KINDS}, got {self.kinds!r}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        likelihood = likelihood_for(self.likelihood, evidence)
        if likelihood is None:
            yield Finding(self.name, "model", failed=NO_LOSS)
            return
        scalars: dict[str, Estimate] = {}
        arrays: dict[str, Array] = {}
        notes = []
        if "true" in self.kinds:
            gram = shared_gram(evidence, "true", likelihood, self._limits)
            numbers, spectrum = _summary(gram, evidence.seed)
            scalars |= numbers
            arrays["spectrum"] = spectrum
            notes += provenance(gram, evidence)
        if "empirical" in self.kinds:
            try:
                gram = shared_gram(evidence, "empirical", likelihood, self._limits)
            except ValueError as error:
                if not scalars:
                    raise
                notes.append(f"The empirical Fisher is left out: {error}.")
                for name in _EMPIRICAL:
                    scalars[f"empirical_{name}"] = Estimate.undefined(str(error))
            else:
                numbers, spectrum = _summary(gram, evidence.seed)
                scalars |= {f"empirical_{name}": numbers[name] for name in _EMPIRICAL}
                arrays["empirical_spectrum"] = spectrum
                notes += provenance(gram, evidence)
                notes.append(
                    "The empirical Fisher (gradients at the labels of the data) is another matrix "
                    "than the true Fisher (expectation over the model's own labels), also in the "
                    "mean."
                )
        yield Finding(self.name, "model", scalars, arrays, tuple(dict.fromkeys(notes)))

    @property
    def _limits(self) -> Limits:
        return self.max_samples, self.max_rows, self.max_gigabytes


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
    readings: ClassVar[Mapping[str, str]] = {
        "local": (
            "How many directions of the parameters n data can tell apart at the trained model; it "
            "grows with the number of inputs it is computed from, and smaller has not been shown "
            "to mean better generalization."
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
        if self.max_samples is not None:
            _require_at_least(self.max_samples, 1, "max_samples")
        _require_at_least(self.draws, 0, "draws")
        if self.n is not None:
            _require_at_least(self.n, 2, "n")
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
            f"It has not converged in the number of inputs, N = {gram.n_samples}: it grows with N, "
            "and the standard error does not contain that bias. Compare models at equal N and n.",
        ]

        curve = _local_curve(gram, points, self.gamma, evidence.seed)
        arrays = {"n": grid, "local_curve": curve[0][:-1], "local_curve_stderr": curve[1][:-1]}
        method = "ln det(I + kappa F) / ln kappa at the present parameters; delete-half jackknife"
        local = _last(curve, gram.n_samples, method, invalid)
        if self.n is None and evidence.n_train is None and not invalid:
            local = replace(local, note=f"at n = {n}, {origin}")
        scalars = {"local": local, "local_normalized": _divided(local, gram.n_parameters)}
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
        return [fisher_gram(one, data, likelihood=likelihood).significant() for one in drawn]


# --- Fisher information -------------------------------------------------------------------------


def _summary(gram: FisherGram, seed: int) -> tuple[dict[str, Estimate], Array]:
    """Return the numbers of one Gram matrix, and its largest eigenvalues above rounding."""

    def of_spectrum(spectrum: Array) -> Array:
        return np.array([spectrum[0], stable_rank(spectrum), participation_ratio(spectrum)])

    def of_samples(samples: Array) -> Array:
        return of_spectrum(gram.subset(samples).spectrum())

    n = gram.n_samples
    stderrs = delete_half_stderr(of_samples, n, seed=seed)
    traces = gram.sample_traces()
    spread = float(traces.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    exact = "exact at each input; standard error from the spread over inputs"
    method = "exact spectrum of the Gram matrix; delete-half jackknife over inputs"
    spectrum = gram.spectrum()
    scalars = {"trace": Estimate(gram.trace(), spread, n, method=exact)}
    names = ("largest_eigenvalue", "stable_rank", "participation_ratio")
    for name, value, stderr in zip(names, of_spectrum(spectrum), stderrs, strict=True):
        scalars[name] = _estimate(value, stderr, n, method)
    return scalars, gram.significant()[:_LONGEST_SPECTRUM]


# --- effective dimension ------------------------------------------------------------------------

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
    return _estimate(curve[0][-1], curve[1][-1], n, method)


def _divided(estimate: Estimate, divisor: int) -> Estimate:
    return replace(estimate, value=estimate.value / divisor, stderr=estimate.stderr / divisor)


# --- both ---------------------------------------------------------------------------------------


def _estimate(value: float, stderr: float, n: int, method: str) -> Estimate:
    if np.isnan(value):
        reason = (
            "the Fisher information is zero: outputs do not react to parameters, or are certain"
        )
        return Estimate.undefined(reason, n=n, method=method)
    return Estimate(value, stderr, n, method=method)


def _require_at_least(value: int, least: int, name: str) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
