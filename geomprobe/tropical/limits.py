"""What stops a mesh: it has grown too large, or rounding no longer tells its walls apart."""

from __future__ import annotations


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
