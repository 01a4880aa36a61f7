"""Tensors as sums of few terms of rank one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.values import ByValue


@dataclass(frozen=True, eq=False)
class CPDecomposition(ByValue):
    """A sum of terms of rank one; made by :func:`cp_decomposition`.

    Parameters
    ----------
    weights : array of shape (rank,)
        Norm of each term, falling.
    factors : tuple of arrays of shape (size, rank)
        Unit vectors of each mode, as columns.
    relative_error : float
        Frobenius norm of what is left over that of the tensor.
    """

    weights: Array
    factors: tuple[Array, ...]
    relative_error: float

    def tensor(self) -> Array:
        """Return the sum of the terms."""
        first, *others = self.factors
        return assembled([first * self.weights, *others])


def cp_decomposition(
    tensor: Any,
    rank: int,
    *,
    penalty: float = 0.0,
    starts: int = 8,
    seed: int = 0,
) -> CPDecomposition:
    r"""Approximate a tensor by so many terms of rank one, in least squares.

    .. math::
        \min \Bigl\| T - \sum_{s=1}^{r} a_s \otimes b_s \otimes \cdots \Bigr\|^2
        + \lambda \|T\|^2 \sum_s (\|a_s\|^2 + \|b_s\|^2 + \cdots)

    Parameters
    ----------
    tensor : array of shape (n_1, ..., n_k), k >= 2
    rank : int
        Number of terms.
    penalty : float
        The factor :math:`\lambda`, for a tensor scaled to norm one. Without it a best approximation
        may not exist: see :func:`border_rank_scan`.
    starts : int
        Starting points. The first is that of simultaneous diagonalisation (Jennrich) where the
        first two modes have at least ``rank`` entries and there is a third; the others are random.
    seed : int
        Seed of the starting points.

    Returns
    -------
    CPDecomposition
        The best of all starts, each refined by the method of Levenberg and Marquardt. It need not
        be the best there is.

    Raises
    ------
    ValueError
        No tensor of finite numbers, or all zero; a rank or number of starts below one; a negative
        penalty.
    MemoryEstimateError
        Too large a tensor: the Jacobian is dense.

    Notes
    -----
    O(N P^2) time for each step and O(N P) memory, for N entries and P = rank * sum of sizes.

    References
    ----------
    Kolda, T. G. and Bader, B. W. (2009). Tensor decompositions and applications. SIAM Review 51.
    """
    given = checked(tensor, rank)
    if starts < 1 or not penalty >= 0:
        raise ValueError(
            f"starts must be at least 1 and penalty not negative; got {starts} and {penalty}"
        )
    norm = float(np.linalg.norm(given))
    rng = np.random.default_rng(seed)
    best: list[Array] = []
    least = np.inf
    for start in starting_points(given / norm, rank, starts, rng):
        factors, cost = refined(given / norm, start, penalty)
        if cost < least:
            best, least = factors, cost
        if cost < 1e-28:
            break
    return _normalized(given, best, norm)


def starting_points(
    tensor: Array, rank: int, starts: int, rng: np.random.Generator
) -> list[list[Array]]:
    """Return factors to start from: one of Jennrich's where there is one, others random."""
    found = jennrich(tensor, rank, rng)
    points = [] if found is None else [found]
    while len(points) < starts:
        points.append([rng.normal(size=(size, rank)) / np.sqrt(size) for size in tensor.shape])
    return points[:starts]


def refined(tensor: Array, factors: Sequence[Array], penalty: float) -> tuple[list[Array], float]:
    """Refine factors by least squares; return them and half the sum of squares."""
    from scipy.optimize import least_squares

    shapes = [factor.shape for factor in factors]
    ends = np.cumsum([factor.size for factor in factors])
    damping = np.sqrt(penalty) * np.eye(ends[-1])

    def split(x: Array) -> list[Array]:
        parts = np.split(x, ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def residuals(x: Array) -> Array:
        misfit = (assembled(split(x)) - tensor).ravel()
        return np.concatenate([misfit, damping @ x])

    def jacobian(x: Array) -> Array:
        return np.concatenate([_jacobian(split(x)), damping])

    start = np.concatenate([factor.ravel() for factor in factors])
    found = least_squares(
        residuals, start, jacobian, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=2000
    )
    return split(found.x), float(found.cost)


def jennrich(tensor: Array, rank: int, rng: np.random.Generator) -> list[Array] | None:
    """Return factors by simultaneous diagonalisation of two slices; None where there are none.

    Exact for a tensor of that rank whose first two modes have independent vectors, and whose
    others no two proportional ones.
    """
    if tensor.ndim < 3 or rank > min(tensor.shape[:2]):
        return None
    slices = tensor.reshape(*tensor.shape[:2], -1)
    left = np.linalg.svd(slices.reshape(len(slices), -1), full_matrices=False)[0][:, :rank]
    sideways = slices.transpose(1, 0, 2).reshape(tensor.shape[1], -1)
    right = np.linalg.svd(sideways, full_matrices=False)[0][:, :rank]
    small = np.einsum("ia,jb,ijs->abs", left, right, slices)
    first, second = (small @ rng.normal(size=slices.shape[2]) for _ in range(2))
    try:
        values, vectors = np.linalg.eig(first @ np.linalg.inv(second))
    except np.linalg.LinAlgError:
        return None
    if np.abs(values.imag).max() > 1e-8 * np.abs(values).max():
        return None
    first_factor = left @ vectors.real
    rest = np.linalg.lstsq(first_factor, tensor.reshape(len(tensor), -1), rcond=None)[0]
    factors = [first_factor, *(np.empty((size, rank)) for size in tensor.shape[1:])]
    for term, flat in enumerate(rest):
        left_over = flat.reshape(tensor.shape[1:])
        for mode, size in enumerate(tensor.shape[1:-1], start=1):
            u, values, v = np.linalg.svd(left_over.reshape(size, -1), full_matrices=False)
            factors[mode][:, term] = u[:, 0]
            left_over = (values[0] * v[0]).reshape(left_over.shape[1:])
        factors[-1][:, term] = left_over
    return factors


def checked(tensor: Any, rank: int) -> Array:
    """Return a tensor as an array, or refuse it."""
    given = np.asarray(tensor, dtype=np.float64)
    if given.ndim < 2 or not given.size or not np.isfinite(given).all() or not given.any():
        raise ValueError(
            "tensor must hold finite numbers, not all zero, along at least two modes; got shape "
            f"{given.shape}"
        )
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    variables = rank * sum(given.shape)
    require_memory(
        32 * (given.size + variables) * variables,
        f"a decomposition of shape {given.shape} into {rank} terms",
        "Take a smaller tensor.",
    )
    return given


def assembled(factors: Sequence[Array]) -> Array:
    """Return the sum of the terms."""
    first, *others = factors
    shape = [len(factor) for factor in factors]
    result: Array = (first @ _rows_product(others).T).reshape(shape)
    return result


def _rows_product(factors: Sequence[Array]) -> Array:
    """Return the products of rows of all factors: the Khatri-Rao product."""
    rank = factors[0].shape[1]
    product = factors[0]
    for factor in factors[1:]:
        product = (product[:, None] * factor).reshape(-1, rank)
    return product


def _jacobian(factors: Sequence[Array]) -> Array:
    shape = [len(factor) for factor in factors]
    blocks = []
    for mode, factor in enumerate(factors):
        others = _rows_product([*factors[:mode], *factors[mode + 1 :]])
        block = np.einsum("ij,rs->irjs", np.eye(len(factor)), others)
        block = block.reshape(len(factor), *shape[:mode], *shape[mode + 1 :], factor.size)
        blocks.append(np.moveaxis(block, 0, mode).reshape(prod(shape), factor.size))
    return np.concatenate(blocks, axis=1)


def term_norms(factors: Sequence[Array]) -> Array:
    """Return the norm of each term."""
    norms: Array = np.prod([np.linalg.norm(factor, axis=0) for factor in factors], axis=0)
    return norms


def _normalized(tensor: Array, factors: list[Array], norm: float) -> CPDecomposition:
    weights = norm * term_norms(factors)
    order = np.argsort(-weights, kind="stable")
    lengths = [np.linalg.norm(factor, axis=0) for factor in factors]
    units = tuple(
        (factor / np.where(length, length, 1.0))[:, order]
        for factor, length in zip(factors, lengths, strict=True)
    )
    first, *others = units
    misfit = tensor - assembled([first * weights[order], *others])
    return CPDecomposition(weights[order], units, float(np.linalg.norm(misfit)) / norm)
