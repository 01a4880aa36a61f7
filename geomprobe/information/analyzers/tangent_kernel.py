"""The analyzer of the tangent kernel: its spectrum, conditioning and alignment with the labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from geomprobe.evidence import Evidence, require_counts
from geomprobe.findings import Estimate, Finding
from geomprobe.hooks import quiet
from geomprobe.information.analyzers.shared_gram import (
    drawn_from,
    model_and_samples,
)
from geomprobe.information.spectra import participation_ratio, stable_rank
from geomprobe.information.tangent_kernel import TangentKernel, ntk
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array

_LONGEST_SPECTRUM = 1024
_ZERO = "the kernel is zero: outputs do not react to parameters"


@dataclass(frozen=True)
class NeuralTangentKernel:
    """Spectrum of the empirical neural tangent kernel, and how much of it points along the labels.

    Parameters
    ----------
    max_samples : int, optional
        Of more samples, this many are drawn at random; by default all that the evidence holds.
    max_rows, max_gigabytes : int, float
        As for :class:`FisherInformation`; there is one row for each output of each sample.

    Notes
    -----
    Arrays: ``kernel_spectrum``, eigenvalues over the number of inputs; with targets,
    ``kernel_share`` and ``label_share``: which part of the centred kernel of inputs, and of the
    centred targets, lies in its 1, 2, 3, ... leading eigenvectors. How the kernel has changed since
    an earlier moment is told by :meth:`~geomprobe.information.TangentKernel.drift`.
    """

    max_samples: int | None = None
    max_rows: int = 2048
    max_gigabytes: float = 2.0

    name: ClassVar[str] = "tangent_kernel"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "How this network trains to the end: the kernel moves during training, and this is one "
        "moment of it on these inputs."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "trace": (
            "Mean squared gradient of the outputs of an input, summed over outputs: how far one "
            "small step of gradient descent moves them; it changes with the scale of the weights."
        ),
        "largest_eigenvalue": (
            "Speed at which gradient descent on the squared error learns the fastest direction of "
            "the outputs, per unit of learning rate; on other losses and optimizers it is not that."
        ),
        "stable_rank": (
            "Trace over largest eigenvalue: how many directions of the outputs as fast as the "
            "first would make up the trace."
        ),
        "participation_ratio": (
            "How many equal eigenvalues would have this trace and this sum of squares; it grows "
            "with the number of inputs."
        ),
        "condition_number": (
            "How many times longer than the fastest the slowest direction takes to learn; it grows "
            "without end with the number of inputs, and is no property of the network alone."
        ),
        "alignment": (
            "From 0 to 1: how much of the centred kernel of inputs points along the targets; it "
            "rises as features are learned, and says nothing about other inputs than these."
        ),
    }

    def __post_init__(self) -> None:
        require_counts(1, max_samples=self.max_samples)

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        limits = self.max_samples, self.max_rows, self.max_gigabytes
        model, data = model_and_samples(evidence, limits)
        with quiet(model):
            kernel = ntk(model, data)
        notes = [
            f"N = {kernel.n_samples} inputs{drawn_from(evidence, kernel.n_samples)} with "
            f"{kernel.n_outputs} outputs; {kernel.n_parameters} trainable parameters; "
            f"{kernel.route}; eigenvalues are those of the kernel over N."
        ]
        scalars, spectrum = _summary(kernel, evidence.seed)
        arrays = {"kernel_spectrum": spectrum}
        try:
            if data.targets is None:
                raise ValueError("there are no targets")
            scalars["alignment"] = kernel.alignment(data.targets, seed=evidence.seed)
            shares = kernel.cumulative_shares(data.targets)
            arrays |= dict(zip(("kernel_share", "label_share"), shares, strict=True))
        except ValueError as error:
            scalars["alignment"] = Estimate.undefined(str(error), n=kernel.n_samples)
        yield Finding(self.name, "model", scalars, arrays, tuple(notes))


def _summary(kernel: TangentKernel, seed: int) -> tuple[dict[str, Estimate], Array]:
    """Return the numbers of a kernel, and its largest eigenvalues above rounding, over N."""

    def of_samples(samples: Array) -> Array:
        spectrum = kernel.subset(samples).spectrum()
        ranks = stable_rank(spectrum), participation_ratio(spectrum)
        return np.array([spectrum[0] / len(samples), *ranks])

    n = kernel.n_samples
    method = "exact spectrum of the kernel; delete-half jackknife over inputs"
    values = of_samples(np.arange(n))
    stderrs = delete_half_stderr(of_samples, n, seed=seed)
    each = np.diagonal(kernel.matrix).reshape(n, -1).sum(axis=1)
    spread = float(each.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    exact = "exact at each input; standard error from the spread over inputs"
    scalars = {"trace": Estimate(each.mean(), spread, n, method=exact)}
    names = ("largest_eigenvalue", "stable_rank", "participation_ratio")
    for name, value, stderr in zip(names, values, stderrs, strict=True):
        scalars[name] = (
            Estimate.undefined(_ZERO, n=n, method=method)
            if math.isnan(value)
            else Estimate(value, stderr, n, method=method)
        )
    scalars["condition_number"] = _condition(kernel)
    spectrum = kernel.spectrum()
    significant = spectrum[spectrum > kernel.noise_floor]
    return scalars, significant[:_LONGEST_SPECTRUM] / n


def _condition(kernel: TangentKernel) -> Estimate:
    value, method = kernel.condition_number(), "exact spectrum of the kernel of these inputs"
    if math.isinf(value):
        reason = (
            "the smallest eigenvalue is below rounding: some combination of outputs at these "
            "inputs cannot be learned by a small step"
        )
        return Estimate.undefined(reason, n=kernel.n_samples, method=method)
    return Estimate(value, exact=True, n=kernel.n_samples, method=method)
