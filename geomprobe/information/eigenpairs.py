"""Extreme eigenvalues of a symmetric matrix that is known by its products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.values import ByValue

_ARPACK = {"largest": "LA", "smallest": "SA", "magnitude": "LM"}
_AWAY = {"largest": 1.0, "smallest": -1.0, "magnitude": 0.0}
_POWER_STEPS = 4


class SymmetricOperator(Protocol):
    """What is needed of a matrix: a tensor is one, and so are curvlinops' operators."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(p, p)."""

    @property
    def dtype(self) -> torch.dtype:
        """Of vectors."""

    @property
    def device(self) -> torch.device:
        """Where vectors must be."""

    def __matmul__(self, vectors: Tensor, /) -> Tensor:
        """Multiply the columns of a matrix of shape (p, k)."""


@dataclass(frozen=True, eq=False)
class Eigenpairs(ByValue):
    """Some eigenvalues and eigenvectors.

    Parameters
    ----------
    values : float64 array of shape (k,)
        Those asked for first, first.
    vectors : float64 array of shape (p, k)
        Orthonormal columns.
    residuals : float64 array of shape (k,)
        ``|A v - value v|``: that near each value there is a true eigenvalue.
    route : str
        How they were found, and by how many products.
    """

    values: Array
    vectors: Array
    residuals: Array
    route: str


def top_eigenpairs(
    operator: SymmetricOperator,
    k: int = 1,
    *,
    which: str = "largest",
    tol: float = 0.0,
    seed: int = 0,
    memory_share: float = 0.5,
) -> Eigenpairs:
    """Find the k eigenvalues at one end of the spectrum, by Lanczos with restarts (ARPACK).

    Parameters
    ----------
    operator : SymmetricOperator
        Such as :class:`~geomprobe.information.Curvature`.
    k : int
    which : {"largest", "smallest", "magnitude"}
        The largest, the smallest (most negative), or those farthest from zero.
    tol : float
        Accuracy of the eigenvalues, relative to the largest in size; 0 asks for that of the
        operator's precision.
    seed : int
        Seed of the first vector.
    memory_share : float
        Largest fraction of the available memory to take.

    Returns
    -------
    Eigenpairs

    Raises
    ------
    ValueError
        k outside 1 to p, or another ``which``.
    MemoryEstimateError
        The vectors would not fit.
    scipy.sparse.linalg.ArpackNoConvergence
        As it says; ask for fewer or a larger tol.

    Notes
    -----
    O(k) products for well separated eigenvalues, and max(2k + 1, 20) vectors of p numbers.

    References
    ----------
    Lehoucq, R. B., Sorensen, D. C. and Yang, C. (1998). ARPACK users' guide. SIAM.
    """
    p = operator.shape[0]
    if which not in _ARPACK:
        raise ValueError(f"which must be one of {tuple(_ARPACK)}, got {which!r}")
    if not 1 <= k <= p:
        raise ValueError(f"k must be from 1 to {p}, got {k}")
    held = min(p, max(2 * k + 1, 20))
    require_memory(
        16 * p * held,
        f"{k} eigenvectors of {p} parameters, by {held} Lanczos vectors",
        "Ask for fewer.",
        share=memory_share,
    )

    products = 0

    def product(vectors: Array) -> Array:
        nonlocal products
        block = torch.from_numpy(np.array(vectors)).to(operator.device, operator.dtype)
        moved = operator @ block.reshape(p, -1)
        products += moved.shape[1]
        found: Array = moved.double().cpu().numpy().reshape(vectors.shape)
        return found

    values, vectors, route = _extreme(product, p, k, which, tol or _precision(operator), seed)
    route = f"{route}, {products} products"
    residuals = np.linalg.norm(product(vectors) - vectors * values, axis=0)
    return Eigenpairs(values, vectors, residuals, route)


def _precision(operator: SymmetricOperator) -> float:
    return float(torch.finfo(operator.dtype).eps)


def _extreme(
    product: Any, p: int, k: int, which: str, tol: float, seed: int
) -> tuple[Array, Array, str]:
    from scipy.sparse.linalg import LinearOperator, eigsh

    if p <= max(2 * k + 1, 20):  # ARPACK wants room beside the k.
        route = "dense matrix"
        matrix = product(np.eye(p))
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    else:
        route = "Lanczos with restarts"
        start = np.random.default_rng(seed).standard_normal(p)
        if not (size := _size(product, start)):  # ARPACK refuses a matrix of zeros.
            return np.zeros(k), np.eye(p, k), route
        # ARPACK wants accuracy relative to each eigenvalue, which one near zero never reaches.
        shift = _AWAY[which] * size

        def shifted(vectors: Array) -> Array:
            moved: Array = product(vectors) + shift * vectors
            return moved

        linear = LinearOperator((p, p), shifted, dtype=float)
        values, vectors = eigsh(linear, k, which=_ARPACK[which], tol=tol, v0=start)
        values = values - shift
    key = {"largest": -values, "smallest": values, "magnitude": -np.abs(values)}[which]
    order = np.argsort(key)[:k]
    return values[order], vectors[:, order], route


def _size(product: Any, vector: Array) -> float:
    """Return about the largest eigenvalue in size, by a few steps of the power method."""
    for _ in range(_POWER_STEPS):
        vector = vector / (np.linalg.norm(vector) or 1.0)
        vector = product(vector)
    return float(np.linalg.norm(vector))
