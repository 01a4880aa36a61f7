"""The analyzers of the loss landscape."""

from geomprobe.landscape.analyzers.surface import LossSurface

__all__ = ["LossSurface"]
