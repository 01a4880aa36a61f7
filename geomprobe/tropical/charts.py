"""Coordinates on an affine part of the space of inputs, and affine maps of a network in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geomprobe.storage import Array
from geomprobe.tropical.branches import Branches
from geomprobe.tropical.tape import Still, Tape


@dataclass(frozen=True, eq=False)
class Chart:
    """An affine map from coordinates to inputs.

    Parameters
    ----------
    origin : list of Tensor
        Of each tensor of the input that moves, (1, *shape).
    axes : list of Tensor
        What a unit of each coordinate adds: of each such tensor, (d, 1, *shape).
    """

    origin: Sequence[Tensor]
    axes: Sequence[Tensor]

    def rows(self, coordinates: Array) -> list[Tensor]:
        """Return the inputs at coordinates (n, d)."""
        out = []
        for origin, axes in zip(self.origin, self.axes, strict=True):
            at = torch.from_numpy(np.ascontiguousarray(coordinates)).to(origin.device)
            out.append(origin + torch.tensordot(at, axes, 1))
        return out


def values_at(tape: Tape, chart: Chart, coordinates: Array) -> Array:
    """Return the outputs at coordinates (n, d), of shape (n, outputs)."""
    size = tape.rows_in_memory()
    parts = [
        tape.run(Still(), *chart.rows(coordinates[i : i + size])).cpu().numpy()
        for i in range(0, len(coordinates), size)
    ]
    return np.concatenate(parts)


def affine_maps(tape: Tape, chart: Chart, coordinates: Array) -> tuple[Array, Array]:
    """Return values (n, outputs) and gradients (n, outputs, d), in coordinates, of a network.

    Gradients are those of the affine map on the region that each point lies in, exact to rounding.
    """
    n, d = coordinates.shape
    size = max(1, tape.rows_in_memory() // (d + 1))
    values, gradients = [], []
    for start in range(0, n, size):
        base = coordinates[start : start + size]
        moved = [base, *(base + unit for unit in np.eye(d))]
        outputs = tape.run(Branches(len(base)), *chart.rows(np.concatenate(moved)))
        parts = outputs.reshape(d + 1, len(base), -1).cpu().numpy()
        values.append(parts[0])
        gradients.append(np.moveaxis(parts[1:] - parts[0], 0, -1))
    return np.concatenate(values), np.concatenate(gradients)
