"""What depth saves: ranks along a deep polynomial network, and its shallow equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb
from typing import Any

import numpy as np

from geomprobe.algebraic.prime_field import PRIMES, PrimeField
from geomprobe.algebraic.secant import generic_rank
from geomprobe.memory import require_memory
from geomprobe.storage import Array


@dataclass(frozen=True)
class DepthEfficiency:
    """A deep network and the shallow one for its function; made by :func:`depth_efficiency`.

    Parameters
    ----------
    widths : tuple of int
    degree : int
        Of each activation.
    ranks : dict of int to int
        By k: the rank of the symmetric tensor of the outputs flattened into k modes and the others.
        These are the hierarchical Tucker ranks along the layers, and that of the middle.
    shallow_width_at_least : int
        Hidden units that a network of one hidden layer needs for the same function.
    shallow_width_at_most : int
        Hidden units that are enough for every function of that degree.
    deep_parameters, shallow_parameters_at_least : int
        Weights of the network, and of a shallow one of the least width.
    """

    widths: tuple[int, ...]
    degree: int
    ranks: Mapping[int, int]
    shallow_width_at_least: int
    shallow_width_at_most: int
    deep_parameters: int
    shallow_parameters_at_least: int


def depth_efficiency(widths: Sequence[int], degree: int, *, seed: int = 0) -> DepthEfficiency:
    r"""Compare a polynomial network with the shallow network that computes the same function.

    The outputs of a network with powers of a degree d after L - 1 of its layers are forms of degree
    :math:`D = d^{L-1}`, or symmetric tensors of D modes. A network of one hidden layer with power D
    is a sum of terms of rank one, and needs no fewer units than any flattening of that tensor has
    rank.

    Parameters
    ----------
    widths : sequence of int
        Inputs, hidden layers (at least one), outputs; no biases.
    degree : int
        Power of the activation, at least 2.
    seed : int
        Seed of the random weights.

    Returns
    -------
    DepthEfficiency
        For all weights but a set of measure zero.

    Raises
    ------
    ValueError
        Fewer than three widths, one below one, a degree below two, or outputs of a degree beyond
        the primes.
    MemoryEstimateError
        Flattenings that do not fit in memory.

    Notes
    -----
    Flattenings are taken at random points modulo a prime: with
    :math:`f(s u + x) = \sum_k s^k \binom{D}{k} F(u^k, x^{D-k})`, the matrix of
    :math:`F(u_a^k, x_b^{D-k})` at as many random u and x as the rank can be has that rank. With m
    of them, (D + 1) m^2 passes through the network and O(m^3). That twice the generic rank is
    enough for every form is the bound of Blekherman and Teitler.

    References
    ----------
    Cohen, N., Sharir, O. and Shashua, A. (2016). On the expressive power of deep learning: a tensor
    analysis. COLT. Blekherman, G. and Teitler, Z. (2015). On maximum, typical and generic ranks.
    Mathematische Annalen 362.
    """
    widths = tuple(int(width) for width in widths)
    if len(widths) < 3 or min(widths) < 1 or degree < 2:
        raise ValueError(
            "widths must be those of inputs, hidden layers and outputs, at least three numbers of "
            f"at least 1, and degree at least 2; got {widths} and {degree}"
        )
    total = degree ** (len(widths) - 2)
    if total >= min(PRIMES):
        raise ValueError(f"outputs of degree {total} are beyond the primes calculated with")
    blocks = sorted({degree**level for level in range(len(widths) - 2)} | {total // 2})
    blocks = [k for k in blocks if 0 < k < total]
    sizes = [_largest_rank(widths, total, k) for k in blocks]
    most = max(sizes, default=1)
    require_memory(
        64 * most**2 * max(total + 1, *widths),
        f"a flattening of rank up to {most}",
        "Take smaller widths or a smaller degree.",
    )
    ranks = {
        k: _flattening_rank(widths, degree, total, k, size, seed)
        for k, size in zip(blocks, sizes, strict=True)
    }
    least = max(ranks.values(), default=1)
    ends = widths[0] + widths[-1]
    return DepthEfficiency(
        widths=widths,
        degree=degree,
        ranks=ranks,
        shallow_width_at_least=least,
        shallow_width_at_most=2 * widths[-1] * generic_rank((widths[0],), (total,)),
        deep_parameters=sum(a * b for a, b in pairwise(widths)),
        shallow_parameters_at_least=least * ends,
    )


def hierarchical_tucker_ranks(
    tensor: Any, *, tolerance: float = 1e-10
) -> dict[tuple[int, ...], int]:
    """Return the ranks of a tensor along a balanced binary tree of its modes.

    Parameters
    ----------
    tensor : array of shape (n_1, ..., n_k), k >= 2
    tolerance : float
        Relative to the largest singular value of each flattening.

    Returns
    -------
    dict of tuple of int to int
        By modes: the rank of the tensor flattened into these modes and the others. A network of one
        hidden layer, or a CP decomposition, needs at least as many units as the largest.

    Raises
    ------
    ValueError
        Fewer than two modes, numbers that are not finite, or a tolerance not in (0, 1).

    References
    ----------
    Grasedyck, L. (2010). Hierarchical singular value decomposition of tensors. SIAM Journal on
    Matrix Analysis and Applications 31.
    """
    given = np.asarray(tensor, dtype=np.float64)
    if given.ndim < 2 or not given.size or not np.isfinite(given).all() or not 0 < tolerance < 1:
        raise ValueError(
            "tensor must hold finite numbers along at least two modes, and tolerance be in (0, 1); "
            f"got shape {given.shape} and {tolerance}"
        )
    ranks = {}
    waiting = [tuple(range(given.ndim))]
    while waiting:
        modes = waiting.pop(0)
        if len(modes) > 1:
            middle = (len(modes) + 1) // 2
            waiting += [modes[:middle], modes[middle:]]
        if len(modes) < given.ndim:
            others = [mode for mode in range(given.ndim) if mode not in modes]
            rows = int(np.prod([given.shape[mode] for mode in modes]))
            flat = given.transpose(*modes, *others).reshape(rows, -1)
            values = np.linalg.svd(flat, compute_uv=False)
            ranks[modes] = int((values > tolerance * values[0]).sum())
    return ranks


def _largest_rank(widths: tuple[int, ...], total: int, k: int) -> int:
    n = widths[0]
    return min(widths[-1] * comb(n - 1 + k, k), comb(n - 1 + total - k, total - k))


def _flattening_rank(
    widths: tuple[int, ...], degree: int, total: int, k: int, most: int, seed: int
) -> int:
    """Return the rank of the outputs' tensors, one above the other, flattened at k modes."""
    n, outputs = widths[0], widths[-1]
    field, rng = PrimeField(PRIMES[0]), np.random.default_rng(seed)
    weights = [field.draw(rng, b, a) for a, b in pairwise(widths)]
    u, x = field.draw(rng, most, n), field.draw(rng, most, n)
    row = _vandermonde_inverse(total, k, field.prime)
    flat = np.zeros((outputs * most, most))
    for s, factor in enumerate(row):
        points = field.reduced(s * u[:, None] + x)
        values: Array = points.reshape(-1, n)
        for weight in weights[:-1]:
            values = field.power(field.product(values, weight.T), degree)
        values = field.product(values, weights[-1].T).reshape(most, most, outputs)
        part = np.moveaxis(values, -1, 0).reshape(outputs * most, most)
        flat = field.reduced(flat + field.times(np.full((1, 1), factor), part))
    return len(field.pivots(flat))


def _vandermonde_inverse(degree: int, k: int, prime: int) -> Array:
    """Return the weights of the values at 0, ..., degree that give the coefficient of s^k."""
    master = [1]
    for node in range(degree + 1):
        # Times (s - node), coefficients from the highest.
        master = [
            (high - node * low) % prime
            for high, low in zip([*master, 0], [0, *master], strict=True)
        ]
    weights = []
    for node in range(degree + 1):
        quotient, carried = [], 0
        for coefficient in master[:-1]:
            carried = (coefficient + node * carried) % prime
            quotient.append(carried)
        scale = 1
        for other in range(degree + 1):
            scale = scale * (node - other) % prime if other != node else scale
        value = quotient[degree - k] * pow(scale, -1, prime) % prime
        weights.append(value - prime if value > prime // 2 else value)
    return np.array(weights, dtype=np.float64)
