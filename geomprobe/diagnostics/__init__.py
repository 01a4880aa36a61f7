"""Measures of trained models, and how well numbers predict generalization: score cards."""

from geomprobe.diagnostics.calibration import Calibration, PredictedRanks, calibrate
from geomprobe.diagnostics.cards import Score, ScoreCard, ScoreTable
from geomprobe.diagnostics.class_geometry import (
    augmentation_error,
    davies_bouldin,
    mixup_error,
    noise_error,
)
from geomprobe.diagnostics.conditional_information import conditional_information, pgdl_score
from geomprobe.diagnostics.gradient_statistics import GradientStatistics, gradient_statistics
from geomprobe.diagnostics.heavy_tails import PowerLaw, power_law, weighted_alpha
from geomprobe.diagnostics.kernel_complexity import kernel_complexity
from geomprobe.diagnostics.measures import Measure, measure, registered_measures
from geomprobe.diagnostics.norms import LayerNorms, layer_norms, parameter_norm, path_norm
from geomprobe.diagnostics.outputs import cross_entropy, margin, margins, output_entropy
from geomprobe.diagnostics.pac_bayes import PacBayes, pac_bayes
from geomprobe.diagnostics.partial_rank import cross_fitted_spearman, partial_spearman
from geomprobe.diagnostics.published import (
    PublishedScore,
    ZooScore,
    published_scores,
    score_of,
)
from geomprobe.diagnostics.rank_agreement import GranulatedKendall, granulated_kendall, kendall
from geomprobe.diagnostics.reference_rows import chance_band, noise_ceiling, noisy_oracle
from geomprobe.diagnostics.reliability import seed_reliability
from geomprobe.diagnostics.scorecard import psi_difference, scorecard
from geomprobe.diagnostics.sign_error import SignErrors, sign_errors
from geomprobe.diagnostics.takeuchi_penalty import takeuchi_penalty
from geomprobe.diagnostics.trained import TrainedModel
from geomprobe.diagnostics.trajectory_group import trajectory_measures
from geomprobe.diagnostics.within_cells import WithinCells, within_cells
from geomprobe.diagnostics.zoo import ModelZoo

__all__ = [
    "Calibration",
    "GradientStatistics",
    "GranulatedKendall",
    "LayerNorms",
    "Measure",
    "ModelZoo",
    "PacBayes",
    "PowerLaw",
    "PredictedRanks",
    "PublishedScore",
    "Score",
    "ScoreCard",
    "ScoreTable",
    "SignErrors",
    "TrainedModel",
    "WithinCells",
    "ZooScore",
    "augmentation_error",
    "calibrate",
    "chance_band",
    "conditional_information",
    "cross_entropy",
    "cross_fitted_spearman",
    "davies_bouldin",
    "gradient_statistics",
    "granulated_kendall",
    "kendall",
    "kernel_complexity",
    "layer_norms",
    "margin",
    "margins",
    "measure",
    "mixup_error",
    "noise_ceiling",
    "noise_error",
    "noisy_oracle",
    "output_entropy",
    "pac_bayes",
    "parameter_norm",
    "partial_spearman",
    "path_norm",
    "pgdl_score",
    "power_law",
    "psi_difference",
    "published_scores",
    "registered_measures",
    "score_of",
    "scorecard",
    "seed_reliability",
    "sign_errors",
    "takeuchi_penalty",
    "trajectory_measures",
    "weighted_alpha",
    "within_cells",
]
