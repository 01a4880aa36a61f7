"""The path of the parameters through training, in bounded memory."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from geomprobe.clouds import Trajectory
from geomprobe.memory import require_memory
from geomprobe.sampling.projection import SparseProjection
from geomprobe.storage import Array


class TrajectoryRecorder:
    """Records trainable parameters step by step, exactly or projected.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters with ``requires_grad`` are recorded, in the order of ``parameters()``.
    dim : int or None
        Project to this many dimensions (see :class:`~geomprobe.sampling.SparseProjection`, with
        one nonzero a coordinate); ``None`` records every parameter.
    every : int
        Record every so many steps.
    points : int
        Most points to keep. When they are reached, every second one is dropped and the stride
        doubles, so that the record always spans the whole run.
    seed : int
        Seed of the projection.

    Notes
    -----
    O(p) time a recorded step. The projection holds 9 bytes a parameter, the record
    ``points * dim`` float32 numbers. ``meta["arc_length"]`` holds for each point the length of the
    path up to it: the sum of the distances between parameters at consecutive multiples of the
    stride, before any projection. It costs one more copy of the parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dim: int | None = None,
        every: int = 1,
        points: int = 2000,
        seed: int = 0,
    ) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        size = sum(p.numel() for p in self._parameters)
        if not size:
            raise ValueError("the model has no trainable parameters: there is no trajectory")
        if every < 1 or points < 2:
            raise ValueError(f"every must be >= 1 and points >= 2, got {every} and {points}")
        if dim is not None and dim < 1:
            raise ValueError(f"dim must be positive or None, got {dim}")
        if dim is not None and dim >= size:
            dim = None
        require_memory(
            4 * points * (dim or size) + (9 * size if dim else 0) + 4 * size,
            f"a trajectory of {points} points in {dim or size} dimensions",
            "Give a smaller dim (projection), fewer points, or a larger every.",
        )
        self._projection = (
            None if dim is None else SparseProjection(size, dim, seed=seed, nonzeros=1)
        )
        self._size, self._stride, self._points, self._seed = size, every, points, seed
        self._previous: torch.Tensor | None = None
        self._arc_length = 0.0
        self._kept: list[tuple[int, float, float, Array]] = []

    @torch.no_grad()
    def record(self, step: int, loss: float | None = None) -> None:
        """Record the parameters as they are now, if ``step`` is a multiple of the stride."""
        if step % self._stride:
            return
        flat = torch.cat([p.detach().reshape(-1).float() for p in self._parameters])
        if self._previous is not None:
            leap = torch.linalg.vector_norm(flat - self._previous, dtype=torch.float64)
            self._arc_length += float(leap)
        self._previous = flat
        point = flat if self._projection is None else self._projection(flat[None])[0]
        value = math.nan if loss is None else float(loss)
        self._kept.append((step, value, self._arc_length, point.cpu().numpy().copy()))
        if len(self._kept) > self._points:
            self._stride *= 2
            self._kept = [entry for entry in self._kept if entry[0] % self._stride == 0]

    @property
    def trajectory(self) -> Trajectory | None:
        """The record so far; None before the first point."""
        if not self._kept:
            return None
        steps, losses, arc_lengths, points = zip(*self._kept, strict=True)
        meta = {
            "parameters": self._size,
            "stride": self._stride,
            "projection": None if self._projection is None else self._projection.k,
            "seed": self._seed,
            "arc_length": list(arc_lengths),
        }
        return Trajectory(np.stack(points), np.array(steps), np.array(losses), meta)
