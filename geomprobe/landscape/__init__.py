"""The loss as a function of the parameters: slices, symmetries, and what lies between minima."""

from geomprobe.landscape.alignment import Alignment, align, distance
from geomprobe.landscape.analyzers import LossSurface
from geomprobe.landscape.barriers import LinearBarrier, linear_barrier
from geomprobe.landscape.basin_width import basin_width
from geomprobe.landscape.connectivity import Connectivity, connectivity_matrix
from geomprobe.landscape.curves import LowLossCurve, low_loss_curve
from geomprobe.landscape.directions import random_directions
from geomprobe.landscape.equivalents import canonical, random_equivalent
from geomprobe.landscape.paths import LossPath
from geomprobe.landscape.slices import LossSlice, loss_slice
from geomprobe.landscape.symmetry import (
    Scaling,
    Symmetries,
    symmetries,
    verify_same_function,
)
from geomprobe.landscape.trajectory_plane import TrajectoryPlane, trajectory_plane
from geomprobe.landscape.width_sweep import WidthSweep, width_sweep

__all__ = [
    "Alignment",
    "Connectivity",
    "LinearBarrier",
    "LossPath",
    "LossSlice",
    "LossSurface",
    "LowLossCurve",
    "Scaling",
    "Symmetries",
    "TrajectoryPlane",
    "WidthSweep",
    "align",
    "basin_width",
    "canonical",
    "connectivity_matrix",
    "distance",
    "linear_barrier",
    "loss_slice",
    "low_loss_curve",
    "random_directions",
    "random_equivalent",
    "symmetries",
    "trajectory_plane",
    "verify_same_function",
    "width_sweep",
]
