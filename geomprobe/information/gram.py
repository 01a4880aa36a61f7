"""FisherGram: a Fisher information in its dual form, a matrix as small as the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from geomprobe.information.effective_dimension import effective_dimension
from geomprobe.storage import Array
from geomprobe.values import ByValue


@dataclass(frozen=True, eq=False)
class FisherGram(ByValue):
    """Gram matrix K = B B^T of the rows of a Fisher information F = B^T B.

    F is n_parameters by n_parameters, K is M by M, and their nonzero eigenvalues are the same.

    Parameters
    ----------
    gram : float64 array of shape (M, M)
        M = n_samples * rows_per_sample; the rows of one sample stand together.
    n_samples : int
        Over how many inputs F is averaged.
    n_parameters : int
        Number of trainable parameters.
    kind : {"true", "empirical"}
        Expectation over the model's own labels, or gradients at the labels of the data. They are
        different matrices.
    route : str
        How it was made: ``"layer by layer"``, by per-sample gradients (``"vmap"``, or ``"loop"``
        and why), or both, with the names of the parameters that needed gradients.
    rows_per_sample : int
        Rows of B that come from one input.
    row_epsilon : float
        Machine precision of the rows.
    gram_epsilon : float
        Machine precision of their products.
    """

    gram: Array
    n_samples: int
    n_parameters: int
    kind: str
    route: str
    rows_per_sample: int
    row_epsilon: float = float(np.finfo(np.float64).eps)
    gram_epsilon: float = float(np.finfo(np.float64).eps)

    def spectrum(self) -> Array:
        """Return the M eigenvalues of K in descending order, as they came out.

        Those below :attr:`noise_floor` are rounding, and may be negative. Cost O(M^3), once.
        """
        return np.array(self._eigenvalues)

    @cached_property
    def _eigenvalues(self) -> Array:
        return np.asarray(np.linalg.eigvalsh(self.gram)[::-1])

    @property
    def noise_floor(self) -> float:
        """The eigenvalue below which rounding rules.

        Rounding in K moves eigenvalues by up to M eps times the largest. Rounding in
        the rows moves singular values of B by about eps ||B||_F in the rows' precision (Weyl), and
        eigenvalues are their squares; a factor of 10 allows for the depth of the backward pass.
        """
        in_gram = len(self.gram) * self.gram_epsilon * self._eigenvalues[0]
        in_rows = (10 * self.row_epsilon) ** 2 * self.trace()
        return float(max(in_gram, in_rows, 0.0))

    def significant(self) -> Array:
        """Return the eigenvalues above the noise floor, in descending order."""
        values: Array = self._eigenvalues[self._eigenvalues > self.noise_floor]
        return values

    def trace(self) -> float:
        """Return the trace of F."""
        return float(np.trace(self.gram))

    def sample_traces(self) -> Array:
        """Return what each sample adds: an array of shape (n_samples,) whose mean is the trace."""
        per_row = np.diagonal(self.gram).reshape(self.n_samples, self.rows_per_sample)
        traces: Array = self.n_samples * per_row.sum(axis=1)
        return traces

    def subset(self, samples: Any) -> FisherGram:
        """Return the Gram matrix of F averaged over some of the samples.

        Parameters
        ----------
        samples : array of int, or mask of shape (n_samples,)
            Which samples; one named twice counts twice.
        """
        chosen = np.arange(self.n_samples)[np.asarray(samples)]
        if chosen.ndim != 1 or len(chosen) == 0:
            raise ValueError("samples must name at least one sample, as indices or as a mask")
        rows = (chosen[:, None] * self.rows_per_sample + np.arange(self.rows_per_sample)).ravel()
        gram = self.gram[np.ix_(rows, rows)] * (self.n_samples / len(chosen))
        return replace(self, gram=gram, n_samples=len(chosen))

    def effective_dimension(self, n: Any, gamma: float = 1.0) -> Any:
        """Return the local effective dimension at n data (a number or an array of them).

        See :func:`~geomprobe.information.effective_dimension`. Eigenvalues below the noise floor
        are left out.
        """
        return effective_dimension(
            self.significant(), n, n_parameters=self.n_parameters, gamma=gamma
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the spectrum above the noise floor on logarithmic axes and return the Axes."""
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots()
        values = self.significant()
        ax.loglog(np.arange(1, len(values) + 1), values, marker=".", label=self.kind)
        ax.set_xlabel("rank")
        ax.set_ylabel("eigenvalue")
        ax.set_title(f"{self.kind} Fisher information, {self.n_samples} inputs")
        return ax
