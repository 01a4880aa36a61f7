"""geomprobe: the geometry of a neural network, while it learns and after it has learned."""

from typing import TYPE_CHECKING, Any

from geomprobe.analyzer import Analyzer, analyze, load_analyzer, registered_analyzers
from geomprobe.clouds import CloudSet, PointCloud, Trajectory
from geomprobe.evidence import Evidence, Samples
from geomprobe.exceptions import GeomprobeWarning
from geomprobe.findings import Estimate, Finding

if TYPE_CHECKING:
    from geomprobe.auditing import AuditReport, audit, audit_many, compare
    from geomprobe.callbacks import Monitor
    from geomprobe.estimators import ActivationCloud, PersistenceEntropy, RipsPersistence
    from geomprobe.sampling import CloudStore, Probe, TrajectoryRecorder

__version__ = "0.1.0"

# Imported on first use, so that `import geomprobe` costs little more than `import torch`.
_LAZY = {
    "ActivationCloud": "geomprobe.estimators",
    "AuditReport": "geomprobe.auditing",
    "CloudStore": "geomprobe.sampling",
    "Monitor": "geomprobe.callbacks",
    "PersistenceEntropy": "geomprobe.estimators",
    "Probe": "geomprobe.sampling",
    "RipsPersistence": "geomprobe.estimators",
    "TrajectoryRecorder": "geomprobe.sampling",
    "audit": "geomprobe.auditing",
    "audit_many": "geomprobe.auditing",
    "compare": "geomprobe.auditing",
}

__all__ = [
    "ActivationCloud",
    "Analyzer",
    "AuditReport",
    "CloudSet",
    "CloudStore",
    "Estimate",
    "Evidence",
    "Finding",
    "GeomprobeWarning",
    "Monitor",
    "PersistenceEntropy",
    "PointCloud",
    "Probe",
    "RipsPersistence",
    "Samples",
    "Trajectory",
    "TrajectoryRecorder",
    "analyze",
    "audit",
    "audit_many",
    "compare",
    "load_analyzer",
    "registered_analyzers",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'geomprobe' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
