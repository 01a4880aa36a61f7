"""How much a diagnostic tells of a gap beyond the hyper-parameters: conditional information."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from geomprobe.diagnostics.pairs import require_numbers
from geomprobe.storage import Array


class ConditionalInformation:
    """The score of :func:`conditional_information` for many diagnostics of the same cells.

    Parameters
    ----------
    levels : ndarray of int, shape (n, n_axes)
        One row a cell.
    max_conditions : int
        Largest number of hyper-parameters in S.
    """

    def __init__(self, levels: Array, *, max_conditions: int = 2) -> None:
        n, n_axes = levels.shape
        self._first, self._second = (index.reshape(-1) for index in np.indices((n, n)))
        self._conditions = [
            _condition(levels, chosen, self._first, self._second)
            for size in range(max_conditions + 1)
            for chosen in combinations(range(n_axes), size)
        ]

    def of(self, measure: Array, gap: Array) -> Callable[[Array], float]:
        """Return K as a function of how often each cell counts.

        A set S that leaves nothing of the gap's order unknown is passed over, and K is NaN where
        every one does.
        """
        require_numbers(measure, gap)
        v = measure[self._first] - measure[self._second]
        w = gap[self._first] - gap[self._second]
        kept = (v != 0) & (w != 0)
        first, second = self._first[kept], self._second[kept]
        outcome = 2 * (v[kept] > 0) + (w[kept] > 0)
        keys = [4 * condition[kept] + outcome for condition in self._conditions]

        def information(weight: Array) -> float:
            pairs = weight[first] * weight[second]
            scores = [_information(key, pairs) for key in keys]
            return min((score for score in scores if score == score), default=float("nan"))

        return information


def conditional_information(
    levels: Array, measure: Array, gap: Array, *, max_conditions: int = 2
) -> float:
    r"""Return the normalised conditional mutual information of the orders of diagnostic and gap.

    Over ordered pairs of models, V is the sign of the difference of the diagnostic, W that of the
    gap, and U the values of both models for the hyper-parameters in a set S. The score is

    .. math:: K = \min_{|S| \le 2} \frac{I(V; W \mid U_S)}{H(W \mid U_S)} \in [0, 1].

    Pairs with a tie on either side are dropped, and every value of U counts by its pairs. A set S
    that leaves nothing of the gap's order unknown is passed over, and K is NaN where every one
    does.

    Parameters
    ----------
    levels : ndarray of int, shape (n, n_axes)
        One row a cell.
    measure, gap : ndarray, shape (n,)
        The diagnostic and the gap of each cell.
    max_conditions : int
        Largest number of hyper-parameters in S.

    Raises
    ------
    ValueError
        For NaN.

    Notes
    -----
    O(n^2) time and memory for each S. At few models the score is biased upward: independent noise
    gets 0.04 to 0.05 with 30 models, so compare it with a random diagnostic of the same zoo.

    References
    ----------
    Jiang, Y. et al. (2020). Fantastic generalization measures and where to find them. ICLR.
    Equations 6 to 8.
    """
    conditions = ConditionalInformation(levels, max_conditions=max_conditions)
    return conditions.of(measure, gap)(np.ones(len(gap)))


def pgdl_score(levels: Array, measure: Array, gap: Array) -> float:
    """Score as the competition "Predicting Generalization in Deep Learning" did; 1 is best.

    Its rule differs from :func:`conditional_information` in four ways: a pair is conditioned on
    two hyper-parameters, never on fewer; a model is paired with itself too; ties count as "not
    larger"; and the values of U have equal weights. The competition printed 100 times the mean of
    this number over its tasks.

    Parameters
    ----------
    levels : ndarray of int, shape (n, n_axes)
        A complete grid of at least two hyper-parameters, one row a model.
    measure, gap : ndarray, shape (n,)

    Raises
    ------
    ValueError
        For a grid that lacks a cell or has one twice, or has one hyper-parameter only; for NaN.

    References
    ----------
    Jiang, Y. et al. (2020). NeurIPS 2020 competition: predicting generalization in deep learning.
    arXiv:2012.07976. The rule is that of its scoring program.
    """
    require_numbers(measure, gap)
    n, n_axes = levels.shape
    if n_axes < 2:
        raise ValueError("this score conditions on two hyper-parameters, and the zoo has one axis")
    expected = int(np.prod([len(np.unique(column)) for column in levels.T]))
    found = len(np.unique(levels, axis=0))
    if not found == n == expected:
        raise ValueError(
            f"this score asks for a complete grid of {expected} cells with one model each; there "
            f"are {n} models in {found} cells"
        )
    first, second = (index.reshape(-1) for index in np.indices((n, n)))
    outcome = 2 * (measure[first] > measure[second]) + (gap[first] > gap[second])
    scores = []
    for chosen in combinations(range(n_axes), 2):
        key = 4 * _condition(levels, chosen, first, second) + outcome
        information, entropy = _by_condition(np.bincount(key, minlength=4 * (key.max() // 4 + 1)))
        scores.append(information.mean() / entropy.mean() if entropy.any() else 0.0)
    return float(min(scores))


def _condition(levels: Array, chosen: Sequence[int], first: Array, second: Array) -> Array:
    """Name the values that both models of each pair have on the chosen axes, from 0 on."""
    if not chosen:
        return np.zeros(len(first), int)
    code = np.unique(levels[:, chosen], axis=0, return_inverse=True)[1].reshape(-1)
    return np.asarray(code[first] * (code.max() + 1) + code[second])


def _information(key: Array, weight: Array) -> float:
    counts = np.bincount(key, weight, minlength=4 * (int(key.max(initial=0)) // 4 + 1))
    information, entropy = _by_condition(counts)
    mass = counts.reshape(-1, 4).sum(axis=1)
    unknown = mass @ entropy
    return float(mass @ information / unknown) if unknown > 0 else float("nan")


def _by_condition(counts: Array) -> tuple[Array, Array]:
    """Return I(V; W) and H(W), in bits, for each value of U; counts are (u, v, w) flattened."""
    table = counts.reshape(-1, 2, 2).astype(float)
    table = table / np.maximum(table.sum(axis=(1, 2), keepdims=True), np.finfo(float).tiny)
    v, w = table.sum(axis=2), table.sum(axis=1)
    joint = _entropy(table.reshape(-1, 4))
    return np.maximum(_entropy(v) + _entropy(w) - joint, 0.0), _entropy(w)


def _entropy(p: Array) -> Array:
    logarithm = np.log2(np.where(p > 0, p, 1.0))
    return np.asarray(-(p * logarithm).sum(axis=-1))
