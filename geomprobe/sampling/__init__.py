"""Keep: bounded reservoirs, projections, parameter trajectories."""

from geomprobe.sampling.collect import collect
from geomprobe.sampling.loading import iterate_batches
from geomprobe.sampling.probe import Probe
from geomprobe.sampling.projection import SparseProjection
from geomprobe.sampling.reservoir import BottomK, Reservoir
from geomprobe.sampling.trajectory import TrajectoryRecorder

__all__ = [
    "BottomK",
    "Probe",
    "Reservoir",
    "SparseProjection",
    "TrajectoryRecorder",
    "collect",
    "iterate_batches",
]
