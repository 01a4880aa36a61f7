"""The registry of measures: what is taken of a trained model, with signs declared beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from geomprobe.diagnostics.baseline_groups import (
    gradients,
    hyperparameters,
    layers,
    noise_on_inputs,
    noise_on_parameters,
    outputs,
    tails,
)
from geomprobe.diagnostics.combinations import COMBINATIONS
from geomprobe.diagnostics.geometry_groups import (
    activation_topology,
    balance,
    collapse,
    fisher_spectrum,
    learning_coefficient,
    linear_regions,
    representation,
    tangent_kernel,
    weight_topology,
)
from geomprobe.diagnostics.trained import TrainedModel
from geomprobe.diagnostics.trajectory_group import trajectory
from geomprobe.findings import Estimate


@dataclass(frozen=True)
class Measure:
    """A number that is taken of a trained model.

    Parameters
    ----------
    name : str
    sign : int
        1 where larger numbers are expected of models with larger gaps, -1 where smaller ones are:
        declared from the literature, before any gap is seen.
    formula : str
    source : str
    stat : str
        ``analyzer/stat`` of the number of a report that is the same quantity, where there is one.
    """

    name: str
    sign: int
    formula: str
    source: str
    stat: str = ""


@dataclass(frozen=True)
class Group:
    """Measures that are computed together.

    Parameters
    ----------
    name : str
    compute : callable
        Takes a :class:`TrainedModel`, returns an estimate for each of the measures.
    baseline : bool
        Whether a diagnostic must not fall behind these.
    measures : tuple of Measure
    """

    name: str
    compute: Callable[[TrainedModel], Mapping[str, Estimate]]
    baseline: bool
    measures: tuple[Measure, ...]


_JIANG = "Jiang et al. 2020"
_PGDL = "Natekar and Sharma 2020"
_FOLK = "constant predictor"
_PH = "Birdal et al. 2021, Dupuis et al. 2023"
_MAGNITUDE = "Andreeva et al. 2024"

GROUPS: tuple[Group, ...] = (
    Group(
        "hyperparameters",
        hyperparameters,
        True,
        (
            Measure("learning_rate", -1, "lr", _FOLK),
            Measure("batch_size", 1, "B", _FOLK),
            Measure("batch_over_rate", 1, "B / lr", "Smith and Le 2018"),
            Measure("parameters", 1, "number of trainable parameters", _JIANG),
            Measure("steps", 1, "optimizer steps to convergence", _JIANG),
        ),
    ),
    Group(
        "outputs",
        outputs,
        True,
        (
            Measure("cross_entropy", 1, "mean training cross-entropy", _JIANG),
            Measure("output_entropy", 1, "mean entropy of predicted classes", _JIANG),
            Measure("inverse_margin", 1, "1 / gamma^2, gamma the 10 % quantile of margins", _JIANG),
        ),
    ),
    Group(
        "layers",
        layers,
        True,
        (
            Measure("parameter_norm", 1, "‖w‖", "Neyshabur et al. 2015"),
            Measure("distance_from_init", 1, "‖w - w0‖", "Nagarajan and Kolter 2019"),
            Measure("log_prod_spectral", 1, "sum log ‖W_i‖_2^2", "Bartlett et al. 2017"),
            Measure(
                "log_prod_spectral_margin", 1, "sum log ‖W_i‖_2^2 - 2 log gamma", "Bartlett et al."
            ),
            Measure("log_prod_frobenius", 1, "sum log ‖W_i‖_F^2", "Neyshabur et al. 2015"),
            Measure(
                "log_prod_frobenius_margin",
                1,
                "sum log ‖W_i‖_F^2 - 2 log gamma",
                "Neyshabur et al.",
            ),
            Measure("frobenius_over_spectral", 1, "sum ‖W_i‖_F^2 / ‖W_i‖_2^2", _JIANG),
            Measure("path_norm", 1, "sum of f(1) with squared parameters", "Neyshabur et al. 2015"),
            Measure("path_norm_margin", 1, "path norm / gamma^2", _JIANG),
        ),
    ),
    Group(
        "noise_on_parameters",
        noise_on_parameters,
        True,
        (
            Measure("pac_bayes_flatness", 1, "1 / sigma^2", _JIANG),
            Measure("pac_bayes_orig", 1, "‖w‖^2 / 4 sigma^2 + log(m / sigma) + 10", _JIANG),
            Measure("pac_bayes_init", 1, "‖w - w0‖^2 / 4 sigma^2 + log(m / sigma) + 10", _JIANG),
            Measure("pac_bayes_magnitude_flatness", 1, "1 / sigma'^2", _JIANG),
            Measure("pac_bayes_magnitude_orig", 1, "magnitude-aware bound about 0", _JIANG),
            Measure("pac_bayes_magnitude_init", 1, "magnitude-aware bound about w0", _JIANG),
        ),
    ),
    Group(
        "gradients",
        gradients,
        True,
        (
            Measure(
                "fisher_trace", 1, "Tr F", "Jastrzebski et al. 2021", "fisher_information/trace"
            ),
            Measure("gradient_noise", 1, "Tr C - ‖mean g‖^2", _JIANG, "gradient_noise/noise_trace"),
            Measure(
                "moment_over_fisher", 1, "Tr C / Tr F", "Thomas et al. 2020", "curvature/c_over_f"
            ),
            Measure("fisher_rao", 1, "w^T F w", "Liang et al. 2019"),
        ),
    ),
    Group(
        "noise_on_inputs",
        noise_on_inputs,
        True,
        (
            Measure("davies_bouldin", 1, "Davies-Bouldin index of the last features", _PGDL),
            Measure("mixup_error", 1, "error on midpoints of one class", _PGDL),
            Measure("davies_bouldin_mixup", 1, "Davies-Bouldin index x mixup error", _PGDL),
            Measure("noise_error", 1, "error with half a deviation of noise", _PGDL),
            Measure("augmentation_error", 1, "error on augmented inputs", "Aithal et al. 2021"),
        ),
    ),
    Group(
        "tails",
        tails,
        True,
        (Measure("weighted_alpha", 1, "mean alpha log10 lambda_max", "Martin et al. 2021"),),
    ),
    Group(
        "representation",
        representation,
        False,
        (
            Measure(
                "two_nn",
                1,
                "TwoNN dimension of the last features",
                "Ansuini et al. 2019",
                "representation_dimension/two_nn",
            ),
            Measure(
                "rank_me",
                -1,
                "RankMe of the last features",
                "Garrido et al. 2023",
                "representation_dimension/rank_me",
            ),
            Measure(
                "participation_ratio",
                -1,
                "participation ratio of the last features",
                "by analogy",
                "representation_dimension/participation_ratio",
            ),
            Measure("alpha_req_from_one", 1, "distance of alpha-ReQ from 1", "Agrawal et al. 2022"),
        ),
    ),
    Group(
        "collapse",
        collapse,
        False,
        (
            Measure(
                "within_class",
                1,
                "NC1",
                "Papyan et al. 2020",
                "representation_dimension/within_class",
            ),
            Measure(
                "maximal_angle",
                1,
                "NC2, cosines from -1/(C-1)",
                "Papyan et al. 2020",
                "representation_dimension/maximal_angle",
            ),
            Measure("self_duality", 1, "NC3", "Papyan et al. 2020"),
        ),
    ),
    Group(
        "activation_topology",
        activation_topology,
        False,
        (
            Measure(
                "loops_by_scale",
                1,
                "total H1 persistence of the last features over that of H0",
                "Naitzat et al. 2020",
            ),
        ),
    ),
    Group(
        "weight_topology",
        weight_topology,
        False,
        (
            Measure(
                "neural_persistence",
                -1,
                "mean over layers",
                "Rieck et al. 2019",
                "neural_persistence/neural_persistence",
            ),
            Measure(
                "neural_persistence_control",
                -1,
                "mean over layers, less that of shuffled weights",
                "Girrbach et al. 2023",
                "neural_persistence/difference",
            ),
        ),
    ),
    Group(
        "fisher_spectrum",
        fisher_spectrum,
        False,
        (
            Measure(
                "effective_dimension",
                1,
                "local, over all parameters",
                "Abbas et al. 2021",
                "effective_dimension/local",
            ),
            Measure(
                "effective_parameters",
                1,
                "sum l / (l + 1/m)",
                "Maddox et al. 2020",
                "curvature/effective_parameters",
            ),
            Measure(
                "fisher_stable_rank",
                1,
                "Tr F / lambda_max",
                "by analogy",
                "fisher_information/stable_rank",
            ),
        ),
    ),
    Group(
        "tangent_kernel",
        tangent_kernel,
        False,
        (
            Measure(
                "kernel_alignment",
                -1,
                "centred alignment with labels",
                "Baratin et al. 2021",
                "tangent_kernel/alignment",
            ),
            Measure("kernel_complexity", 1, "Tr Y^T (K + delta)^-1 Y / n", "Arora et al. 2019"),
            Measure("takeuchi_penalty", 1, "Tr (F + 1/m)^-1 C", "Thomas et al. 2020"),
        ),
    ),
    Group(
        "learning_coefficient",
        learning_coefficient,
        False,
        # No analyzer's number: its chains are long and stay less near.
        (Measure("learning_coefficient", 1, "local, by short chains", "Lau et al. 2023"),),
    ),
    Group(
        "balance",
        balance,
        False,
        (
            Measure(
                "balance_drift",
                -1,
                "change of W_l W_l^T - W_{l+1}^T W_{l+1} and the like, over its terms",
                "Kunin et al. 2021, for it grows with the learning rate",
            ),
        ),
    ),
    Group(
        "linear_regions",
        linear_regions,
        False,
        (
            Measure(
                "local_complexity", 1, "share of units that bend near data", "Humayun et al. 2024"
            ),
        ),
    ),
    Group(
        "trajectory",
        trajectory,
        False,
        (
            Measure(
                "trajectory_length",
                1,
                "sum ‖w_{t+1} - w_t‖",
                "baseline of what follows",
                "trajectory_topology/path_length",
            ),
            *(
                Measure(
                    f"{name}_{metric}",
                    1,
                    f"{formula}, {metric} distance",
                    source,
                    f"trajectory_topology/{prefix}{stat}",
                )
                for metric, prefix in (
                    ("euclidean", ""),
                    ("loss", "loss_"),
                    ("zero_one", "zero_one_"),
                )
                for name, formula, source, stat in (
                    ("ph_dimension", "PH0 dimension", _PH, "ph_dimension"),
                    ("e1", "length of the spanning tree", _MAGNITUDE, "e_alpha"),
                    (
                        "e1_by_diameter",
                        "the same over the diameter",
                        "scale-free control",
                        "tree_to_diameter",
                    ),
                    ("positive_magnitude", "at scale sqrt(m)", _MAGNITUDE, "positive_magnitude"),
                )
            ),
        ),
    ),
)

#: Every measure, by name.
MEASURES: dict[str, Measure] = {one.name: one for group in GROUPS for one in group.measures} | {
    one.name: Measure(one.name, one.sign, one.formula, "the tuning zoo") for one in COMBINATIONS
}

#: What a diagnostic must not fall behind.
BASELINES: tuple[str, ...] = (
    *(one.name for group in GROUPS if group.baseline for one in group.measures),
    "trajectory_length",
)


def registered_measures() -> dict[str, Measure]:
    """Return every measure by name, with its sign."""
    return dict(MEASURES)


def measure(
    trained: TrainedModel, groups: Sequence[str] | None = None
) -> tuple[dict[str, Estimate], dict[str, float]]:
    """Take measures of a trained model.

    Parameters
    ----------
    trained : TrainedModel
        In evaluation mode.
    groups : sequence of str, optional
        Names of groups, as in ``seconds``; by default all. A combination of measures is there
        with the measures.

    Returns
    -------
    measures : dict of str to Estimate
        By name, as they are: :func:`registered_measures` has their signs. What cannot be computed
        is NaN with the reason.
    seconds : dict of str to float
        By group.

    Raises
    ------
    ValueError
        An unknown group.
    """
    known = {group.name: group for group in GROUPS}
    unknown = [name for name in groups or () if name not in known]
    if unknown:
        raise ValueError(f"no group of measures named {unknown}; there are {[*known]}")
    found: dict[str, Estimate] = {}
    seconds: dict[str, float] = {}
    for name in known if groups is None else groups:
        started = time.perf_counter()
        try:
            values = known[name].compute(trained)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            values = dict.fromkeys(
                (one.name for one in known[name].measures), Estimate.undefined(reason)
            )
        found.update((one.name, values[one.name]) for one in known[name].measures)
        seconds[name] = time.perf_counter() - started
    for one in COMBINATIONS:
        if {*one.parts} <= {*found}:
            found[one.name] = one.of(found)
    return found, seconds
