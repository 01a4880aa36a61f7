"""geomprobe: the geometry of a neural network, while it learns and after it has learned."""

from geomprobe.analyzer import Analyzer, analyze, load_analyzer, registered_analyzers
from geomprobe.clouds import CloudSet, PointCloud, Trajectory
from geomprobe.evidence import Evidence, Samples
from geomprobe.exceptions import GeomprobeWarning
from geomprobe.findings import Estimate, Finding

__version__ = "0.1.0"

__all__ = [
    "Analyzer",
    "CloudSet",
    "Estimate",
    "Evidence",
    "Finding",
    "GeomprobeWarning",
    "PointCloud",
    "Samples",
    "Trajectory",
    "analyze",
    "load_analyzer",
    "registered_analyzers",
]
