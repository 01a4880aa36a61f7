"""The analyzers of the information wing."""

from geomprobe.information.analyzers.effective_dimension import EffectiveDimension
from geomprobe.information.analyzers.fisher_information import FisherInformation

__all__ = ["EffectiveDimension", "FisherInformation"]
