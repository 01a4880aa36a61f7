"""Analyze: persistent homology of point clouds."""

from geomprobe.topology.analyzers import PersistentHomology
from geomprobe.topology.diagrams import Diagrams, from_giotto, to_giotto
from geomprobe.topology.mst import SpanningTree, euclidean_mst, minimum_spanning_tree
from geomprobe.topology.rips import rips_persistence
from geomprobe.topology.summaries import (
    betti_curve,
    longest_bar,
    persistence_entropy,
    total_persistence,
)

__all__ = [
    "Diagrams",
    "PersistentHomology",
    "SpanningTree",
    "betti_curve",
    "euclidean_mst",
    "from_giotto",
    "longest_bar",
    "minimum_spanning_tree",
    "persistence_entropy",
    "rips_persistence",
    "to_giotto",
    "total_persistence",
]
