"""What stops an analysis: no regions, a mesh too large, walls that rounding cannot tell apart."""

from __future__ import annotations


class NoRegions(ValueError):
    """A model is not piecewise linear, or affine: it has no regions to tell of."""


class TooManyInputs(Exception):
    """A mesh has outgrown its limit: how many inputs it had, and at which bend."""

    def __init__(self, inputs: int, kink: str) -> None:
        super().__init__(inputs, kink)
        self.inputs, self.kink = inputs, kink


class DegenerateWalls(Exception):
    """More walls go through a point than there are dimensions; ``kink`` is where that was seen."""

    def __init__(self, kink: str) -> None:
        super().__init__(kink)
        self.kink = kink
