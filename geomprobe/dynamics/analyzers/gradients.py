"""The analyzer of the noise of gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from geomprobe.dynamics.gradient_noise import gradient_noise
from geomprobe.evidence import NO_LOSS, Evidence
from geomprobe.findings import Finding


@dataclass(frozen=True)
class GradientNoiseScale:
    """How noisy the gradients of batches are, at the present parameters.

    Parameters
    ----------
    max_samples : int
        Of more samples, so many are drawn at random.
    batch_size : int
        Samples to work on at a time.

    Notes
    -----
    Yields one finding about the model; see :func:`~geomprobe.dynamics.gradient_noise`. Array:
    ``noise_spectrum``, the eigenvalues above rounding of the covariance of the gradient of one
    sample. The gradients of all samples are held at once.
    """

    max_samples: int = 256
    batch_size: int = 64

    name: ClassVar[str] = "gradient_noise"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "Which batch size generalizes best: it tells what a larger batch saves at these parameters."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "noise_scale": "Batch size at which the gradient and its noise are of one size: smaller "
        "batches are mostly noise, and much larger ones waste samples; for SGD, not for Adam.",
        "noise_trace": "Variance of the gradient of one sample, summed over the parameters.",
        "gradient_square": "Squared norm of the true gradient, freed of what noise adds to it; "
        "where it is not above zero, the gradient is not told from none.",
    }

    def __post_init__(self) -> None:
        for name, least in (("max_samples", 4), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        if evidence.loss is None:
            yield Finding(self.name, "model", failed=NO_LOSS)
            return
        assert evidence.model is not None
        data, note = evidence.at_most(self.max_samples)
        found = gradient_noise(evidence.model, data, loss=evidence.loss, batch_size=self.batch_size)
        scalars = {
            "noise_scale": found.scale,
            "noise_trace": found.trace,
            "gradient_square": found.square,
        }
        told = found.spectrum > len(data) * np.finfo(float).eps * found.spectrum[:1].sum()
        arrays = {"noise_spectrum": found.spectrum[told]}
        yield Finding(self.name, "model", scalars, arrays, (note,) if note else ())
