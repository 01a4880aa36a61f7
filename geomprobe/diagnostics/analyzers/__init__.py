"""The analyzers that take more than one wing: optimizers beside curvature and likelihoods."""

from geomprobe.diagnostics.analyzers.edge_of_stability import EdgeOfStability
from geomprobe.diagnostics.analyzers.natural_path import NaturalPath

__all__ = ["EdgeOfStability", "NaturalPath"]
