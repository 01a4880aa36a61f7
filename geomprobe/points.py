"""What counts as a cloud of points."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.storage import Array


def as_points(X: Any) -> Array:
    """Return points as a float64 array of shape (n, d).

    Raises
    ------
    ValueError
        Another shape or dtype, fewer than two points, points that are not finite, all points equal.
    """
    given = np.asarray(X)
    if given.ndim != 2 or len(given) < 2 or given.dtype.kind not in "fiub":
        raise ValueError(
            "X must be a real array of shape (n, d) with n of at least 2, "
            f"got shape {given.shape} and dtype {given.dtype}"
        )
    points = given.astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        doubtful = points[~np.isfinite(points.sum(axis=1))]  # Without an array as large as X.
    unusable = int((~np.isfinite(doubtful)).any(axis=1).sum())
    if unusable:
        raise ValueError(
            f"{unusable} of {len(points)} rows hold NaN or infinity; leave them out first"
        )
    if (points[-1] == points[0]).all() and (points == points[0]).all():
        raise ValueError(f"all {len(points)} points are equal, and a single point has no shape")
    return points
