"""The analyzers of the loss landscape."""

from geomprobe.landscape.analyzers.between import BarriersBetween, CurveBetween, LineBetween
from geomprobe.landscape.analyzers.surface import LossSurface

__all__ = ["BarriersBetween", "CurveBetween", "LineBetween", "LossSurface"]
