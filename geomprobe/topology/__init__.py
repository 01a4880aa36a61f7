"""Analyze: the topology of point clouds, of paths, and of weights."""

from geomprobe.topology.analyzers import (
    LayerTopology,
    NeuralPersistence,
    PersistentHomology,
    TrajectoryTopology,
)
from geomprobe.topology.approximation import landmark_persistence, sparse_rips_persistence
from geomprobe.topology.bands import BottleneckBand, bottleneck_band
from geomprobe.topology.correlation import (
    CorrelationDistances,
    correlation_distances,
    correlation_persistence,
)
from geomprobe.topology.diagrams import Diagrams, from_giotto, to_giotto
from geomprobe.topology.distances import bottleneck_distance, matching, wasserstein_distance
from geomprobe.topology.divergence import cross_barcode, rtd
from geomprobe.topology.geodesics import geodesic_distances
from geomprobe.topology.landscapes import (
    AverageLandscape,
    average_landscape,
    landscape,
    persistence_image,
    silhouette,
)
from geomprobe.topology.magnitude import magnitude
from geomprobe.topology.metrics import (
    euclidean_distances,
    loss_pseudometric,
    zero_one_pseudometric,
)
from geomprobe.topology.mst import SpanningTree, euclidean_mst, minimum_spanning_tree
from geomprobe.topology.neural_persistence import (
    ShuffledControl,
    neural_persistence,
    shuffled_control,
)
from geomprobe.topology.ph_dimension import PHDimension, ph_dimension
from geomprobe.topology.rips import rips_persistence
from geomprobe.topology.summaries import (
    betti_curve,
    longest_bar,
    persistence_entropy,
    total_persistence,
)

__all__ = [
    "AverageLandscape",
    "BottleneckBand",
    "CorrelationDistances",
    "Diagrams",
    "LayerTopology",
    "NeuralPersistence",
    "PHDimension",
    "PersistentHomology",
    "ShuffledControl",
    "SpanningTree",
    "TrajectoryTopology",
    "average_landscape",
    "betti_curve",
    "bottleneck_band",
    "bottleneck_distance",
    "correlation_distances",
    "correlation_persistence",
    "cross_barcode",
    "euclidean_distances",
    "euclidean_mst",
    "from_giotto",
    "geodesic_distances",
    "landmark_persistence",
    "landscape",
    "longest_bar",
    "loss_pseudometric",
    "magnitude",
    "matching",
    "minimum_spanning_tree",
    "neural_persistence",
    "persistence_entropy",
    "persistence_image",
    "ph_dimension",
    "rips_persistence",
    "rtd",
    "shuffled_control",
    "silhouette",
    "sparse_rips_persistence",
    "to_giotto",
    "total_persistence",
    "wasserstein_distance",
    "zero_one_pseudometric",
]
