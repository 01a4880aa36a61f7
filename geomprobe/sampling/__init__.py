"""Keep: bounded reservoirs, projections, parameter trajectories."""

from geomprobe.sampling.collect import collect, collect_together
from geomprobe.sampling.loading import iterate_batches
from geomprobe.sampling.probe import Probe
from geomprobe.sampling.projection import SparseProjection
from geomprobe.sampling.reservoir import BottomK, Reservoir
from geomprobe.sampling.shards import Shard
from geomprobe.sampling.store import CloudStore
from geomprobe.sampling.trajectory import TrajectoryRecorder

__all__ = [
    "BottomK",
    "CloudStore",
    "Probe",
    "Reservoir",
    "Shard",
    "SparseProjection",
    "TrajectoryRecorder",
    "collect",
    "collect_together",
    "iterate_batches",
]
