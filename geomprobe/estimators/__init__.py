"""Serve: scikit-learn transformers."""

from geomprobe.estimators.activation import ActivationCloud
from geomprobe.estimators.entropy import PersistenceEntropy
from geomprobe.estimators.rips import RipsPersistence

__all__ = ["ActivationCloud", "PersistenceEntropy", "RipsPersistence"]
