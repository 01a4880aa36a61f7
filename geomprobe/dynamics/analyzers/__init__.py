"""The analyzers of training as a path."""

from geomprobe.dynamics.analyzers.conservation import Conservation
from geomprobe.dynamics.analyzers.gradients import GradientNoiseScale
from geomprobe.dynamics.analyzers.margins import ClassMargins
from geomprobe.dynamics.analyzers.path import TrainingPath

__all__ = ["ClassMargins", "Conservation", "GradientNoiseScale", "TrainingPath"]
