"""The analyzer of what gradient flow conserves, and of the identities of the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.dynamics.identities import gradient_identities
from geomprobe.dynamics.quantities import ConservedQuantity
from geomprobe.dynamics.structure import conserved_quantities
from geomprobe.evidence import NO_LOSS, Evidence, Loss, Samples, forward
from geomprobe.findings import Estimate, Finding
from geomprobe.hooks import quiet
from geomprobe.hooks.selection import unwrap
from geomprobe.jacobians import trainable_parameters
from geomprobe.storage import Array

_MOST_NOTES = 10


@dataclass(frozen=True)
class Conservation:
    """What symmetries of the model conserve: how well their identities hold, and how far it drifts.

    Parameters
    ----------
    max_samples : int
        Of more samples, so many are drawn at random.

    Notes
    -----
    Yields one finding about each quantity of :func:`~geomprobe.dynamics.conserved_quantities`, and
    one about the model. Drift is since the observation before, or, at the first one, since the
    monitor was made; in an audit there is none.
    """

    max_samples: int = 256

    name: ClassVar[str] = "conservation"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    looks_back: ClassVar[bool] = True
    caveat: ClassVar[str] = (
        "How good the solution is: it tells how far the steps were from gradient flow."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "drift": "Change of a quantity that gradient flow conserves, relative to its terms: from "
        "finite steps, weight decay or an optimizer that rescales gradients.",
        "drift_per_step": "The same over optimizer steps; with SGD it falls as the square of the "
        "learning rate.",
        "identity": "How far the gradient is from being orthogonal to the symmetry, relative to "
        "its terms: rounding, where the symmetry holds.",
        "identity_without_eps": "The same before the eps of batch norm is accounted for: how far "
        "the scale of weights before it is from not mattering.",
        "conserved": "How many numbers are conserved by the symmetries that were found.",
    }

    def __post_init__(self) -> None:
        if self.max_samples < 2:
            raise ValueError(f"max_samples must be at least 2, got {self.max_samples}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about each quantity, and one about the model."""
        assert evidence.model is not None
        assert evidence.data is not None
        model = unwrap(evidence.model)
        data, note = evidence.at_most(self.max_samples)
        data = data.to(next(iter(trainable_parameters(model).values())).device)
        loss, reason = evidence.loss, _missing(evidence, data)
        softmax = not reason and loss is not None and _ignores_shifts(model, data, loss)
        quantities = conserved_quantities(model, softmax=softmax)
        identities = {}
        if not reason and loss is not None and len(quantities):
            identities = gradient_identities(model, data, loss, quantities)
        left = [f"{layer}: {why}." for layer, why in quantities.left_out.items()]
        if len(left) > _MOST_NOTES:
            left[_MOST_NOTES:] = [f"And {len(left) - _MOST_NOTES} layers more."]
        notes = [*filter(None, [note]), *left]
        state = {name: value.detach() for name, value in model.named_parameters()}
        drifts: list[Estimate] = []
        residuals: list[Estimate] = []
        for one in quantities:
            moved, steps = _drift(one, state, evidence)
            scalars = {"drift": moved}
            if steps > 0:
                method = f"{moved.method}, over {steps} steps"
                scalars["drift_per_step"] = _exact(moved.value / steps, method)
            if reason:
                scalars["identity"] = Estimate.undefined(reason)
            else:
                found = identities[one.name]
                method = f"gradient of the mean loss over {len(data)} samples"
                scalars["identity"] = _exact(found.residual, method)
                if found.without_eps != found.residual:
                    scalars["identity_without_eps"] = _exact(found.without_eps, method)
            drifts.append(moved)
            residuals.append(scalars["identity"])
            yield Finding(self.name, one.name, scalars)
        count = sum(one.count(state) for one in quantities)
        whole = {
            "conserved": Estimate(count, exact=True, method="symmetries of consecutive layers"),
            "drift": _largest(drifts),
            "identity": _largest(residuals),
        }
        yield Finding(self.name, "model", whole, notes=tuple(notes))


def _missing(evidence: Evidence, data: Samples) -> str:
    """Say what there is no gradient for want of; nothing if there is one."""
    if evidence.loss is None:
        return NO_LOSS
    if data.targets is None or len(data) < 2:
        return "a gradient takes two samples or more with targets"
    return ""


def _ignores_shifts(model: nn.Module, data: Samples, loss: Loss) -> bool:
    """Tell whether the loss stays as it is when a number is added to all outputs of a sample."""
    few = data.take(slice(0, 8))
    with quiet(model), torch.no_grad():
        outputs = forward(model, few.inputs)
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or outputs.shape[1] < 2:
            return False
        shifts = torch.linspace(0.5, 1.5, len(outputs), device=outputs.device)[:, None]
        before = float(loss(outputs, few.targets))
        after = float(loss(outputs + shifts.to(outputs), few.targets))
    return abs(after - before) <= 1e-4 * (1 + abs(before))


def _drift(
    one: ConservedQuantity, state: Mapping[str, Tensor], evidence: Evidence
) -> tuple[Estimate, int]:
    """Return how far a quantity moved since the observation before, and in how many steps."""
    if evidence.earlier is None:
        return Estimate.undefined("there is no earlier state to compare with: a monitor has"), 0
    before = evidence.earlier.state
    change = one.evaluate(state) - one.evaluate(before)
    value = float(change.norm()) / (one.size(before) or 1.0)
    method = "norm of the change over the norms of its terms"
    return _exact(value, method), (evidence.step or 0) - evidence.earlier.step


def _exact(value: float, method: str) -> Estimate:
    if not np.isfinite(value):
        return Estimate.undefined("parameters or gradients are not finite", method=method)
    return Estimate(value, exact=True, method=method)


def _largest(found: list[Estimate]) -> Estimate:
    known: Array = np.array([one.value for one in found if not np.isnan(one.value)])
    if not len(known):
        return found[0] if found else Estimate.undefined("no symmetry was found; see the notes")
    return _exact(float(known.max()), f"largest of {len(known)} quantities")
