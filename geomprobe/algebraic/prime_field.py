"""Arithmetic modulo a large prime, and ranks of matrices that come from random points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from geomprobe.memory import require_memory
from geomprobe.storage import Array

#: The two largest primes below 2^31.
PRIMES = (2**31 - 1, 2**31 - 19)
_SPLIT = 65536.0


@dataclass(frozen=True)
class PrimeField:
    """The whole numbers modulo a prime below 2^31, as float64 of the interval [-p/2, p/2].

    Parameters
    ----------
    prime : int
    """

    prime: int

    def draw(self, rng: np.random.Generator, *shape: int) -> Array:
        """Return entries drawn uniformly."""
        half = self.prime // 2
        return rng.integers(-half, half, shape, endpoint=True).astype(np.float64)

    def reduced(self, a: Array) -> Array:
        """Return whole numbers below 2^53 modulo the prime."""
        remainder: Array = a - np.rint(a / self.prime) * self.prime
        return remainder

    def times(self, a: Array, b: Array) -> Array:
        """Return the product entry by entry, with numpy's broadcasting."""
        high = np.rint(a / _SPLIT)
        low = a - high * _SPLIT
        return self.reduced(self.reduced(high * b) * _SPLIT + low * b)

    def power(self, a: Array, exponent: int) -> Array:
        """Return the power of each entry, by repeated squaring."""
        result = np.ones_like(a)
        while exponent:
            if exponent & 1:
                result = self.times(result, a)
            exponent >>= 1
            if exponent:
                a = self.times(a, a)
        return result

    def product(self, a: Array, b: Array) -> Array:
        """Return the product of an array of shape (..., k) and a matrix of shape (k, n)."""
        from geomprobe.algebraic.elimination import minus_product

        rows = a.reshape(prod(a.shape[:-1]), a.shape[-1])
        nothing = np.zeros((len(rows), b.shape[1]))
        negative = minus_product(nothing, np.arange(len(rows)), rows, b, self.prime)
        return -negative.reshape(*a.shape[:-1], b.shape[1])

    def pivots(self, matrix: Array) -> Array:
        """Return the columns that do not depend on those before them; their number is the rank.

        Notes
        -----
        O(m n r) for rank r, nearly all in matrix products of double precision.
        """
        from geomprobe.algebraic.elimination import eliminate

        return eliminate(matrix, self.prime)[1]


@dataclass(frozen=True)
class CertifiedRank:
    """The rank of a matrix of polynomials, from its values at random points modulo two primes.

    Parameters
    ----------
    rank : int
        The larger of the two. The rank over the complex or real numbers, at generic points, is
        never below.
    bound : int
        Which it is never above.
    by_prime : dict of int to int
        What was found modulo each prime.
    error_probability : float
        That the true rank is larger although no prime divides what matters: by Schwartz and Zippel
        the product over the primes of degree over prime. 0 where the bound is reached, which
        proves the rank.
    """

    rank: int
    bound: int
    by_prime: dict[int, int]
    error_probability: float

    @property
    def proven(self) -> bool:
        """Whether the rank reaches the bound."""
        return self.rank == self.bound


def certified_rank(
    values: Callable[[PrimeField, np.random.Generator, int], Array],
    *,
    rows: int,
    bound: int,
    per_point: int,
    degree: int,
    seed: int,
    what: str,
) -> CertifiedRank:
    """Find the largest rank that a matrix of polynomials takes, over points without end.

    Parameters
    ----------
    values : callable
        ``values(field, rng, n)``: the matrix at random parameters and n random points, of shape
        (rows, n * per_point), in a field.
    rows : int
        Rows of that matrix.
    bound : int
        Which the rank does not exceed.
    per_point : int
        Columns of a point.
    degree : int
        Of the entries, in the parameters and the coordinates of the points together.
    seed : int
        Seed of the points.
    what : str
        The computation, for the message where it would not fit in memory.

    Raises
    ------
    MemoryEstimateError
        The matrix would take too much memory.

    Notes
    -----
    Each further point of a generic sequence adds no more to the rank than the one before, so that
    the rank is complete once a point adds nothing.
    """
    by_prime = {}
    for prime in PRIMES:
        field, rng = PrimeField(prime), np.random.default_rng(seed)
        n = bound // per_point + 1
        while True:
            require_memory(
                48 * rows * n * per_point, what, "Take smaller widths, or a smaller rank."
            )
            pivots = field.pivots(values(field, rng, n))
            if len(pivots) == bound or not (pivots >= (n - 1) * per_point).any():
                break
            n *= 2
        by_prime[prime] = len(pivots)
    rank = max(by_prime.values())
    miss = 0.0 if rank == bound else float(np.prod([min(1, bound * degree / p) for p in PRIMES]))
    return CertifiedRank(rank, bound, by_prime, miss)
