"""The analyzers of the topology wing."""

from geomprobe.topology.analyzers.homology import PersistentHomology
from geomprobe.topology.analyzers.layers import LayerTopology
from geomprobe.topology.analyzers.trajectory import TrajectoryTopology
from geomprobe.topology.analyzers.weights import NeuralPersistence

__all__ = [
    "LayerTopology",
    "NeuralPersistence",
    "PersistentHomology",
    "TrajectoryTopology",
]
