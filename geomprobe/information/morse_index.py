"""The number of negative directions at a point."""

from __future__ import annotations

import math

import torch

from geomprobe.findings import Estimate
from geomprobe.information.eigenpairs import SymmetricOperator
from geomprobe.information.spectral_density import SpectralDensity, spectral_density


def morse_index(
    operator: SymmetricOperator,
    *,
    tolerance: float | None = None,
    most_exact: int = 1500,
    density: SpectralDensity | None = None,
    seed: int = 0,
) -> Estimate:
    """Count the negative directions at a point: the eigenvalues below minus a tolerance.

    Parameters
    ----------
    operator : SymmetricOperator
        Such as the Hessian of a loss.
    tolerance : float, optional
        By default the rounding of products, and the resolution where the count is estimated.
    most_exact : int
        Up to how many parameters to form the matrix; beyond, the count is read off the
        :func:`spectral_density`.
    density : SpectralDensity, optional
        One of this operator that is at hand.
    seed : int
        Seed of its vectors.

    Returns
    -------
    Estimate
        Its method names the way, its note the tolerance.

    Raises
    ------
    ValueError
        A negative tolerance.

    Notes
    -----
    p products and O(p^3), or 480 products.
    """
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    p = operator.shape[0]
    rounding = math.sqrt(p) * float(torch.finfo(operator.dtype).eps)
    if p <= most_exact:
        matrix = operator @ torch.eye(p, dtype=operator.dtype, device=operator.device)
        values = torch.linalg.eigvalsh((matrix + matrix.T).double() / 2)
        least = rounding * float(values.abs().max()) if tolerance is None else tolerance
        negative, null = int((values < -least).sum()), int((values.abs() <= least).sum())
        return Estimate(
            negative,
            exact=True,
            n=p,
            method="all eigenvalues",
            note=f"{null} of {p} are within the tolerance of {least:.2g} around zero",
        )
    density = density or spectral_density(operator, seed=seed)
    least = max(density.resolution, rounding * max(map(abs, density.extent)))
    least = least if tolerance is None else tolerance
    found = density.count_below(-least)
    note = f"eigenvalues within the tolerance of {least:.2g} around zero are not counted"
    return Estimate(found.value, found.stderr, found.n, method=found.method, note=note)
