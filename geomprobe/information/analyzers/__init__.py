"""The analyzers of the information wing."""

from geomprobe.information.analyzers.curvature import LossCurvature
from geomprobe.information.analyzers.effective_dimension import EffectiveDimension
from geomprobe.information.analyzers.fisher_information import FisherInformation
from geomprobe.information.analyzers.learning_coefficient import LearningCoefficient
from geomprobe.information.analyzers.tangent_kernel import NeuralTangentKernel

__all__ = [
    "EffectiveDimension",
    "FisherInformation",
    "LearningCoefficient",
    "LossCurvature",
    "NeuralTangentKernel",
]
