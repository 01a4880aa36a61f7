"""Piecewise-linear networks: exact pieces, slices and regions, and their tropical form."""

from geomprobe.tropical.complexes import RegionComplex, region_complex
from geomprobe.tropical.polynomials import TropicalPolynomial
from geomprobe.tropical.rational import TropicalForm, tropical_form
from geomprobe.tropical.segments import LinearPieces, linear_pieces
from geomprobe.tropical.slices import SliceRegions, slice_regions

__all__ = [
    "LinearPieces",
    "RegionComplex",
    "SliceRegions",
    "TropicalForm",
    "TropicalPolynomial",
    "linear_pieces",
    "region_complex",
    "slice_regions",
    "tropical_form",
]
