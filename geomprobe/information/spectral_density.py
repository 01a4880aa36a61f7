"""The spectral density of a symmetric matrix that is known by its products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomprobe.findings import Estimate
from geomprobe.information.eigenpairs import SymmetricOperator
from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.values import ByValue

_NEGLIGIBLE = 0.01  # Of z: by how much eigenvalues may be negative.


def spectral_density(
    operator: SymmetricOperator,
    *,
    draws: int = 8,
    steps: int = 60,
    seed: int = 0,
    memory_share: float = 0.5,
) -> SpectralDensity:
    r"""Estimate a spectral density by stochastic Lanczos quadrature.

    Parameters
    ----------
    operator : SymmetricOperator
        Such as :class:`~geomprobe.information.Curvature`, or a tensor of shape (p, p).
    draws : int
        Random vectors, at least 2: their spread gives the standard errors.
    steps : int
        Products a draw. Details of the spectrum are resolved to about its width over this number,
        and more finely at its ends.
    seed : int
        Seed of the vectors.
    memory_share : float
        Largest fraction of the available memory to take.

    Returns
    -------
    SpectralDensity

    Raises
    ------
    ValueError
        Fewer than 2 draws or 2 steps.
    MemoryEstimateError
        The vectors of one draw would not fit.

    Notes
    -----
    ``draws * steps`` products. Every step is orthogonalised against all before it, twice: without
    that, Lanczos finds large eigenvalues again and again. O(p steps) memory.

    References
    ----------
    Ubaru, S., Chen, J. and Saad, Y. (2017). Fast estimation of tr(f(A)) via stochastic Lanczos
    quadrature. SIAM J. Matrix Anal. Appl. 38. For networks: Ghorbani, B., Krishnan, S. and Xiao, Y.
    (2019). An investigation into neural net optimization via Hessian eigenvalue density. ICML.
    """
    if draws < 2 or steps < 2:
        raise ValueError(f"draws and steps must be at least 2, got {draws} and {steps}")
    p = operator.shape[0]
    steps = min(steps, p)
    size = operator.dtype.itemsize * p * (steps + 2)
    require_memory(
        size, f"{steps} vectors of {p} parameters", "Use fewer steps.", share=memory_share
    )
    generator = torch.Generator().manual_seed(seed)
    found = [_lanczos(operator, steps, generator) for _ in range(draws)]
    diagonals, off_diagonals = (np.array(part) for part in zip(*found, strict=True))
    return SpectralDensity(diagonals, off_diagonals, p)


def _lanczos(
    operator: SymmetricOperator, steps: int, generator: torch.Generator
) -> tuple[list[float], list[float]]:
    """Return the diagonal and the off-diagonal of the tridiagonal matrix of one random vector."""
    p = operator.shape[0]
    basis = torch.zeros(steps, p, dtype=operator.dtype, device=operator.device)
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    largest = 0.0

    vector = (2.0 * torch.randint(2, (p,), generator=generator, device="cpu") - 1).to(basis)
    for step in range(steps):
        length = float(torch.linalg.vector_norm(vector))
        # An invariant subspace is full: what comes now has no part in the density of this vector.
        if step and length <= 10 * torch.finfo(basis.dtype).eps * largest:
            restart = torch.randn(p, generator=generator, dtype=torch.float64, device="cpu").to(
                basis
            )
            vector, length = _orthogonal(restart, basis[:step]), 0.0
        if step:
            off_diagonal.append(length)
        basis[step] = vector / torch.linalg.vector_norm(vector)
        moved = operator @ basis[step]
        diagonal.append(float(moved @ basis[step]))
        largest = max(largest, float(torch.linalg.vector_norm(moved)))
        vector = _orthogonal(moved, basis[: step + 1])
    return diagonal, off_diagonal


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector


@dataclass(frozen=True, eq=False)
class SpectralDensity(ByValue):
    """A spectrum as the quadratures of some random vectors.

    Parameters
    ----------
    diagonals : float64 array of shape (draws, steps)
    off_diagonals : float64 array of shape (draws, steps - 1)
        Of the tridiagonal matrices.
    dimension : int
        Number of eigenvalues, p.
    """

    diagonals: Array
    off_diagonals: Array
    dimension: int

    @property
    def steps(self) -> int:
        """Products of a draw."""
        return int(self.diagonals.shape[1])

    @property
    def route(self) -> str:
        """How it was made."""
        return (
            f"stochastic Lanczos quadrature, {len(self.diagonals)} draws of {self.steps} products"
        )

    def quadrature(self, steps: int | None = None) -> tuple[Array, Array]:
        """Return nodes and weights, each of shape (draws, steps); the weights of a draw sum to 1.

        The nodes estimate eigenvalues, the weights which part of all lies around each.
        """
        from scipy.linalg import eigh_tridiagonal

        m = steps or self.steps
        nodes, weights = [], []
        for diagonal, off_diagonal in zip(self.diagonals, self.off_diagonals, strict=True):
            values, vectors = eigh_tridiagonal(diagonal[:m], off_diagonal[: m - 1])
            nodes.append(values)
            weights.append(vectors[0] ** 2)
        return np.array(nodes), np.array(weights)

    @property
    def extent(self) -> tuple[float, float]:
        """The smallest and the largest node: the ends of the spectrum, from within."""
        nodes, _ = self.quadrature()
        return float(nodes.min()), float(nodes.max())

    @property
    def resolution(self) -> float:
        """About how far apart two eigenvalues must be to be told apart: the width over the steps.

        Zero where there are as many steps as eigenvalues.
        """
        low, high = self.extent
        return 0.0 if self.steps >= self.dimension else (high - low) / self.steps

    def sum(self, function: Callable[[Array], Array]) -> Estimate:
        """Estimate the sum of a function over all eigenvalues.

        Returns
        -------
        Estimate
            The standard error joins the spread of the draws with the change from two thirds of the
            steps to all of them.
        """
        values = self._each(function, self.steps)
        sampling = float(values.std(ddof=1) / len(values) ** 0.5)
        fewer = self._each(function, max(1, 2 * self.steps // 3))
        change = 0.0 if self.steps >= self.dimension else float(values.mean() - fewer.mean())
        return Estimate(
            float(values.mean()),
            math.hypot(sampling, change),
            len(values),
            method=self.route,
        )

    def _each(self, function: Callable[[Array], Array], steps: int) -> Array:
        nodes, weights = self.quadrature(steps)
        each: Array = self.dimension * (weights * function(nodes)).sum(axis=1)
        return each

    def count_below(self, threshold: float) -> Estimate:
        """Estimate how many eigenvalues are below a threshold."""
        return self.sum(lambda values: (values < threshold).astype(float))

    def trace(self) -> Estimate:
        """Estimate the sum of the eigenvalues."""
        return self.sum(lambda values: values)

    def effective_parameters(self, z: float) -> Estimate:
        r"""Estimate the number of well determined parameters at regularisation z.

        See :func:`~geomprobe.information.effective_parameters`. For :math:`\lambda / (\lambda + z)`
        of a positive semi-definite matrix, the quadrature gives each random vector too many, and
        the one with a node fixed at zero too few: the value lies in the middle.

        Returns
        -------
        Estimate
            The standard error joins the spread of the draws with half of the distance of the two.
            NaN with the reason where one is more than twice the other, since the steps do not
            tell eigenvalues near z from zero; or where an eigenvalue is below -z/100, as a Hessian
            has them: take the Gauss-Newton matrix, or all eigenvalues of a small one.

        References
        ----------
        Golub, G. H. and Meurant, G. (2010). Matrices, moments and quadrature with applications,
        chapters 6 and 7.
        """
        if not z > 0:
            raise ValueError(f"z must be positive, got {z}")
        draws, (least, _) = len(self.diagonals), self.extent
        if least < -_NEGLIGIBLE * z:
            return Estimate.undefined(
                f"there are eigenvalues down to {least:.3g}, and products do not tell small ones "
                f"from zero at z = {z:.3g}: take the Gauss-Newton matrix, or all eigenvalues",
                n=draws,
                method=self.route,
            )

        def share(values: Array) -> Array:
            shares: Array = np.maximum(values, 0) / (np.maximum(values, 0) + z)
            return shares

        most = self._each(share, self.steps)
        whole = self.steps >= self.dimension
        fewest = most if whole else self._ending_at(min(least, 0.0))._each(share, self.steps)
        if 2 * fewest.mean() < most.mean():
            return Estimate.undefined(
                f"between {fewest.mean():.3g} and {most.mean():.3g}: {self.steps} steps do not "
                f"tell eigenvalues near z = {z:.3g} from zero; take more",
                n=draws,
                method=self.route,
            )
        middle = (most + fewest) / 2
        sampling = float(middle.std(ddof=1)) / math.sqrt(draws)
        half = float((most - fewest).mean()) / 2
        return Estimate(float(middle.mean()), math.hypot(sampling, half), draws, method=self.route)

    def _ending_at(self, end: float) -> SpectralDensity:
        """Return the Gauss-Radau quadratures: with a node at an end below all others."""
        diagonals = self.diagonals.copy()
        smallest = np.finfo(np.float64).eps * np.abs(self.diagonals).max()
        pivots = diagonals[:, 0] - end
        for step, beside in enumerate(self.off_diagonals.T, start=1):
            # Without its last row, the matrix less the end is positive definite but for rounding.
            carried = beside**2 / np.maximum(pivots, smallest)
            pivots = diagonals[:, step] - end - carried
        diagonals[:, -1] = end + carried
        return replace(self, diagonals=diagonals)

    def negative_share(self) -> Estimate:
        """Estimate which part of the summed size of all eigenvalues is negative, from 0 to 1."""
        sizes, negative = self.sum(np.abs), self.sum(lambda values: np.maximum(-values, 0))
        if not sizes.value > 0:
            reason = "all eigenvalues are zero"
            return Estimate.undefined(reason, n=sizes.n, method=sizes.method)
        share = negative.value / sizes.value
        # The residuals sum to zero but for their error, which is that of the share times the sizes.
        left = self.sum(lambda values: np.maximum(-values, 0) - share * np.abs(values))
        return replace(negative, value=share, stderr=left.stderr / sizes.value)

    def density(self, at: Any, width: float | None = None) -> Array:
        """Return the share of eigenvalues per unit, smoothed by a Gaussian.

        Parameters
        ----------
        at : array of shape (m,)
        width : float, optional
            Standard deviation of the Gaussian; by default a hundredth of the spectrum's extent.

        Returns
        -------
        array of shape (m,)
        """
        nodes, weights = self.quadrature()
        sigma = width or max(np.ptp(nodes), np.finfo(float).tiny) / 100
        scaled = (np.asarray(at, dtype=np.float64)[:, None] - nodes.ravel()) / sigma
        bells = np.exp(-(scaled**2) / 2) / (sigma * math.sqrt(2 * math.pi))
        smooth: Array = bells @ weights.ravel() / len(nodes)
        return smooth

    def plot(self, ax: Any = None) -> Any:
        """Draw the density on a logarithmic axis and return the Axes."""
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots()
        low, high = self.extent
        margin = 0.05 * (high - low) or 1.0
        grid = np.linspace(low - margin, high + margin, 1000)
        ax.semilogy(grid, np.maximum(self.density(grid), 1e-12))
        ax.set(xlabel="eigenvalue", ylabel="density", ylim=(1e-8, None))
        ax.set_title(f"spectrum of {self.dimension:,} eigenvalues")
        return ax
