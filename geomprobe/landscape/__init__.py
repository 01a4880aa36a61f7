"""The loss as a function of the parameters: slices of it, and how wide its basins are."""

from geomprobe.landscape.analyzers import LossSurface
from geomprobe.landscape.basin_width import basin_width
from geomprobe.landscape.directions import random_directions
from geomprobe.landscape.slices import LossSlice, loss_slice
from geomprobe.landscape.trajectory_plane import TrajectoryPlane, trajectory_plane

__all__ = [
    "LossSlice",
    "LossSurface",
    "TrajectoryPlane",
    "basin_width",
    "loss_slice",
    "random_directions",
    "trajectory_plane",
]
