"""A Fisher information seen through random vectors: for any number of rows and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples
from geomprobe.findings import Estimate
from geomprobe.hooks import quiet
from geomprobe.information.factors import Rows
from geomprobe.information.layerwise import Layer, LayoutError, parts_of, record
from geomprobe.information.likelihoods import Gaussian, Likelihood
from geomprobe.information.random_columns import RandomColumns
from geomprobe.information.setting import LARGEST_BATCH, Setting, setting_of
from geomprobe.jacobians import (
    jacobian_products,
    not_finite,
    require_independence,
    row_dtype,
    row_epsilon,
)
from geomprobe.memory import require_memory
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array
from geomprobe.values import ByValue

# Inputs, gradients and rows of the samples that are worked on at a time.
_MOST_PASSING = 2**29


def fisher_sketch(
    model: nn.Module,
    data: Samples,
    *,
    columns: int = 1024,
    kind: str = "true",
    likelihood: Likelihood | None = None,
    loss: Loss | None = None,
    draws: int = 1,
    seed: int = 0,
    batch_size: int | None = None,
    memory_share: float = 0.5,
) -> FisherSketch:
    r"""Sketch the Fisher information of a model, where its Gram matrix would be too large.

    .. math::
        F = B^T B \;\to\; \hat F = S^T B^T B S, \qquad S = (s_1, \ldots, s_k) / \sqrt k, \qquad
        E[S S^T] = I

    The rows of B, one for each label of each input, are seen through k random columns, a
    Johnson-Lindenstrauss projection. The nonzero eigenvalues of :math:`\hat F`, k by k, are those
    of :math:`B S S^T B^T`, whose mean is the Gram matrix :math:`B B^T`.

    Parameters
    ----------
    columns : int
        How many random columns k, at least 8.
    seed : int
        Seed of the columns, and of the labels for ``kind="mc"``.
    model, data, kind, likelihood, loss, draws, batch_size, memory_share
        See :func:`~geomprobe.information.fisher_gram`. The variance of a Gaussian must be given.

    Returns
    -------
    FisherSketch

    Raises
    ------
    ValueError, TypeError
        As :func:`~geomprobe.information.fisher_gram`; fewer than 8 columns; a Gaussian whose
        variance is to be estimated.
    MemoryEstimateError
        The columns and the smallest batch would not fit.

    Notes
    -----
    Each s_j is a product of signs over the inputs and outputs of each layer, so that
    ``(u . a) (v . g)`` of its input and output gradient replaces the gradient of a weight, and the
    squared norm of a row is kept in the mean, with a relative variance of at most 8/k: 2/k is that
    of independent signs for all entries, the rest the price of rows that are never formed. So the
    leading eigenvalues have relative errors between :math:`\sqrt{2/k}` and :math:`\sqrt{8/k}`. What
    is spread over many more than k directions is spread evenly over the k: eigenvalues below tr F/k
    are those of the sketch.

    The samples pass batch by batch, so that time grows with their number and memory does not: the
    inputs and gradients of a batch, at most about half a GiB, k^2 sums, and k bytes for each input
    and output of a layer. As many backward passes as rows a sample to the layers' outputs, and
    k (d + e) products a row and position for a layer of d inputs and e outputs, or k d e a row
    where that is less. With few rows, M < k, :func:`~geomprobe.information.fisher_gram` is exact
    and takes less.

    References
    ----------
    Johnson, W. B. and Lindenstrauss, J. (1984). Extensions of Lipschitz mappings into a Hilbert
    space. The columns and their variance: Rakhshan, B. T. and Rabusseau, G. (2020). Tensorized
    random projections. AISTATS, theorem 1 with N = 2 and R = 1. What becomes of a matrix of small
    stable rank: Cohen, M. B., Nelson, J. and Woodruff, D. P. (2016). Optimal approximate matrix
    product in terms of stable rank. ICALP.
    """
    if columns < 8:
        raise ValueError(f"columns must be at least 8, got {columns}")
    if isinstance(likelihood, Gaussian) and likelihood.variance is None:
        raise ValueError(
            "a sketch sees the samples batch by batch and cannot estimate the variance of them "
            "all; give it, as in Gaussian(0.3)"
        )
    if data.targets is not None and len(data.targets) != len(data):
        raise ValueError(f"there are {len(data)} samples, but {len(data.targets)} targets")

    def look(start: int, stop: int) -> Setting:
        return setting_of(
            model,
            data.take(slice(start, stop)),
            kind=kind,
            likelihood=likelihood,
            loss=loss,
            draws=draws,
            # Other labels for other samples.
            seed=int(np.random.SeedSequence((seed, start)).generate_state(1)[0]),
            batch_size=batch_size,
            memory_share=memory_share,
        )

    few = look(0, 3)
    n_parameters = sum(parameter.numel() for parameter in few.parameters.values())
    with quiet(model):
        for layers in (few.layers, {}):
            size = _batch(few, layers, columns, batch_size or LARGEST_BATCH, memory_share)
            batches = range(0, len(data), size)
            try:
                gram, routes = _sums(look, batches, layers, RandomColumns(columns, seed))
            except LayoutError:
                continue  # On samples that were not tried: once more, by gradients alone.
            break
    return FisherSketch(
        gram=gram / (len(data) * columns),
        n_samples=len(data),
        n_parameters=n_parameters,
        kind=kind,
        route="; ".join([f"sketch of {columns} columns", *routes]),
        rows_per_sample=few.cotangents.shape[1],
    )


def _batch(
    few: Setting, layers: Mapping[str, Layer], columns: int, largest: int, share: float
) -> int:
    """Return how many samples to work on at a time, if there is memory for one."""
    per_sample = few.cotangents.shape[1]
    passing = sum(layer.n_inputs + per_sample * layer.n_outputs for layer in layers.values())
    left = sum(parameter.numel() for parameter in few.left(layers).values())
    numbers = 2 * passing + per_sample * (2 * left + columns) + 3 * few.cotangents[0].numel()
    one = numbers * row_dtype(few.parameters).itemsize
    size = max(1, min(largest, _MOST_PASSING // one))
    sides = sum(len(p) + p[0].numel() for p in few.parameters.values() if p.ndim)
    require_memory(
        size * one + 24 * columns**2 + columns * sides,
        f"a sketch of {columns} columns",
        f"Use fewer columns or draws: one sample takes {one / 2**20:.1f} MiB.",
        share=share,
    )
    return size


def _sums(
    look: Callable[[int, int], Setting],
    batches: range,
    layers: Mapping[str, Layer],
    columns: RandomColumns,
) -> tuple[Array, list[str]]:
    """Return the products of all rows with the columns, squared and summed, and the routes."""
    total = np.zeros((columns.count, columns.count))
    finite, routes = [], dict.fromkeys(["layer by layer"] if layers else [])
    for start in batches:
        stop = min(start + batches.step, batches.stop)
        try:
            rows, route = _seen(look(start, stop), layers, columns)
        except ValueError as error:
            raise ValueError(f"of samples {start} to {stop - 1}: {error}") from error
        finite.append(torch.isfinite(rows).flatten(1).all(dim=1))
        flat = rows.flatten(0, 1).cpu().double().numpy()
        total += flat.T @ flat
        routes |= dict.fromkeys(route)
    every = torch.cat(finite)
    if not bool(every.all()):
        raise ValueError(not_finite("gradients", every))
    return total, list(routes)


def _seen(
    setting: Setting, layers: Mapping[str, Layer], columns: RandomColumns
) -> tuple[Tensor, list[str]]:
    """Return the products of some samples' rows with the columns, (N, K, k), and the route."""
    data, cotangents = setting.data, setting.cotangents
    found = torch.zeros(*cotangents.shape[:2], columns.count, device=cotangents.device)
    place = 0
    if layers:
        # Not the same passes as for the outputs, since these must not depend on them.
        chunk = max(1, 2 * len(data) // 3)
        recorded, alone = record(setting.model, layers, data, cotangents, chunk)
        require_independence(alone, setting.outputs, row_epsilon(setting.parameters))
        for name, layer in layers.items():
            for factor, _ in parts_of(layer, recorded.pop(name)):
                found = found + columns.products(factor, place)
                place += 1
    left = setting.left(layers)
    if not left:
        return found, []
    rows, route = jacobian_products(
        setting.model, left, data, setting.outputs, cotangents, len(data)
    )
    found = found + columns.products(Rows(rows.view(*found.shape[:2], -1)), place)
    return found, [f"{route}: {', '.join(left)}" if layers else route]


@dataclass(frozen=True, eq=False)
class FisherSketch(ByValue):
    """A Fisher information F seen through k random columns S: the matrix S^T F S.

    Parameters
    ----------
    gram : float64 array of shape (k, k)
        Its mean over columns has the trace of F.
    n_samples : int
        Over how many inputs F is averaged.
    n_parameters : int
        Number of trainable parameters.
    kind : {"true", "mc", "empirical"}
        As of a :class:`FisherGram`.
    route : str
        How it was made: the sketch, and how its rows came, as for a :class:`FisherGram`.
    rows_per_sample : int
        Rows of B that come from one input.

    Notes
    -----
    Standard errors are those of the columns, from the spread over random halves of them: another
    seed would give other numbers. How the numbers depend on inputs and drawn labels is not in them.
    """

    gram: Array
    n_samples: int
    n_parameters: int
    kind: str
    route: str
    rows_per_sample: int

    @property
    def columns(self) -> int:
        """The number of random columns k."""
        return len(self.gram)

    def spectrum(self) -> Array:
        """Return the k eigenvalues in descending order. O(k^3), once.

        Those below :attr:`resolution` are no eigenvalues of F.
        """
        return np.array(self._eigenvalues)

    @cached_property
    def _eigenvalues(self) -> Array:
        return np.asarray(np.linalg.eigvalsh(self.gram)[::-1])

    @property
    def resolution(self) -> float:
        """The eigenvalue below which the columns rule, tr F/k."""
        return float(np.trace(self.gram) / self.columns)

    def standard_errors(self) -> Array:
        """Return those of the first k/2 eigenvalues, in their order; see :meth:`estimate`."""
        return self._error(lambda values: values[: self.columns // 2])

    def trace(self) -> Estimate:
        """Estimate the trace of F, without bias."""
        each = self.columns * np.diagonal(self.gram)
        return Estimate(
            float(each.mean()),
            float(each.std(ddof=1) / self.columns**0.5),
            self.columns,
            method=self.route,
        )

    def participation_ratio(self) -> Estimate:
        r"""Estimate :math:`(\operatorname{tr} F)^2 / \operatorname{tr} F^2`.

        The squares beside the diagonal of the sketch have mean tr F^2; those of its eigenvalues
        have more.
        """

        def ratio(columns: Array) -> float:
            part = self.gram[np.ix_(columns, columns)]
            diagonal = np.diagonal(part)
            pairs = len(part) * (len(part) - 1)
            beside = (np.square(part).sum() - np.square(diagonal).sum()) / pairs
            return float(diagonal.mean() ** 2 / beside)

        stderr = float(delete_half_stderr(ratio, self.columns))
        return Estimate(ratio(np.arange(self.columns)), stderr, self.columns, method=self.route)

    def estimate(self, function: Callable[[Array], float]) -> Estimate:
        """Estimate a function of the eigenvalues, such as :func:`stable_rank`.

        Parameters
        ----------
        function : callable
            Takes eigenvalues in descending order, returns a number.

        Returns
        -------
        Estimate
            The standard error joins the spread over halves of the columns with what half of the
            columns change.
        """
        value = function(self.spectrum())
        return Estimate(value, float(self._error(function)), self.columns, method=self.route)

    def _error(self, function: Callable[[Array], Any]) -> Array:
        half = self.columns // 2
        halves = [function(self._of(np.arange(start, start + half))) for start in (0, half)]
        change = function(self._eigenvalues) - np.mean(halves, axis=0)
        spread = delete_half_stderr(lambda some: function(self._of(some)), self.columns)
        joint: Array = np.hypot(spread, change)
        return joint

    def _of(self, columns: Array) -> Array:
        """Return the eigenvalues that some of the columns alone would show."""
        part = self.gram[np.ix_(columns, columns)] * (self.columns / len(columns))
        return np.asarray(np.linalg.eigvalsh(part)[::-1])

    def plot(self, ax: Any = None) -> Any:
        """Draw the spectrum above its resolution, with two standard errors, and return the Axes."""
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots()
        values = self.spectrum()[: self.columns // 2]
        shown = values > self.resolution
        values, errors = values[shown], 2 * self.standard_errors()[shown]
        ranks = np.arange(1, len(values) + 1)
        ax.loglog(ranks, values, marker=".", label=f"{self.kind}, sketch of {self.columns} columns")
        low = np.maximum(values - errors, self.resolution / 2)
        ax.fill_between(ranks, low, values + errors, alpha=0.3)
        ax.axhline(self.resolution, linestyle=":", label="resolution")
        ax.set(xlabel="rank", ylabel="eigenvalue")
        ax.set_title(f"{self.kind} Fisher information, {self.n_samples} inputs")
        return ax
