"""What chance, noise and the best possible get on the same zoo: rows to read a score beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from geomprobe.diagnostics.zoo import ModelZoo
from geomprobe.storage import Array

ORACLE_NOISE = (0.01, 0.02, 0.05)


def noisy_oracle(gap: Array, sigma: float, generator: np.random.Generator) -> Array:
    """Return the gap with Gaussian noise of standard deviation ``sigma`` on it.

    References
    ----------
    Jiang, Y. et al. (2020). Fantastic generalization measures and where to find them. ICLR.
    Section 5, "noisy oracle".
    """
    return np.asarray(gap + sigma * generator.standard_normal(len(gap)))


def oracle_rows(
    zoo: ModelZoo,
    score: Callable[[Array], float],
    *,
    sigmas: Sequence[float] = ORACLE_NOISE,
    draws: int = 20,
    seed: int = 0,
) -> dict[float, float]:
    """Return the mean score of noisy oracles, by the standard deviation of their noise.

    Parameters
    ----------
    zoo : ModelZoo
        One row a cell.
    score : callable
        Takes a diagnostic of shape (n_cells,), returns a number.
    """
    generator = np.random.default_rng(seed)
    return {
        sigma: float(
            np.mean([score(noisy_oracle(zoo.gap, sigma, generator)) for _ in range(draws)])
        )
        for sigma in sigmas
    }


def chance_band(
    n: int, score: Callable[[Array], float], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of the score of independent noise.

    Parameters
    ----------
    n : int
        Number of cells.
    score : callable
        Takes a diagnostic of shape (n,), returns a number.
    draws : int
        A band of few draws is too narrow: 40 draws made it 15 % so.
    """
    generator = np.random.default_rng(seed)
    low, high = np.quantile(
        [score(generator.standard_normal(n)) for _ in range(draws)], [0.025, 0.975]
    )
    return float(low), float(high)


def noise_ceiling(zoo: ModelZoo, score: Callable[[Array, Array], float]) -> float:
    """Return what the gap on one half of the test set scores against that on the other.

    Both are noisier than the whole, so this lies below what a perfect diagnostic scores, and tells
    how much of the order is noise of the test set. NaN where the zoo has no halves.

    Parameters
    ----------
    zoo : ModelZoo
        One row a cell.
    score : callable
        Takes a diagnostic and a gap, both of shape (n_cells,), and is the same if they change
        places.
    """
    if zoo.halves is None:
        return float("nan")
    one, other = zoo.halves.T
    return score(one, other)
