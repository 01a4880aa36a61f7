"""The Gram matrix that the analyzers of one evidence share, from samples within bounds."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from geomprobe.evidence import Evidence, Samples, forward
from geomprobe.findings import Estimate
from geomprobe.hooks import quiet
from geomprobe.information.fisher import fisher_gram
from geomprobe.information.gram import FisherGram
from geomprobe.information.likelihoods import Likelihood, likelihood_of
from geomprobe.information.rules import RULES

Limits = tuple[int | None, int, float]  # most samples, rows, and gigabytes of rows

NO_LOSS = (
    "nothing says what the model's outputs mean: pass loss=, the loss the model was trained with "
    "(for example torch.nn.functional.cross_entropy), or give the analyzer a likelihood: "
    "FisherInformation(likelihood=Softmax()), both from geomprobe.information"
)


def likelihood_for(asked: Likelihood | None, evidence: Evidence) -> Likelihood | None:
    """Return the likelihood to use; None where nothing says which."""
    if asked is not None or evidence.loss is None:
        return asked
    return likelihood_of(evidence.loss)


def model_and_samples(evidence: Evidence, limits: Limits) -> tuple[nn.Module, Samples]:
    """Return the model and as many of the samples, drawn at random, as the limits allow."""
    assert evidence.model is not None
    assert evidence.data is not None
    model, data = evidence.model, evidence.data
    max_samples, max_rows, max_gigabytes = limits
    with quiet(model), torch.no_grad():
        outputs = forward(model, data.take([0]).inputs)
    rows_each = outputs.numel() if isinstance(outputs, torch.Tensor) else 1
    fitting = min(max_rows, max_gigabytes * 2**30 / (4 * max(_n_formed(model), 1)))
    fitting /= max(rows_each, 1)
    return model, evidence.at_most(max(1, min(max_samples or len(data), int(fitting))))[0]


def drawn_from(evidence: Evidence, count: int) -> str:
    """Return the words that say that some of the samples were left out, if they were."""
    assert evidence.data is not None
    there = len(evidence.data)
    return f", drawn at random from {there}" if there > count else ""


def _n_formed(model: nn.Module) -> int:
    """Return how many parameters are in modules without a rule, whose gradients are formed."""
    owned = {
        parameter
        for module in model.modules()
        if type(module) in RULES
        for parameter in module.parameters(recurse=False)
    }
    return sum(p.numel() for p in model.parameters() if p.requires_grad and p not in owned)


def shared_gram(
    evidence: Evidence, kind: str, likelihood: Likelihood, limits: Limits
) -> FisherGram:
    """Return the Gram matrix of the evidence, computed once for all analyzers that ask alike."""

    def compute() -> FisherGram:
        model, data = model_and_samples(evidence, limits)
        with quiet(model):
            return fisher_gram(model, data, kind=kind, likelihood=likelihood)

    return evidence.shared(("fisher_gram", kind, likelihood, limits), compute)


def provenance(gram: FisherGram, evidence: Evidence) -> list[str]:
    """Return the note that says what a Gram matrix rests on."""
    drawn = drawn_from(evidence, gram.n_samples)
    return [
        f"{gram.kind} Fisher: N = {gram.n_samples} inputs{drawn}; {gram.n_parameters} trainable "
        f"parameters; {gram.route}; eigenvalues below {gram.noise_floor:.1e} are rounding."
    ]


def estimate_unless_zero(value: float, stderr: float, n: int, method: str) -> Estimate:
    """Return an estimate; one of a Fisher information of zero has a reason instead."""
    if np.isnan(value):
        reason = (
            "the Fisher information is zero: outputs do not react to parameters, or are certain"
        )
        return Estimate.undefined(reason, n=n, method=method)
    return Estimate(value, stderr, n, method=method)
