"""The empirical neural tangent kernel, its conditioning, alignment and drift."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.findings import Estimate
from geomprobe.information.fisher import fisher_gram
from geomprobe.information.likelihoods import Gaussian
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array
from geomprobe.values import ByValue


def ntk(
    model: nn.Module,
    data: Samples,
    *,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float64,
    memory_share: float = 0.5,
) -> TangentKernel:
    r"""Compute the empirical neural tangent kernel, :math:`\Theta = J J^T`.

    .. math::
        \Theta_{(n, c), (m, d)} = \left\langle \nabla_\theta f_c(x_n),
        \nabla_\theta f_d(x_m) \right\rangle

    Parameters
    ----------
    model : torch.nn.Module
        With batch norm and dropout in evaluation mode, and left as it was. Frozen parameters are
        left out.
    data : Samples
        N inputs; targets are not looked at.
    batch_size, dtype, memory_share
        See :func:`~geomprobe.information.fisher_gram`, whose errors are raised.

    Returns
    -------
    TangentKernel

    Notes
    -----
    It is N times the Fisher Gram matrix of a Gaussian of variance 1, and is computed as such: layer
    by layer, without per-sample gradients where a layer has a rule. C backward passes.

    References
    ----------
    Jacot, A., Gabriel, F. and Hongler, C. (2018). Neural tangent kernel: convergence and
    generalization in neural networks. NeurIPS.
    """
    gram = fisher_gram(
        model,
        Samples(data.inputs),
        likelihood=Gaussian(),
        batch_size=batch_size,
        dtype=dtype,
        memory_share=memory_share,
    )
    return TangentKernel(
        gram.n_samples * gram.gram.astype(np.float64),
        gram.n_samples,
        gram.rows_per_sample,
        gram.n_parameters,
        gram.route,
        gram.n_samples * gram.noise_floor,
    )


@dataclass(frozen=True, eq=False)
class TangentKernel(ByValue):
    """A neural tangent kernel on some inputs.

    Parameters
    ----------
    matrix : float64 array of shape (N C, N C)
        The outputs of one input stand together.
    n_samples, n_outputs : int
        N and C.
    n_parameters : int
    route : str
        As that of :class:`~geomprobe.information.FisherGram`.
    noise_floor : float
        The eigenvalue below which rounding rules.
    """

    matrix: Array
    n_samples: int
    n_outputs: int
    n_parameters: int
    route: str
    noise_floor: float = 0.0

    @property
    def by_sample(self) -> Array:
        """The kernel of inputs, its mean over equal outputs: an array of shape (N, N)."""
        n, c = self.n_samples, self.n_outputs
        kernel: Array = np.einsum("ncmc->nm", self.matrix.reshape(n, c, n, c)) / c
        return kernel

    def spectrum(self) -> Array:
        """Return the N C eigenvalues in descending order, as they came out. O((N C)^3), once."""
        return np.array(self._eigenvalues)

    @cached_property
    def _eigenvalues(self) -> Array:
        return np.asarray(np.linalg.eigvalsh(self.matrix)[::-1])

    def condition_number(self) -> float:
        """Return the largest over the smallest eigenvalue: how unevenly gradient descent converges.

        Infinite where the smallest is below the noise floor, as whenever there are fewer parameters
        than N C.
        """
        smallest = self._eigenvalues[-1]
        return float(self._eigenvalues[0] / smallest) if smallest > self.noise_floor else math.inf

    def alignment(self, targets: Any, *, seed: int = 0) -> Estimate:
        """Return how much of the kernel points along the targets: centred kernel alignment.

        Parameters
        ----------
        targets : array or tensor of shape (N,) or (N, D)
            Class numbers (integers), or real numbers.
        seed : int
            Seed of the halves of the delete-half jackknife.

        Returns
        -------
        Estimate
            From 0 to 1: the cosine between the kernel of inputs and that of the targets, both
            centred. NaN where either is constant.

        Raises
        ------
        ValueError
            Targets that are not one an input.

        References
        ----------
        Cortes, C., Mohri, M. and Rostamizadeh, A. (2012). Algorithms for learning kernels based on
        centered alignment. JMLR 13. For tangent kernels: Baratin, A. et al. (2021). Implicit
        regularization via neural feature alignment. AISTATS.
        """
        values = self._columns(targets)
        kernel, wanted = self.by_sample, values @ values.T

        def aligned(rows: Array) -> float:
            a, b = (_centred(one[np.ix_(rows, rows)]) for one in (kernel, wanted))
            norms = float(np.linalg.norm(a) * np.linalg.norm(b))
            return float((a * b).sum()) / norms if norms > 0 else math.nan

        value = aligned(np.arange(self.n_samples))
        method = "centred alignment of kernels; delete-half jackknife over inputs"
        if math.isnan(value):
            reason = "the kernel or the targets are constant over the inputs"
            return Estimate.undefined(reason, n=self.n_samples, method=method)
        stderr = float(delete_half_stderr(aligned, self.n_samples, seed=seed))
        return Estimate(value, stderr, self.n_samples, method=method)

    def cumulative_shares(self, targets: Any) -> tuple[Array, Array]:
        """Return how much of the kernel and of the targets lies in its leading eigenvectors.

        Parameters
        ----------
        targets
            As for :meth:`alignment`.

        Returns
        -------
        of_kernel, of_targets : arrays of shape (N,)
            Parts, up to 1, of the trace of the centred kernel of inputs and of the squared norm of
            the centred targets, in the span of its 1, 2, ... N leading eigenvectors. NaN for a
            kernel or targets that are constant.

        Notes
        -----
        Gradient descent on the squared error learns leading eigenvectors first: targets that rise
        before the kernel are learned early.
        """
        values = self._columns(targets)
        eigenvalues, vectors = np.linalg.eigh(_centred(self.by_sample))
        energies = ((vectors.T @ (values - values.mean(axis=0))) ** 2).sum(axis=1)
        of_kernel, of_targets = (
            np.cumsum(part) / part.sum() if part.sum() > 0 else np.full(len(part), np.nan)
            for part in (eigenvalues[::-1].clip(min=0), energies[::-1])
        )
        return of_kernel, of_targets

    def drift(self, initial: TangentKernel) -> float:
        """Return the relative change since an initial kernel on the same inputs: 0 if lazy.

        The Frobenius norm of the difference over that of the initial kernel.

        Raises
        ------
        ValueError
            Kernels of other shapes.

        References
        ----------
        Chizat, L., Oyallon, E. and Bach, F. (2019). On lazy training in differentiable programming.
        NeurIPS.
        """
        self._require_same_shape(initial)
        change = np.linalg.norm(self.matrix - initial.matrix)
        return float(change / np.linalg.norm(initial.matrix))

    def distance(self, other: TangentKernel) -> float:
        """Return 1 minus the cosine between two kernels: 0 where they differ by a factor alone.

        Raises
        ------
        ValueError
            Kernels of other shapes.

        References
        ----------
        Fort, S., Dziugaite, G. K., Paul, M., Kharaghani, S., Roy, D. M. and Ganguli, S. (2020).
        Deep learning versus kernel learning. NeurIPS, equation 4.
        """
        self._require_same_shape(other)
        norms = np.linalg.norm(self.matrix) * np.linalg.norm(other.matrix)
        return float(1 - (self.matrix * other.matrix).sum() / norms)

    def subset(self, samples: Any) -> TangentKernel:
        """Return the kernel of some of the inputs, by indices or mask."""
        chosen = np.arange(self.n_samples)[np.asarray(samples)]
        rows = (chosen[:, None] * self.n_outputs + np.arange(self.n_outputs)).ravel()
        return replace(self, matrix=self.matrix[np.ix_(rows, rows)], n_samples=len(chosen))

    def plot(self, ax: Any = None) -> Any:
        """Draw the kernel of inputs as a map of cosines and return the Axes."""
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots()
        kernel = self.by_sample
        norms = np.sqrt(np.diagonal(kernel))
        image = ax.imshow(kernel / np.outer(norms, norms), vmin=-1, vmax=1, cmap="RdBu_r")
        ax.figure.colorbar(image, ax=ax, label="cosine")
        ax.set(title="tangent kernel of inputs", xlabel="input", ylabel="input")
        return ax

    def _columns(self, targets: Any) -> Array:
        """Return targets as real columns, one a class where they are class numbers."""
        values = np.asarray(targets.detach().cpu() if hasattr(targets, "detach") else targets)
        if values.ndim not in (1, 2) or len(values) != self.n_samples:
            raise ValueError(
                f"targets must have shape ({self.n_samples},) or ({self.n_samples}, D), got "
                f"{values.shape}"
            )
        if values.dtype.kind in "iub" and values.ndim == 1:
            values = np.equal.outer(values, np.unique(values))
        return values.reshape(self.n_samples, -1).astype(np.float64)

    def _require_same_shape(self, other: TangentKernel) -> None:
        if self.matrix.shape != other.matrix.shape:
            raise ValueError(
                f"kernels of shapes {self.matrix.shape} and {other.matrix.shape} are not of the "
                "same inputs and outputs"
            )


def _centred(kernel: Array) -> Array:
    means = kernel.mean(axis=0)
    centred: Array = kernel - means - means[:, None] + kernel.mean()
    return centred
