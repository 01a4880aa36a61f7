"""Border rank: where approximations of low rank get ever better, and ever larger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geomprobe.algebraic.cp_decomposition import (
    assembled,
    checked,
    refined,
    starting_points,
    term_norms,
)
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PENALTIES = 10.0 ** -np.arange(1, 8.5, 0.5)
#: Growth in a decade of the penalty that counts.
_GROWS = 1.3


@dataclass(frozen=True, eq=False)
class BorderRankScan(ByValue):
    """Approximations as the penalty on their size falls; made by :func:`border_rank_scan`.

    Parameters
    ----------
    penalties : array of shape (m,)
        Falling.
    errors : array of shape (m,)
        Relative error at each.
    norms : array of shape (m,)
        Norm of the largest term over that of the tensor.
    """

    penalties: Array
    errors: Array
    norms: Array

    @property
    def norm_growth(self) -> float:
        """Factor by which the largest term grows in the last decades, for each."""
        return self._a_decade(self.norms)

    @property
    def error_fall(self) -> float:
        """Factor by which the error falls in the last decades, for each."""
        return 1 / self._a_decade(self.errors)

    @property
    def alarm(self) -> bool:
        """Whether terms grow without end while the error falls: there is no best approximation."""
        return self.norm_growth > _GROWS and self.error_fall > _GROWS

    def _a_decade(self, values: Array) -> float:
        last = self.penalties <= 100 * self.penalties[-1]
        logs = np.log10(np.maximum(values[last], np.finfo(float).tiny))
        return float(10 ** -np.polyfit(np.log10(self.penalties[last]), logs, 1)[0])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw error and largest term over the penalty."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        axes.loglog(self.penalties, self.errors, ".-", label="relative error")
        axes.loglog(self.penalties, self.norms, ".-", label="largest term")
        axes.invert_xaxis()
        axes.set(xlabel="penalty")
        axes.legend()
        return axes


def border_rank_scan(tensor: Any, rank: int, *, starts: int = 4, seed: int = 0) -> BorderRankScan:
    """Look whether a tensor has a best approximation of a rank, or only ever larger ones.

    Experimental: an alarm is evidence from one path of local minima, and no proof.

    Parameters
    ----------
    tensor : array of shape (n_1, ..., n_k), k >= 3
    rank : int
        Number of terms.
    starts : int
        Starting points. From each the penalty is followed down, and up; the path is kept that is
        lowest at the smallest penalty.
    seed : int
        Seed of the starting points.

    Returns
    -------
    BorderRankScan
        At penalties from 0.1 to 1e-8 of the tensor scaled to norm one.

    Raises
    ------
    ValueError
        Fewer than three modes (of matrices the best approximation always exists), or what
        :func:`cp_decomposition` refuses.

    Notes
    -----
    Where the border rank is below the rank the infimum of the error may not be attained: terms grow
    and cancel. Of a a b + a b a + b a a with two terms, the best in size t has an error of order
    t^-2 and a penalty of order t^(2/3), so that with the penalty l the largest term grows as
    l^(-3/14) and the error falls as l^(3/7). Where there is a best approximation, terms settle.

    References
    ----------
    de Silva, V. and Lim, L.-H. (2008). Tensor rank and the ill-posedness of the best low-rank
    approximation problem. SIAM Journal on Matrix Analysis and Applications 30.
    """
    given = checked(tensor, rank)
    if given.ndim < 3:
        raise ValueError(
            f"tensor must have at least three modes, got shape {given.shape}; a matrix always "
            "has a best approximation of any rank"
        )
    if starts < 1:
        raise ValueError(f"starts must be at least 1, got {starts}")
    scaled = given / np.linalg.norm(given)
    points = starting_points(scaled, rank, starts, np.random.default_rng(seed))
    best: list[list[Array]] = []
    least = np.inf
    for order in (_PENALTIES, _PENALTIES[::-1]):
        for factors in points:
            path, costs = [], []
            for penalty in order:
                factors, cost = refined(scaled, factors, penalty)
                path.append(factors)
                costs.append(cost)
            last = int(order.argmin())
            if costs[last] < least:
                best, least = path[:: 1 if last else -1], costs[last]
    errors = [float(np.linalg.norm(scaled - assembled(factors))) for factors in best]
    norms = [float(term_norms(factors).max()) for factors in best]
    return BorderRankScan(_PENALTIES, np.array(errors), np.array(norms))
