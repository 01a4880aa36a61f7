"""How far the activations of each layer lie from the origin, on average."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from geomprobe import Estimate, Evidence, Finding


@dataclass(frozen=True)
class MeanNorm:
    """Mean p-norm of the points of each cloud."""

    name: ClassVar[str] = "mean_norm"
    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    readings: ClassVar[dict[str, str]] = {
        "mean_norm": "Mean distance of the layer's activations from the origin.",
    }

    p: float = 2.0

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding a layer."""
        for layer, cloud in evidence.clouds.items():
            finite, dropped = cloud.finite()
            notes = (f"{dropped} points with NaN or infinity left out",) if dropped else ()
            yield Finding(
                self.name, layer, {"mean_norm": self.estimate(finite.points)}, notes=notes
            )

    def estimate(self, points: np.ndarray) -> Estimate:
        """Mean norm with the standard error of a mean."""
        n, method = len(points), f"mean {self.p:g}-norm"
        if n < 2:
            return Estimate.undefined("fewer than two points", n=n, method=method)
        norms = np.linalg.norm(points.astype(float), ord=self.p, axis=1)
        return Estimate(norms.mean(), norms.std(ddof=1) / np.sqrt(n), n=n, method=method)
