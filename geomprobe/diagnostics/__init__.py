"""How well numbers predict generalization: score cards over a zoo of trained models."""

from geomprobe.diagnostics.calibration import Calibration, PredictedRanks, calibrate
from geomprobe.diagnostics.cards import Score, ScoreCard, ScoreTable
from geomprobe.diagnostics.conditional_information import conditional_information, pgdl_score
from geomprobe.diagnostics.partial_rank import cross_fitted_spearman, partial_spearman
from geomprobe.diagnostics.rank_agreement import GranulatedKendall, granulated_kendall, kendall
from geomprobe.diagnostics.reference_rows import chance_band, noise_ceiling, noisy_oracle
from geomprobe.diagnostics.reliability import seed_reliability
from geomprobe.diagnostics.scorecard import psi_difference, scorecard
from geomprobe.diagnostics.sign_error import SignErrors, sign_errors
from geomprobe.diagnostics.within_cells import WithinCells, within_cells
from geomprobe.diagnostics.zoo import ModelZoo

__all__ = [
    "Calibration",
    "GranulatedKendall",
    "ModelZoo",
    "PredictedRanks",
    "Score",
    "ScoreCard",
    "ScoreTable",
    "SignErrors",
    "WithinCells",
    "calibrate",
    "chance_band",
    "conditional_information",
    "cross_fitted_spearman",
    "granulated_kendall",
    "kendall",
    "noise_ceiling",
    "noisy_oracle",
    "partial_spearman",
    "pgdl_score",
    "psi_difference",
    "scorecard",
    "seed_reliability",
    "sign_errors",
    "within_cells",
]
