"""Where the largest output changes, inside polygons on which all outputs are affine."""

from __future__ import annotations

import numpy as np

from geomprobe.storage import Array


def boundary(vertices: Array, outputs: Array, corners: Array, starts: Array) -> Array:
    """Return the segments on which two outputs are equal and above all others, (segments, 2, 2)."""
    if outputs.shape[1] == 1:
        outputs = np.concatenate([outputs, np.zeros_like(outputs)], axis=1)
    winner = outputs.argmax(axis=1)[corners]
    same = winner == np.repeat(winner[starts], np.diff(np.append(starts, len(corners))))
    different = np.add.reduceat(~same, starts)
    found = []
    # The largest is convex, so that with one winner at all corners it wins everywhere.
    for polygon in np.flatnonzero(different):
        stop = starts[polygon + 1] if polygon + 1 < len(starts) else len(corners)
        at = corners[starts[polygon] : stop]
        found += _equal_in(vertices[at], outputs[at])
    return np.array(found).reshape(-1, 2, 2)


def _equal_in(corners: Array, outputs: Array) -> list[Array]:
    """Cut the line on which two outputs are equal by the polygon and by the other outputs."""
    found = []
    classes = outputs.shape[1]
    for i in range(classes):
        for j in range(i + 1, classes):
            gap = outputs[:, i] - outputs[:, j]
            after = np.roll(gap, -1)
            crossed = np.flatnonzero((gap > 0) != (after > 0))
            if len(crossed) != 2:
                continue
            share = (gap / np.where(gap == after, 1, gap - after))[crossed, None]
            ends, values = (
                (1 - share) * rows[crossed] + share * np.roll(rows, -1, axis=0)[crossed]
                for rows in (corners, outputs)
            )
            # Along it from 0 to 1: where no other output is above both.
            above = values[:, i, None] - np.delete(values, [i, j], axis=1)
            low, high = 0.0, 1.0
            for start, stop in above.T:
                if start < 0 and stop < 0:
                    low, high = 1.0, 0.0
                elif start < 0:
                    low = max(low, start / (start - stop))
                elif stop < 0:
                    high = min(high, start / (start - stop))
            if low < high:
                found.append(np.stack([(1 - s) * ends[0] + s * ends[1] for s in (low, high)]))
    return found
