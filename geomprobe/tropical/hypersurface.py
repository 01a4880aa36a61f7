"""The tropical hypersurface of a polynomial in two variables, as exact segments."""

from __future__ import annotations

import numpy as np

from geomprobe.storage import Array

#: Heights that differ by less than this share of the largest in the box are equal.
_SAME = 1e-12


def hypersurface_segments(
    slopes: Array, constants: Array, low: Array, high: Array
) -> tuple[Array, Array]:
    r"""Return where the two largest of the functions :math:`a_i \cdot x + c_i` are equal.

    Parameters
    ----------
    slopes : float64 array of shape (m, 2)
        No two functions equal.
    constants : float64 array of shape (m,)
    low, high : float64 array of shape (2,)
        A box.

    Returns
    -------
    ends : float64 array of shape (n, 2, 2)
    pairs : int array of shape (n, 2)
        Which two functions are the largest on each.

    Notes
    -----
    The cell of each function is the box cut by the half-planes in which it exceeds another, the
    most violated first. O(m) time for each side of a cell, and O(m^2) in all.
    """
    box = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
    tolerance = _SAME * float(np.abs(box @ slopes.T + constants).max())
    ends, pairs = [], []
    for one in range(len(constants)):
        corners, beyond = _cell(slopes - slopes[one], constants - constants[one], box, tolerance)
        following = np.roll(corners, -1, axis=0)
        # Each side is seen from both of its cells.
        for side in np.flatnonzero(beyond > one):
            ends.append((corners[side], following[side]))
            pairs.append((one, beyond[side]))
    long = np.array(ends).reshape(-1, 2, 2)
    kept = np.abs(long[:, 1] - long[:, 0]).max(axis=1) > _SAME * float((high - low).max())
    return long[kept], np.array(pairs, dtype=np.int64).reshape(-1, 2)[kept]


def _cell(slopes: Array, constants: Array, box: Array, tolerance: float) -> tuple[Array, Array]:
    """Return the part of a convex polygon where no function is positive, and what bounds it.

    Returns
    -------
    corners : array of shape (k, 2)
    beyond : int array of shape (k,)
        Which function is zero on the side from each corner to the next; -1 on the border.
    """
    corners, beyond = box, np.full(len(box), -1)
    while len(corners):
        heights = corners @ slopes.T + constants
        worst = int(heights.max(axis=0).argmax())
        height = heights[:, worst]
        if height.max() <= tolerance:
            break
        corners, beyond = _cut(corners, beyond, height, worst)
    return corners, beyond


def _cut(corners: Array, beyond: Array, height: Array, label: int) -> tuple[Array, Array]:
    """Keep the part of a polygon at which a height is not positive; its new side gets a label."""
    after, next_height = np.roll(corners, -1, axis=0), np.roll(height, -1)
    kept, kept_after = height <= 0, next_height <= 0
    points, labels = [], []
    for i in range(len(corners)):
        if kept[i]:
            points.append(corners[i])
            labels.append(beyond[i])
        if kept[i] != kept_after[i]:
            share = height[i] / (height[i] - next_height[i])
            points.append((1 - share) * corners[i] + share * after[i])
            labels.append(label if kept[i] else beyond[i])
    return np.array(points).reshape(-1, 2), np.array(labels, dtype=np.int64)
