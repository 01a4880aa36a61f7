"""The analyzer of the local learning coefficient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from geomprobe.evidence import Evidence, require_counts
from geomprobe.findings import Estimate, Finding
from geomprobe.information.analyzers.shared_gram import drawn_from
from geomprobe.information.local_learning_coefficient import (
    LocalLearningCoefficient,
    learning_coefficient_grid,
    local_learning_coefficient,
)
from geomprobe.storage import Array

_NO_LOSS = "there is no loss to sample: pass loss=, the one the model was trained with, as a mean"
_OF_CHAINS = ("r_hat", "drift", "distance")
_LONGEST_TRACE = 200


@dataclass(frozen=True)
class LearningCoefficient:
    """Local learning coefficient at the present parameters, by Langevin dynamics.

    Parameters
    ----------
    step, localization, chains, burn_in, draws, batch_size
        See :func:`~geomprobe.information.local_learning_coefficient`.
    max_samples : int, optional
        Of more samples, this many are drawn at random; by default all that the evidence holds. The
        n of the coefficient is their number.
    sensitivity : float, optional
        Factor above 1 by which step and localization are also divided and multiplied, to see how
        far the coefficient depends on them: ten times the work.

    Notes
    -----
    Arrays: ``chain_losses`` of shape (chains, at most 200), means over stretches of ``chain_steps``
    draws, and ``initial_loss``; with ``sensitivity`` ``grid_values`` and ``grid_stderrs``, over
    ``grid_steps`` and ``grid_localizations``.
    """

    step: float | None = None
    localization: float = 100.0
    chains: int = 4
    burn_in: int | None = None
    draws: int = 1000
    batch_size: int | None = None
    max_samples: int | None = None
    sensitivity: float | None = None

    name: ClassVar[str] = "local_learning_coefficient"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "The coefficient of the theory, which takes a limit of many samples: it is comparable "
        "at equal temperature, localization and number of samples only."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "local_learning_coefficient": (
            "Half the number of directions in which the loss rises from the trained parameters, "
            "fewer the flatter it rises; it falls with the localization, and depends on the number "
            "of samples: compare at equal ones."
        ),
        "per_parameter": (
            "The coefficient over half the number of parameters: 1 at a regular minimum without "
            "localization."
        ),
        "r_hat": "Whether the chains agree: 1 if so, and above 1.1 the number is not to be used.",
        "drift": (
            "Rise of the loss from the first halves of the chains to the second, in standard "
            "errors: far from zero, the chains had not arrived."
        ),
        "distance": (
            "Mean distance of the chains from the trained parameters: where it is comparable with "
            "the norm of these, the number is not local."
        ),
    }

    def __post_init__(self) -> None:
        require_counts(3, max_samples=self.max_samples)
        if self.sensitivity is not None and not 1 < self.sensitivity < math.inf:
            raise ValueError(f"sensitivity must be a factor above 1, got {self.sensitivity}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        if evidence.loss is None:
            yield Finding(self.name, "model", failed=_NO_LOSS)
            return
        assert evidence.model is not None
        data = evidence.at_most(self.max_samples)[0]
        options: dict[str, Any] = {
            "loss": evidence.loss,
            "chains": self.chains,
            "burn_in": self.burn_in,
            "draws": self.draws,
            "batch_size": self.batch_size,
            "seed": evidence.seed,
        }
        found = local_learning_coefficient(
            evidence.model, data, step=self.step, localization=self.localization, **options
        )
        arrays = _traces(found)
        if self.sensitivity is not None:
            around = self.sensitivity ** np.array([-1.0, 0.0, 1.0])
            grid = learning_coefficient_grid(
                evidence.model,
                data,
                steps=(found.step * around).tolist(),
                localizations=(found.localization * around).tolist(),
                **options,
            )
            arrays |= {
                "grid_steps": grid.steps,
                "grid_localizations": grid.localizations,
                "grid_values": grid.values,
                "grid_stderrs": grid.stderrs,
            }
        n = len(data)
        notes = [
            f"n = {n} inputs{drawn_from(evidence, n)}; initial loss {found.initial_loss:.4g}; "
            f"{found.n_parameters} trainable parameters, of norm {found.norm:.3g}."
        ]
        if evidence.n_train is not None and n != evidence.n_train:
            notes.append(
                f"The coefficient of the loss over these inputs, not over the {evidence.n_train} "
                "training samples; an audit with samples= keeps more."
            )
        yield Finding(self.name, "model", _scalars(found), arrays, tuple(notes))


def _scalars(found: LocalLearningCoefficient) -> dict[str, Estimate]:
    estimate, half = found.estimate, found.n_parameters / 2
    n, method = estimate.n, estimate.method
    scalars = {"local_learning_coefficient": estimate}
    if math.isnan(estimate.value):
        scalars["per_parameter"] = Estimate.undefined(estimate.note, n=n, method=method)
    else:
        share = estimate.value / half, estimate.stderr / half
        scalars["per_parameter"] = Estimate(*share, n, method=method)
    if not np.isfinite(found.gains).all():
        return scalars | dict.fromkeys(_OF_CHAINS, scalars["per_parameter"])
    distances = found.distances.mean(axis=1)
    spread = float(distances.std(ddof=1) / math.sqrt(len(distances)))
    of_chains = (
        Estimate(found.r_hat, exact=True, n=n, method="split R-hat of the losses"),
        Estimate(found.drift, 1.0, n, method="in units of its standard error"),
        Estimate(distances.mean(), spread, n, method="standard error over the chains"),
    )
    return scalars | dict(zip(_OF_CHAINS, of_chains, strict=True))


def _traces(found: LocalLearningCoefficient) -> dict[str, Array]:
    chains, draws = found.gains.shape
    stretch = math.ceil(draws / _LONGEST_TRACE)
    whole = found.gains[:, : draws - draws % stretch].reshape(chains, -1, stretch)
    return {
        "chain_losses": found.initial_loss + whole.mean(axis=2),
        "chain_steps": np.array([stretch]),
        "initial_loss": np.array([found.initial_loss]),
    }
