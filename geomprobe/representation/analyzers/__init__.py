"""The analyzers of the representation wing."""

from geomprobe.representation.analyzers.dimension import RepresentationDimension
from geomprobe.representation.analyzers.similarity import RepresentationSimilarity

__all__ = ["RepresentationDimension", "RepresentationSimilarity"]
