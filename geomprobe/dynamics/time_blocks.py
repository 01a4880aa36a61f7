"""Standard errors of statistics of a path, whose moments are not independent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.storage import Array


def block_jackknife(statistic: Callable[[Array], float], n: int, blocks: int = 10) -> float:
    """Estimate the standard error of a statistic of n consecutive moments.

    Parameters
    ----------
    statistic : callable
        Takes a mask of shape (n,), of the moments that are kept.
    n : int
        How many moments there are.
    blocks : int
        Into how many stretches of equal length the time is cut.

    Returns
    -------
    float
        By leaving out one stretch at a time; NaN for fewer moments than two a stretch. It is right
        where moments further apart than a stretch are independent.

    References
    ----------
    Künsch, H. R. (1989). The jackknife and the bootstrap for general stationary observations.
    Annals of Statistics 17(3).
    """
    if n < 2 * blocks:
        return float("nan")
    block = np.arange(n) * blocks // n
    left = np.array([statistic(block != number) for number in range(blocks)])
    return float(np.sqrt((blocks - 1) / blocks * np.square(left - left.mean()).sum()))


def t_interval(found: Estimate, blocks: int = 10) -> tuple[float, float]:
    """Return the 95 % interval of what has such an error, by Student's t of blocks less one."""
    from scipy.stats import t

    half = float(t.ppf(0.975, blocks - 1)) * found.stderr
    return found.value - half, found.value + half
