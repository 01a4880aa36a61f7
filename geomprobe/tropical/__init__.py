"""Piecewise-linear networks: their exact pieces, slices and regions."""

from geomprobe.tropical.complexes import RegionComplex, region_complex
from geomprobe.tropical.segments import LinearPieces, linear_pieces
from geomprobe.tropical.slices import SliceRegions, slice_regions

__all__ = [
    "LinearPieces",
    "RegionComplex",
    "SliceRegions",
    "linear_pieces",
    "region_complex",
    "slice_regions",
]
