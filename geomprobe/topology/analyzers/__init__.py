"""The analyzers of the topology wing."""

from geomprobe.topology.analyzers.homology import PersistentHomology

__all__ = ["PersistentHomology"]
