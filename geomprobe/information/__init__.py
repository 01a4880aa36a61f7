"""Information geometry: Fisher information, its spectrum, and effective dimension."""

from geomprobe.information.analyzers import EffectiveDimension, FisherInformation
from geomprobe.information.convergence import DimensionByInputs, dimension_by_inputs
from geomprobe.information.effective_dimension import (
    effective_dimension,
    global_effective_dimension,
    resolution,
    smallest_valid_n,
)
from geomprobe.information.fisher import fisher_gram
from geomprobe.information.fisher_rows import FisherRows
from geomprobe.information.fisher_trace import fisher_trace
from geomprobe.information.gram import FisherGram
from geomprobe.information.infinite_width import infinite_width_ntk, relu_kernels
from geomprobe.information.likelihoods import (
    Bernoulli,
    Gaussian,
    Likelihood,
    Softmax,
    likelihood_of,
)
from geomprobe.information.parameters import parameter_draws
from geomprobe.information.spectra import participation_ratio, stable_rank
from geomprobe.information.tangent_kernel import TangentKernel, ntk

__all__ = [
    "Bernoulli",
    "DimensionByInputs",
    "EffectiveDimension",
    "FisherGram",
    "FisherInformation",
    "FisherRows",
    "Gaussian",
    "Likelihood",
    "Softmax",
    "TangentKernel",
    "dimension_by_inputs",
    "effective_dimension",
    "fisher_gram",
    "fisher_trace",
    "global_effective_dimension",
    "infinite_width_ntk",
    "likelihood_of",
    "ntk",
    "parameter_draws",
    "participation_ratio",
    "relu_kernels",
    "resolution",
    "smallest_valid_n",
    "stable_rank",
]
