"""Serve: scikit-learn transformers."""

from geomprobe.estimators.activation import ActivationCloud
from geomprobe.estimators.checkpoints import CheckpointClouds, FisherFeatures
from geomprobe.estimators.curves import BettiCurve, PersistenceLandscape, Silhouette
from geomprobe.estimators.dimension import IntrinsicDimension, LinearDimension
from geomprobe.estimators.entropy import PersistenceEntropy, TotalPersistence
from geomprobe.estimators.image import PersistenceImage
from geomprobe.estimators.rips import RipsPersistence

__all__ = [
    "ActivationCloud",
    "BettiCurve",
    "CheckpointClouds",
    "FisherFeatures",
    "IntrinsicDimension",
    "LinearDimension",
    "PersistenceEntropy",
    "PersistenceImage",
    "PersistenceLandscape",
    "RipsPersistence",
    "Silhouette",
    "TotalPersistence",
]
