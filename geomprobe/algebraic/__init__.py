"""Varieties of functions, tensors, critical points and polynomials of neural networks."""

from geomprobe.algebraic.analyzers import CriticalPoint, EffectiveDegree, FunctionalDimension
from geomprobe.algebraic.border_rank import BorderRankScan, border_rank_scan
from geomprobe.algebraic.cp_decomposition import CPDecomposition, cp_decomposition
from geomprobe.algebraic.critical_points import Stationarity, classify_critical_point
from geomprobe.algebraic.depth_efficiency import (
    DepthEfficiency,
    depth_efficiency,
    hierarchical_tucker_ranks,
)
from geomprobe.algebraic.determinantal import (
    EckartYoung,
    determinantal_ed_degree,
    eckart_young_critical_points,
    gaussian_binomial,
)
from geomprobe.algebraic.effective_degree import DegreeProfile, effective_degree
from geomprobe.algebraic.functional_dimension import JacobianRank, functional_dimension
from geomprobe.algebraic.linear_networks import (
    LinearCriticalPoint,
    classify_linear_critical_point,
)
from geomprobe.algebraic.neurovariety import Neurovariety, neurovariety_dimension
from geomprobe.algebraic.prime_field import CertifiedRank
from geomprobe.algebraic.secant import (
    SecantVariety,
    alexander_hirschowitz,
    generic_rank,
    secant_dimension,
)
from geomprobe.algebraic.shallow_polynomial import (
    ShallowPolynomial,
    SymmetricDecomposition,
    polynomial_network,
    symmetric_tensor,
)
from geomprobe.algebraic.slice_polynomial import SlicePolynomial, slice_polynomial

__all__ = [
    "BorderRankScan",
    "CPDecomposition",
    "CertifiedRank",
    "CriticalPoint",
    "DegreeProfile",
    "DepthEfficiency",
    "EckartYoung",
    "EffectiveDegree",
    "FunctionalDimension",
    "JacobianRank",
    "LinearCriticalPoint",
    "Neurovariety",
    "SecantVariety",
    "ShallowPolynomial",
    "SlicePolynomial",
    "Stationarity",
    "SymmetricDecomposition",
    "alexander_hirschowitz",
    "border_rank_scan",
    "classify_critical_point",
    "classify_linear_critical_point",
    "cp_decomposition",
    "depth_efficiency",
    "determinantal_ed_degree",
    "eckart_young_critical_points",
    "effective_degree",
    "functional_dimension",
    "gaussian_binomial",
    "generic_rank",
    "hierarchical_tucker_ranks",
    "neurovariety_dimension",
    "polynomial_network",
    "secant_dimension",
    "slice_polynomial",
    "symmetric_tensor",
]
