"""The analyzer of the margins of a classifier."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from geomprobe.dynamics.margins import homogeneity_degree, margins
from geomprobe.evidence import Evidence, Samples
from geomprobe.findings import Estimate, Finding
from geomprobe.hooks.selection import unwrap
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array


@dataclass(frozen=True)
class ClassMargins:
    """Margins of a classifier on the data, and the smallest one over the scale of the parameters.

    Parameters
    ----------
    max_samples : int
        Of more samples, so many are drawn at random.

    Notes
    -----
    Yields one finding about the model; see :func:`~geomprobe.dynamics.margins`. Array: ``margins``,
    ascending.
    """

    max_samples: int = 1024

    name: ClassVar[str] = "margins"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "Margins on new samples: training enlarges these long after test errors stop falling."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "median_margin": "Half of the samples have a larger margin, the logit of their class less "
        "the largest other; it grows with the scale of the logits.",
        "share_wrong": "Share of the samples that another class has a larger logit for, or an "
        "equal one.",
        "smallest_margin": "Smallest margin of these samples: of the training data, above 0 once "
        "all are right.",
        "normalized_margin": "Smallest margin over the norm of the parameters to the power of the "
        "homogeneity: gradient descent on such a model makes it grow once all samples are right.",
    }

    def __post_init__(self) -> None:
        if self.max_samples < 1:
            raise ValueError(f"max_samples must be at least 1, got {self.max_samples}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        assert evidence.model is not None
        model = unwrap(evidence.model)
        data, note = evidence.at_most(self.max_samples)
        found = np.sort(margins(model, data))
        n, wrong = len(found), float((found <= 0).mean())
        smallest = Estimate(found[0], exact=True, n=n, method="these samples")
        scalars = {
            "median_margin": _median(found),
            "share_wrong": Estimate(wrong, math.sqrt(wrong * (1 - wrong) / n), n, method="share"),
            "smallest_margin": smallest,
            "normalized_margin": _normalized(model, data, smallest),
        }
        yield Finding(self.name, "model", scalars, {"margins": found}, (note,) if note else ())


def _median(found: Array) -> Estimate:
    n, method = len(found), "median over samples; delete-half jackknife"
    stderr = float(delete_half_stderr(lambda rows: float(np.median(found[rows])), n))
    return Estimate(float(np.median(found)), stderr, n, method=method)


def _normalized(model: nn.Module, data: Samples, smallest: Estimate) -> Estimate:
    try:
        degree = homogeneity_degree(model, data.take(slice(0, 64)))
    except ValueError as reason:
        return Estimate.undefined(str(reason), n=smallest.n)
    norm = math.sqrt(sum(float(p.detach().double().square().sum()) for p in model.parameters()))
    method = f"over the norm of the parameters to the power {degree:.4g}"
    return Estimate(smallest.value / norm**degree, exact=True, n=smallest.n, method=method)
