"""The analyzer of the Fisher information: its trace and spectrum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from geomprobe.evidence import Evidence, require_counts
from geomprobe.findings import Estimate, Finding
from geomprobe.information.analyzers.shared_gram import (
    NO_LOSS,
    Limits,
    estimate_unless_zero,
    likelihood_for,
    provenance,
    shared_gram,
)
from geomprobe.information.gram import FisherGram
from geomprobe.information.likelihoods import Likelihood
from geomprobe.information.spectra import participation_ratio, stable_rank
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array

_LONGEST_SPECTRUM = 1024
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
        Fewer samples are used where there would be more rows, one for each output of each sample,
        or where the gradients of parameters without a rule, which must be formed, would take more
        memory. A note says so.
    """

    max_samples: int | None = None
    kinds: tuple[str, ...] = _KINDS
    likelihood: Likelihood | None = None
    max_rows: int = 2048
    max_gigabytes: float = 2.0

    name: ClassVar[str] = "fisher_information"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    caveat: ClassVar[str] = (
        "How well the model does: sensitivity to the parameters changes when layers are "
        "rescaled, while the function stays as it is."
    )
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
        require_counts(1, max_samples=self.max_samples)
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
        scalars[name] = estimate_unless_zero(value, stderr, n, method)
    return scalars, gram.significant()[:_LONGEST_SPECTRUM]
