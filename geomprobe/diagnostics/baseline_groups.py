"""Baselines, by what they share: each function takes a trained model and returns estimates."""

from __future__ import annotations

import math
from collections.abc import Callable

from geomprobe.diagnostics.class_geometry import (
    augmentation_error,
    davies_bouldin,
    mixup_error,
    noise_error,
)
from geomprobe.diagnostics.gradient_statistics import gradient_statistics
from geomprobe.diagnostics.heavy_tails import weighted_alpha
from geomprobe.diagnostics.norms import layer_norms, parameter_norm, path_norm
from geomprobe.diagnostics.outputs import cross_entropy, margin, output_entropy
from geomprobe.diagnostics.pac_bayes import pac_bayes
from geomprobe.diagnostics.reasons import or_reason
from geomprobe.diagnostics.trained import TrainedModel
from geomprobe.findings import Estimate
from geomprobe.jacobians import trainable_parameters

_INITIAL = Estimate.undefined("the initial parameters are not known")
_SAMPLES, _DRAWS = 200, 6


def hyperparameters(trained: TrainedModel) -> dict[str, Estimate]:
    """Return what was chosen, and how long training took."""
    chosen = trained.hyperparameters

    def known(name: str) -> Estimate:
        if name not in chosen:
            return Estimate.undefined(f"{name} is not known")
        return Estimate(chosen[name], exact=True)

    rate, batch = known("lr"), known("batch_size")
    ratio = batch.value / rate.value if rate.value else math.nan
    count = sum(p.numel() for p in trainable_parameters(trained.model).values())
    return {
        "learning_rate": rate,
        "batch_size": batch,
        "batch_over_rate": Estimate.undefined("lr or batch_size is not known, or lr is 0")
        if math.isnan(ratio)
        else Estimate(ratio, exact=True),
        "parameters": Estimate(count, exact=True),
        "steps": known("steps"),
    }


def outputs(trained: TrainedModel) -> dict[str, Estimate]:
    """Cross-entropy, entropy and margin on the training data."""
    gamma = margin(trained.outputs, trained.classes)
    return {
        "cross_entropy": cross_entropy(trained.outputs, trained.classes),
        "output_entropy": output_entropy(trained.outputs),
        "inverse_margin": gamma
        if math.isnan(gamma.value)
        else Estimate(1 / gamma.value**2, exact=True, n=gamma.n),
    }


def layers(trained: TrainedModel) -> dict[str, Estimate]:
    """Norms of the weights, with and without the margin."""
    model, data = trained.model, trained.train
    gamma = margin(trained.outputs, trained.classes)
    found = {
        "parameter_norm": parameter_norm(model),
        "distance_from_init": _INITIAL
        if trained.initial is None
        else parameter_norm(model, trained.initial),
    }
    try:
        norms = layer_norms(model, data)
    except ValueError as error:
        nothing = Estimate.undefined(str(error))
        names = ("log_prod_spectral", "log_prod_frobenius", "path_norm")
        return {
            **found,
            **dict.fromkeys((*names, *(f"{name}_margin" for name in names)), nothing),
            "frobenius_over_spectral": nothing,
        }
    by_margin: dict[str, Callable[[float | None], Estimate]] = {
        "log_prod_spectral": norms.log_product_spectral,
        "log_prod_frobenius": norms.log_product_frobenius,
        "path_norm": lambda margin: path_norm(model, data, margin),
    }
    for name, value in by_margin.items():
        found[name] = value(None)
        found[f"{name}_margin"] = gamma if math.isnan(gamma.value) else value(gamma.value)
    return {**found, "frobenius_over_spectral": norms.frobenius_over_spectral()}


def noise_on_parameters(trained: TrainedModel) -> dict[str, Estimate]:
    """PAC-Bayes measures."""
    found = {}
    for prefix, magnitude in (("pac_bayes", False), ("pac_bayes_magnitude", True)):
        bounds = pac_bayes(
            trained.model,
            trained.train,
            trained.initial,
            magnitude=magnitude,
            draws=_DRAWS,
            random_state=trained.seed,
        )
        found[f"{prefix}_flatness"] = bounds.flatness
        found[f"{prefix}_orig"] = bounds.orig
        found[f"{prefix}_init"] = _INITIAL if bounds.init is None else bounds.init
    return found


def gradients(trained: TrainedModel) -> dict[str, Estimate]:
    """Traces and norms of gradients by sample, of the first 200 training samples."""
    found = gradient_statistics(trained.model, trained.train.take(slice(0, _SAMPLES)))
    return {
        "fisher_trace": found.fisher_trace,
        "gradient_noise": found.noise,
        "moment_over_fisher": found.ratio,
        "fisher_rao": found.fisher_rao,
    }


def noise_on_inputs(trained: TrainedModel) -> dict[str, Estimate]:
    """How classes lie in the last features, and errors between and beside training samples."""
    model, data, seed = trained.model, trained.train, trained.seed
    classes = trained.classes.cpu().numpy()
    index = or_reason(lambda: davies_bouldin(trained.features[0].cpu().numpy(), classes))
    mixup = or_reason(lambda: mixup_error(model, data, random_state=seed))
    return {
        "davies_bouldin": index,
        "mixup_error": mixup,
        "davies_bouldin_mixup": _product(index, mixup),
        "noise_error": or_reason(lambda: noise_error(model, data, random_state=seed)),
        "augmentation_error": Estimate.undefined("no augmentation of these inputs is known")
        if (augment := trained.augment) is None
        else or_reason(lambda: augmentation_error(model, data, augment, random_state=seed)),
    }


def _product(exact: Estimate, other: Estimate) -> Estimate:
    for one in (exact, other):
        if math.isnan(one.value):
            return one
    return Estimate(
        exact.value * other.value,
        abs(exact.value) * other.stderr,
        n=other.n,
        method=f"{other.method}; of the error alone",
    )


def tails(trained: TrainedModel) -> dict[str, Estimate]:
    """Power laws of the spectra of the weights."""
    return {"weighted_alpha": weighted_alpha(trained.model)}
