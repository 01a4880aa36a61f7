"""A few numbers for many."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return least, median and most, and an interval for the median.

    With six values or more the interval, from ``low`` to ``high``, covers the median of their
    distribution with a probability of at least 95 %, whatever the distribution: its ends are the
    order statistics that a sign test does not reject (Conover 1999, section 3.2).
    """
    ordered = sorted(values)
    n, rank, below = len(ordered), 0, 0.5 ** len(ordered)
    while rank < (n - 1) // 2 and below + math.comb(n, rank + 1) * 0.5**n <= 0.025:
        rank += 1
        below += math.comb(n, rank) * 0.5**n
    return {
        "min": ordered[0],
        "low": ordered[rank],
        "median": statistics.median(ordered),
        "high": ordered[-1 - rank],
        "max": ordered[-1],
    }
