"""The largest eigenvalues of a symmetric matrix that is at hand."""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST_BLOCK = 8


def leading_eigenpairs(matrix: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest eigenvalues and eigenvectors, by block Lanczos.

    Parameters
    ----------
    matrix : Tensor of shape (M, M)
    k : int

    Returns
    -------
    values : Tensor of shape (k,)
        In descending order.
    vectors : Tensor of shape (M, k)
        Orthonormal columns.

    Notes
    -----
    A block of vectors costs hardly more to multiply than one, since it is the matrix that must be
    read. Blocks of at least k vectors find eigenvalues of multiplicity up to k; the basis is kept
    orthogonal, and grows until the residuals are below eps^(3/4) of the largest eigenvalue, so that
    the eigenvalues are exact to rounding where they are separated. Should half of all directions
    not do, all eigenvalues are found, in O(M^3).

    References
    ----------
    Golub, G. H. and Underwood, R. (1977). The block Lanczos method for computing eigenvalues.
    Mathematical Software III.
    """
    m, width = len(matrix), max(k, _LEAST_BLOCK)
    tolerance = torch.finfo(matrix.dtype).eps ** 0.75
    generator = torch.Generator(matrix.device).manual_seed(0)
    block = torch.randn(m, width, dtype=matrix.dtype, device=matrix.device, generator=generator)
    basis, moved = matrix.new_empty(m, 0), matrix.new_empty(m, 0)
    while basis.shape[1] + width <= m // 2:
        for _ in range(2):  # Once more, for what rounding has left or the rank has not filled.
            block = torch.linalg.qr(block - basis @ (basis.T @ block)).Q
        basis = torch.cat([basis, block], dim=1)
        block = matrix @ block
        moved = torch.cat([moved, block], dim=1)
        inner = basis.T @ moved
        values, vectors = torch.linalg.eigh((inner + inner.T) / 2)
        values, vectors = values[-k:].flip(0), vectors[:, -k:].flip(1)
        residuals = moved @ vectors - basis @ (vectors * values)
        if bool((residuals.norm(dim=0) <= tolerance * values[0].abs()).all()):
            return values, basis @ vectors
    values, vectors = torch.linalg.eigh(matrix)
    return values[-k:].flip(0), vectors[:, -k:].flip(1)
