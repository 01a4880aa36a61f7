"""Piecewise-linear networks: exact pieces, slices and regions, density, and the tropical form."""

from geomprobe.tropical.analyzers import RegionCrossings, RegionDensity
from geomprobe.tropical.boundary_distance import BoundaryDistances, boundary_distance
from geomprobe.tropical.bounds import RegionBounds, region_bounds, zaslavsky
from geomprobe.tropical.complexes import RegionComplex, region_complex
from geomprobe.tropical.expressiveness import RankedArchitecture, rank_architectures
from geomprobe.tropical.initialization import InitializationReport, initialization_report
from geomprobe.tropical.local_complexity import LocalComplexity, local_complexity
from geomprobe.tropical.patterns import (
    ActivationPatterns,
    RegionMoves,
    activation_patterns,
    region_crossings,
)
from geomprobe.tropical.polynomials import TropicalPolynomial
from geomprobe.tropical.rational import TropicalForm, tropical_form
from geomprobe.tropical.segments import LinearPieces, linear_pieces
from geomprobe.tropical.slices import SliceRegions, slice_regions

__all__ = [
    "ActivationPatterns",
    "BoundaryDistances",
    "InitializationReport",
    "LinearPieces",
    "LocalComplexity",
    "RankedArchitecture",
    "RegionBounds",
    "RegionComplex",
    "RegionCrossings",
    "RegionDensity",
    "RegionMoves",
    "SliceRegions",
    "TropicalForm",
    "TropicalPolynomial",
    "activation_patterns",
    "boundary_distance",
    "initialization_report",
    "linear_pieces",
    "local_complexity",
    "rank_architectures",
    "region_bounds",
    "region_complex",
    "region_crossings",
    "slice_regions",
    "tropical_form",
    "zaslavsky",
]
