"""How an effective dimension grows with the inputs that it is computed from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.information.gram import FisherGram
from geomprobe.storage import Array
from geomprobe.values import ByValue

METHOD = "extrapolated by a power law of the inputs; standard error of its rate and of sampling"

_LEAST = 4  # Samples of the smallest part.


@dataclass(frozen=True, eq=False)
class DimensionByInputs(ByValue):
    """Effective dimension against the number of inputs N.

    Parameters
    ----------
    inputs : int array of shape (s,)
        Ascending.
    dimensions, stderrs : arrays of shape (s,)
        Mean over disjoint parts of the samples, and its standard error by their spread; NaN for
        all samples, which are one part.
    limit : Estimate
        Where N grows without end.
    """

    inputs: Array
    dimensions: Array
    stderrs: Array
    limit: Estimate

    def plot(self, ax: Any = None) -> Any:
        """Draw the dimension against the number of inputs, and the limit, and return the Axes."""
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots()
        errors = np.nan_to_num(self.stderrs)
        ax.errorbar(self.inputs, self.dimensions, errors, marker="o", markersize=3)
        if math.isfinite(self.limit.value):
            low, high = (self.limit.value + s * self.limit.stderr for s in (-1, 1))
            ax.axhspan(low, high, alpha=0.2)
            ax.axhline(self.limit.value, linestyle="--", label="extrapolated")
            ax.legend()
        ax.set(xlabel="inputs", ylabel="effective dimension", xscale="log")
        return ax


def dimension_by_inputs(
    gram: FisherGram, n: float, gamma: float = 1.0, *, halvings: int = 4, seed: int = 0
) -> DimensionByInputs:
    r"""Follow the local effective dimension from few inputs to all, and extrapolate.

    Parameters
    ----------
    gram : FisherGram
        Of N inputs.
    n, gamma : float
        The resolution: see :func:`~geomprobe.information.effective_dimension`.
    halvings : int
        The smallest parts have N over 2 to this power; fewer where they would have less than 4.
    seed : int
        Seed of the order in which samples are cut into parts.

    Returns
    -------
    DimensionByInputs
        The limit is NaN with a reason where the growth shows no end: where the rate c is less than
        two standard errors from zero.

    Raises
    ------
    ValueError
        Fewer than 32 inputs, an n that is too small, or a gamma outside (0, 1].

    Notes
    -----
    The mean of N over :math:`2^k` inputs falls short of the limit by a bias. If that is
    :math:`b N^{-c}`, then the differences of successive halvings grow as :math:`2^{ck}`, so that a
    straight line through their logarithms has c, and the limit is the last value plus the last
    difference over :math:`2^c - 1`. The standard error is that of c from the residuals of the
    line, and that of sampling from the spread of the parts; it says nothing of another law. O(M^3)
    for a Gram matrix of M rows, once and a third.
    """
    halvings = min(halvings, int(math.log2(gram.n_samples / _LEAST))) if gram.n_samples else 0
    if halvings < 3:
        raise ValueError(
            f"the growth with inputs needs three halvings to parts of {_LEAST}, so 32 inputs or "
            f"more, got {gram.n_samples} inputs and {halvings} halvings"
        )
    order = np.random.default_rng(seed).permutation(gram.n_samples)
    dimensions, stderrs, sizes = [], [], []
    for k in range(halvings, -1, -1):
        size = gram.n_samples // 2**k
        parts = (
            [gram.subset(order[i * size : (i + 1) * size]) for i in range(2**k)] if k else [gram]
        )
        found = [part.effective_dimension(n, gamma) for part in parts]
        sizes.append(size)
        dimensions.append(float(np.mean(found)))
        stderrs.append(float(np.std(found, ddof=1) / len(found) ** 0.5) if k else math.nan)
    values, errors = np.array(dimensions), np.array(stderrs)
    # Of means over four parts and more, as of the whole.
    sampling = float(np.sqrt(np.mean(errors[:-2] ** 2)))
    limit = _limit(values, sampling, gram.n_samples)
    return DimensionByInputs(np.array(sizes), values, errors, limit)


def _limit(values: Array, sampling: float, n: int) -> Estimate:
    steps = np.diff(values)[::-1]  # The last halving first.
    if np.isnan(steps).any():
        return Estimate.undefined("the Fisher information is zero", n=n, method=METHOD)
    if not (np.sign(steps) == np.sign(steps[0])).all() or steps[0] == 0:
        reason = "it does not go one way with the number of inputs"
        return Estimate.undefined(reason, n=n, method=METHOD)
    k, logs = np.arange(len(steps)), np.log2(np.abs(steps))
    (rate, constant), residuals, *_ = np.polyfit(k, logs, 1, full=True)
    freedom = len(steps) - 2
    spread = math.sqrt(float(residuals.sum()) / freedom / ((k - k.mean()) ** 2).sum())
    if rate < 2 * spread or rate <= 0:
        reason = f"its growth shows no end: the rate is {rate:.2g}, standard error {spread:.2g}"
        return Estimate.undefined(reason, n=n, method=METHOD)
    missing = np.sign(steps[0]) * 2**constant / (2**rate - 1)
    error = abs(missing) * math.log(2) * 2**rate / (2**rate - 1) * spread
    return Estimate(float(values[-1] + missing), math.hypot(error, sampling), n, method=METHOD)
