"""The landscape of the loss: symmetries of parameter space, and what lies between minima."""

from geomprobe.landscape.alignment import Alignment, align, distance
from geomprobe.landscape.barriers import LinearBarrier, linear_barrier
from geomprobe.landscape.connectivity import Connectivity, connectivity_matrix
from geomprobe.landscape.curves import LowLossCurve, low_loss_curve
from geomprobe.landscape.paths import LossPath
from geomprobe.landscape.symmetry import (
    Scaling,
    Symmetries,
    canonical,
    random_equivalent,
    symmetries,
    verify_same_function,
)
from geomprobe.landscape.width_sweep import WidthSweep, width_sweep

__all__ = [
    "Alignment",
    "Connectivity",
    "LinearBarrier",
    "LossPath",
    "LowLossCurve",
    "Scaling",
    "Symmetries",
    "WidthSweep",
    "align",
    "canonical",
    "connectivity_matrix",
    "distance",
    "linear_barrier",
    "low_loss_curve",
    "random_equivalent",
    "symmetries",
    "verify_same_function",
    "width_sweep",
]
