"""Information geometry: Fisher information, its spectrum, and effective dimension."""

from geomprobe.information.analyzers import EffectiveDimension, FisherInformation
from geomprobe.information.convergence import DimensionByInputs, dimension_by_inputs
from geomprobe.information.curvature import Curvature, curvature
from geomprobe.information.distributed_gram import distributed_fisher_gram
from geomprobe.information.effective_dimension import (
    effective_dimension,
    global_effective_dimension,
    resolution,
    smallest_valid_n,
)
from geomprobe.information.eigenpairs import Eigenpairs, top_eigenpairs
from geomprobe.information.fisher import fisher_gram
from geomprobe.information.fisher_eigenpairs import fisher_eigenpairs
from geomprobe.information.fisher_rows import FisherRows
from geomprobe.information.fisher_sketch import FisherSketch, fisher_sketch
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
from geomprobe.information.local_learning_coefficient import (
    LearningCoefficientGrid,
    LocalLearningCoefficient,
    learning_coefficient_grid,
    local_learning_coefficient,
)
from geomprobe.information.morse_index import morse_index
from geomprobe.information.parameters import parameter_draws
from geomprobe.information.spectra import (
    effective_parameters,
    participation_ratio,
    stable_rank,
)
from geomprobe.information.spectral_density import SpectralDensity, spectral_density
from geomprobe.information.stochastic_trace import stochastic_trace
from geomprobe.information.takeuchi import TakeuchiCriterion, tic
from geomprobe.information.tangent_kernel import TangentKernel, ntk

__all__ = [
    "Bernoulli",
    "Curvature",
    "DimensionByInputs",
    "EffectiveDimension",
    "Eigenpairs",
    "FisherGram",
    "FisherInformation",
    "FisherRows",
    "FisherSketch",
    "Gaussian",
    "LearningCoefficientGrid",
    "Likelihood",
    "LocalLearningCoefficient",
    "Softmax",
    "SpectralDensity",
    "TakeuchiCriterion",
    "TangentKernel",
    "curvature",
    "dimension_by_inputs",
    "distributed_fisher_gram",
    "effective_dimension",
    "effective_parameters",
    "fisher_eigenpairs",
    "fisher_gram",
    "fisher_sketch",
    "fisher_trace",
    "global_effective_dimension",
    "infinite_width_ntk",
    "learning_coefficient_grid",
    "likelihood_of",
    "local_learning_coefficient",
    "morse_index",
    "ntk",
    "parameter_draws",
    "participation_ratio",
    "relu_kernels",
    "resolution",
    "smallest_valid_n",
    "spectral_density",
    "stable_rank",
    "stochastic_trace",
    "tic",
    "top_eigenpairs",
]
