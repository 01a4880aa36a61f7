"""geomprobe's own diagnostics of a trained model, by what they share."""

from __future__ import annotations

import math

import numpy as np
from torch.nn import functional

from geomprobe.diagnostics.kernel_complexity import kernel_complexity
from geomprobe.diagnostics.layers import weighted_layers
from geomprobe.diagnostics.reasons import or_reason
from geomprobe.diagnostics.takeuchi_penalty import takeuchi_penalty
from geomprobe.diagnostics.trained import TrainedModel
from geomprobe.findings import Estimate

_FISHER, _KERNEL, _POINTS, _NEAR = 60, 60, 300, 100
_CHAINS, _BURN_IN, _DRAWS, _BATCH, _LOCALIZATION, _AROUND = 2, 80, 60, 64, 1000.0, 500


def representation(trained: TrainedModel) -> dict[str, Estimate]:
    """Dimension and rank of the last features."""
    from geomprobe.representation import alpha_req, participation_ratio, rank_me, two_nn

    points, seed = trained.features[0].double().cpu().numpy(), trained.seed
    alpha = or_reason(lambda: alpha_req(points, seed=seed))
    return {
        "two_nn": or_reason(lambda: two_nn(points, seed=seed)),
        "rank_me": rank_me(points, seed=seed),
        "participation_ratio": participation_ratio(points, seed=seed),
        "alpha_req_from_one": alpha
        if math.isnan(alpha.value)
        else Estimate(abs(alpha.value - 1), alpha.stderr, n=alpha.n, method=alpha.method),
    }


def collapse(trained: TrainedModel) -> dict[str, Estimate]:
    """Neural collapse of the last features, and of the last layer's weights."""
    from geomprobe.representation import neural_collapse

    points, head = trained.features
    found = neural_collapse(
        points.double().cpu().numpy(),
        trained.classes.cpu().numpy(),
        weights=head.weight.detach().cpu().numpy(),
        bias=None if head.bias is None else head.bias.detach().cpu().numpy(),
        seed=trained.seed,
    )
    return {
        "within_class": found.within_class,
        "maximal_angle": found.maximal_angle,
        "self_duality": found.self_duality,
    }


def activation_topology(trained: TrainedModel) -> dict[str, Estimate]:
    """Loops of the last features of the first 300 training samples, free of their scale."""
    from geomprobe.topology import rips_persistence, total_persistence

    points = trained.features[0][:_POINTS].double().cpu().numpy()
    diagrams = rips_persistence(points, max_dim=1, n_jobs=1)
    ratio = total_persistence(diagrams[1]) / total_persistence(diagrams[0])
    return {"loops_by_scale": Estimate(ratio, n=len(points), method="Rips, H1 over H0")}


def weight_topology(trained: TrainedModel) -> dict[str, Estimate]:
    """Neural persistence, and what the places of the weights add."""
    from geomprobe.topology import neural_persistence, shuffled_control

    layers = weighted_layers(trained.model).values()
    weights = [layer.weight.detach().double().cpu().numpy() for layer in layers]
    largest = max(float(np.abs(weight).max()) for weight in weights)
    values = [neural_persistence(weight, largest=largest) for weight in weights]
    controls = [
        shuffled_control(weight, largest=largest, shuffles=4, seed=trained.seed)
        for weight in weights
    ]
    return {
        "neural_persistence": Estimate(float(np.mean(values)), exact=True, n=len(values)),
        "neural_persistence_control": Estimate(
            float(np.mean([control.difference for control in controls])),
            float(np.sqrt(sum(control.spread**2 / 4 for control in controls))) / len(controls),
            n=len(controls),
            method="4 permutations of each layer's weights",
        ),
    }


def fisher_spectrum(trained: TrainedModel) -> dict[str, Estimate]:
    """Dimensions from the spectrum of the true Fisher information of 60 training inputs."""
    from geomprobe.information import effective_parameters, fisher_gram, stable_rank

    gram = fisher_gram(
        trained.model, trained.train.take(slice(0, _FISHER)), loss=functional.cross_entropy
    )
    n, values = len(trained.train), gram.significant()
    method = f"true Fisher of {gram.n_samples} inputs"
    return {
        name: Estimate(value, n=gram.n_samples, method=method)
        if np.isfinite(value)
        else Estimate.undefined("the Fisher information is zero", method=method)
        for name, value in (
            ("effective_dimension", float(gram.effective_dimension(n))),
            ("effective_parameters", effective_parameters(values, 1 / n)),
            ("fisher_stable_rank", stable_rank(values)),
        )
    }


def tangent_kernel(trained: TrainedModel) -> dict[str, Estimate]:
    """Ask the tangent kernel of 60 training inputs for their classes, and for the cost of noise."""
    from geomprobe.information import ntk

    some, classes = trained.train.take(slice(0, _KERNEL)), trained.classes[:_KERNEL].cpu().numpy()
    kernel = ntk(trained.model, some)
    return {
        "kernel_alignment": kernel.alignment(classes, seed=trained.seed),
        "kernel_complexity": kernel_complexity(kernel.by_sample, classes),
        "takeuchi_penalty": takeuchi_penalty(
            kernel.matrix,
            trained.outputs[:_KERNEL].cpu().numpy(),
            classes,
            damping=1 / len(trained.train),
        ),
    }


def learning_coefficient(trained: TrainedModel) -> dict[str, Estimate]:
    """Local learning coefficient, by two short chains that stay near the parameters."""
    from geomprobe.information import local_learning_coefficient

    found = local_learning_coefficient(
        trained.model,
        trained.train.take(slice(0, _AROUND)),
        loss=functional.cross_entropy,
        seed=trained.seed,
        chains=_CHAINS,
        burn_in=_BURN_IN,
        draws=_DRAWS,
        batch_size=_BATCH,
        localization=_LOCALIZATION,
    )
    return {"learning_coefficient": found.estimate}


def balance(trained: TrainedModel) -> dict[str, Estimate]:
    """How far training has moved what gradient flow conserves, relative to its terms."""
    from geomprobe.dynamics import conservation_drift, conserved_quantities

    if trained.initial is None:
        return {"balance_drift": Estimate.undefined("the initial parameters are not known")}
    quantities = conserved_quantities(trained.model)
    if not len(quantities):
        return {"balance_drift": Estimate.undefined("no conserved quantity was found")}
    states = [trained.initial, trained.model.state_dict()]
    drift = conservation_drift(states, quantities, lr=1.0).drift
    value = float(np.mean([path[-1] for path in drift.values()]))
    return {"balance_drift": Estimate(value, exact=True, n=len(drift), method="mean of quantities")}


def linear_regions(trained: TrainedModel) -> dict[str, Estimate]:
    """Share of the units that bend near the first 100 training inputs."""
    from geomprobe.tropical import local_complexity

    found = local_complexity(trained.model, trained.train.take(slice(0, _NEAR)), seed=trained.seed)
    total, units = found.total, sum(found.units)
    return {
        "local_complexity": Estimate(
            total.value / units, total.stderr / units, n=total.n, method=total.method
        )
    }
