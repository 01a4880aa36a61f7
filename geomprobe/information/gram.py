"""FisherGram: a Fisher information in its dual form, a matrix as small as the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomprobe.information.effective_dimension import effective_dimension
from geomprobe.information.fisher_rows import FisherRows
from geomprobe.information.krylov import leading_eigenpairs
from geomprobe.storage import Array
from geomprobe.values import ByValue


@dataclass(frozen=True, eq=False)
class FisherGram(ByValue):
    """Gram matrix K = B B^T of the rows of a Fisher information F = B^T B.

    F is n_parameters by n_parameters, K is M by M, and their nonzero eigenvalues are the same.

    Parameters
    ----------
    gram : array of shape (M, M)
        In the precision of its products, float32 or float64. M = n_samples * rows_per_sample; the
        rows of one sample stand together.
    n_samples : int
        Over how many inputs F is averaged.
    n_parameters : int
        Number of trainable parameters.
    kind : {"true", "mc", "empirical"}
        Expectation over the model's own labels, exact or by drawing them, or gradients at the
        labels of the data, which is another matrix.
    route : str
        How it was made: ``"layer by layer"``, by per-sample gradients (``"vmap"``, or ``"loop"``
        and why), or both, with the names of the parameters that needed gradients.
    rows_per_sample : int
        Rows of B that come from one input.
    row_epsilon : float
        Machine precision of the rows.
    gram_epsilon : float
        Machine precision of their products.
    rows : FisherRows, optional
        B itself, by passes through the model. What maps back to parameters needs it, and the model
        unchanged.
    layers : mapping of str to FisherGram
        Of each layer that owns trainable parameters, the block of F on its diagonal: what F would
        be with all other layers frozen. These matrices add up to ``gram``, and their traces to the
        trace. Empty unless asked for by ``fisher_gram(..., by_layer=True)``.
    """

    gram: Array
    n_samples: int
    n_parameters: int
    kind: str
    route: str
    rows_per_sample: int
    row_epsilon: float = float(np.finfo(np.float64).eps)
    gram_epsilon: float = float(np.finfo(np.float64).eps)
    rows: FisherRows | None = field(default=None, compare=False, repr=False)
    layers: Mapping[str, FisherGram] = field(default_factory=dict, repr=False)

    def spectrum(self) -> Array:
        """Return the M eigenvalues of K in descending order, as they came out.

        Those below :attr:`noise_floor` are rounding, and may be negative. Cost O(M^3), once.
        """
        return np.array(self._eigenvalues)

    @cached_property
    def _eigenvalues(self) -> Array:
        from scipy.linalg import eigvalsh

        # Not PyTorch's, whose first call of a process takes half a second more.
        values: Array = eigvalsh(self._entries.numpy(), driver="evd")
        return values[::-1].astype(np.float64)

    @property
    def _entries(self) -> Tensor:
        """The matrix in the precision of its products: more digits would be slower, not better."""
        single = self.gram_epsilon >= torch.finfo(torch.float32).eps
        return torch.from_numpy(self.gram).to(torch.float32 if single else torch.float64)

    def leading(self, k: int) -> tuple[Array, Array]:
        """Return the k largest eigenvalues of K, and its eigenvectors in columns.

        For a few of them in a fraction of the time of all, O(k M^2).

        Raises
        ------
        ValueError
            k outside 1 to M.
        """
        if not 1 <= k <= len(self.gram):
            raise ValueError(f"k must be from 1 to {len(self.gram)}, got {k}")
        values, vectors = leading_eigenpairs(self._entries, k)
        return values.double().numpy(), vectors.double().numpy()

    @property
    def noise_floor(self) -> float:
        """The eigenvalue below which rounding rules.

        Rounding in K moves eigenvalues by up to M eps times the largest. Rounding in
        the rows moves singular values of B by about eps ||B||_F in the rows' precision (Weyl), and
        eigenvalues are their squares; a factor of 10 allows for the depth of the backward pass.
        """
        return self._floor(self._eigenvalues[0])

    def _floor(self, largest: float) -> float:
        return noise_floor(
            largest, self.trace(), len(self.gram), self.gram_epsilon, self.row_epsilon
        )

    def significant(self) -> Array:
        """Return the eigenvalues above the noise floor, in descending order."""
        values: Array = self._eigenvalues[self._eigenvalues > self.noise_floor]
        return values

    def trace(self) -> float:
        """Return the trace of F."""
        return float(np.trace(self.gram, dtype=np.float64))

    def sample_traces(self) -> Array:
        """Return what each sample adds: an array of shape (n_samples,) whose mean is the trace."""
        per_row = np.diagonal(self.gram).astype(np.float64)
        by_sample = per_row.reshape(self.n_samples, self.rows_per_sample)
        traces: Array = self.n_samples * by_sample.sum(axis=1)
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
        kept = self.rows and self.rows.subset(torch.from_numpy(chosen))
        layers = {name: layer.subset(samples) for name, layer in self.layers.items()}
        return replace(self, gram=gram, n_samples=len(chosen), rows=kept, layers=layers)

    def effective_dimension(self, n: Any, gamma: float = 1.0) -> Any:
        """Return the local effective dimension at n data (a number or an array of them).

        See :func:`~geomprobe.information.effective_dimension`. Eigenvalues below the noise floor
        are left out.
        """
        return effective_dimension(
            self.significant(), n, n_parameters=self.n_parameters, gamma=gamma
        )

    def log_determinant(self, scale: float) -> float:
        """Return log det(I + scale F), by Cholesky: O(M^3 / 3), a seventh of the eigenvalues.

        Raises
        ------
        ValueError
            A scale that is not positive.
        """
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        whole = np.eye(len(self.gram)) + scale * self.gram.astype(np.float64)
        return float(2 * np.log(np.diagonal(np.linalg.cholesky(whole))).sum())

    def eigenvectors(self, k: int = 1) -> tuple[Array, list[dict[str, Tensor]]]:
        """Return the k largest eigenvalues of F, and their eigenvectors over the parameters.

        Returns
        -------
        eigenvalues : array of shape (k,)
        eigenvectors : list of dict of str to Tensor
            Each of norm 1, by parameter. An eigenvector is B^T u of one of K.

        Raises
        ------
        ValueError
            There are fewer than k eigenvalues above the noise floor.
        RuntimeError
            The rows are not there, as after loading from a file.

        Notes
        -----
        O(k M^2), and a backward pass each.
        """
        rows = self._rows()
        if 1 <= k <= len(self.gram):
            values, vectors = self.leading(k)
        if not 1 <= k <= len(self.gram) or values[-1] <= self._floor(values[0]):
            raise ValueError(
                f"k must be from 1 to {len(self.significant())}, the number of eigenvalues above "
                f"the noise floor; got {k}"
            )
        mapped = rows.into_parameters(torch.from_numpy(vectors))
        flat = torch.cat([part.flatten(1) for part in mapped.values()], dim=1)
        norms = torch.linalg.vector_norm(flat, dim=1)
        return values, [
            {name: part[i] / norms[i] for name, part in mapped.items()} for i in range(k)
        ]

    def natural_gradient(self, gradient: Mapping[str, Tensor], damping: float) -> dict[str, Tensor]:
        r"""Return :math:`(F + \delta I)^{-1} g`, by a solve in the dual.

        Parameters
        ----------
        gradient : mapping of str to Tensor
            g by parameter, such as the gradient of the loss; what is not named is zero.
        damping : float
            The positive :math:`\delta`.

        Raises
        ------
        ValueError
            A damping that is not positive, or a gradient that does not fit the parameters.
        RuntimeError
            The rows are not there.

        Notes
        -----
        Woodbury: :math:`\delta^{-1} (g - B^T (K + \delta I)^{-1} B g)`. O(M^3 / 3), and three
        backward passes.

        References
        ----------
        Amari, S. (1998). Natural gradient works efficiently in learning. Neural Computation 10. For
        the dual: Ren, Y. and Goldfarb, D. (2019). Efficient subsampled Gauss-Newton and natural
        gradient methods for training neural networks. arXiv:1906.02353.
        """
        from scipy.linalg import cho_factor, cho_solve

        rows = self._rows()
        if not damping > 0:
            raise ValueError(f"damping must be positive, got {damping}")
        projected = rows.into_rows(gradient).cpu().numpy()
        factored = cho_factor(self.gram + damping * np.eye(len(self.gram)))
        mapped = rows.into_parameters(torch.from_numpy(cho_solve(factored, projected)))
        return {
            name: (gradient[name].to(part) - part) / damping
            if name in gradient
            else -part / damping
            for name, part in mapped.items()
        }

    def norm(self, direction: Mapping[str, Tensor]) -> float:
        r"""Return :math:`\sqrt{v^T F v}`, the length of a small step v in the Fisher metric.

        Half its square is the Kullback-Leibler divergence that the step makes, to second order.
        """
        return float(torch.linalg.vector_norm(self._rows().into_rows(direction)))

    def fisher_rao_norm(self) -> float:
        r"""Return the Fisher-Rao norm :math:`\theta^T F \theta` of the parameters (not its root).

        References
        ----------
        Liang, T., Poggio, T., Rakhlin, A. and Stokes, J. (2019). Fisher-Rao metric, geometry, and
        complexity of neural networks. AISTATS, definition 2, with the Fisher information of this
        kind.
        """
        return self.norm(self._rows().parameters()) ** 2

    def _rows(self) -> FisherRows:
        if self.rows is None:
            raise RuntimeError(
                "this Fisher information has no rows to map to parameters; compute it by "
                "fisher_gram, and keep the model"
            )
        return self.rows

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


def noise_floor(
    largest: float, trace: float, n_rows: int, gram_epsilon: float, row_epsilon: float
) -> float:
    """Return :attr:`FisherGram.noise_floor`."""
    in_gram = n_rows * gram_epsilon * largest
    in_rows = (10 * row_epsilon) ** 2 * trace
    return float(max(in_gram, in_rows, 0.0))
