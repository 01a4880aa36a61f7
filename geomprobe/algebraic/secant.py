"""Secant varieties: what sums of rank-one tensors fill, and the rank of a generic tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, prod

import numpy as np

from geomprobe.algebraic.prime_field import CertifiedRank, PrimeField, certified_rank
from geomprobe.storage import Array

#: (variables, degree, rank) of forms of degree three and more whose dimension is one below.
_ALEXANDER_HIRSCHOWITZ = {(3, 4, 5), (4, 4, 9), (5, 4, 14), (5, 3, 7)}


@dataclass(frozen=True)
class SecantVariety:
    """The closure of the tensors that are sums of so many; made by :func:`secant_dimension`.

    Parameters
    ----------
    shape : tuple of int
        Size of each factor.
    degrees : tuple of int
        In how many modes each factor stands, symmetrically.
    rank : int
        Number of terms.
    ambient : int
        Dimension of the space of all such tensors.
    certificate : CertifiedRank
        The rank of the tangent spaces, and what it is worth.
    """

    shape: tuple[int, ...]
    degrees: tuple[int, ...]
    rank: int
    ambient: int
    certificate: CertifiedRank

    @property
    def dimension(self) -> int:
        """Of the variety, as an affine cone: one more than that of the projective variety."""
        return self.certificate.rank

    @property
    def expected(self) -> int:
        """Parameters of the terms, and no more than the ambient space."""
        return self.certificate.bound

    @property
    def defect(self) -> int:
        """By how much the dimension is below what is expected."""
        return self.expected - self.dimension

    @property
    def filling(self) -> bool:
        """Whether generic tensors are such sums, over the complex numbers."""
        return self.dimension == self.ambient


def secant_dimension(
    shape: Sequence[int], rank: int, degrees: Sequence[int] | None = None, *, seed: int = 0
) -> SecantVariety:
    r"""Return the dimension of the set of sums of ``rank`` tensors of rank one.

    The terms are :math:`v_1^{\otimes d_1} \otimes \cdots \otimes v_k^{\otimes d_k}` with
    :math:`v_i` of size ``shape[i]``. One factor is a Veronese variety: the sums are forms of degree
    d as sums of powers of linear forms. Degrees of one are a Segre variety: the sums are tensors of
    that CP rank.

    Parameters
    ----------
    shape : sequence of int
        Size of each factor, n + 1 for a projective space of dimension n.
    rank : int
        Number of terms.
    degrees : sequence of int, optional
        By default 1 for each factor.
    seed : int
        Seed of the random points.

    Returns
    -------
    SecantVariety

    Raises
    ------
    ValueError
        Sizes, degrees or a rank below one, or not one degree a factor.
    MemoryEstimateError
        The tangent spaces would take too much memory.

    Notes
    -----
    Terracini's lemma: the tangent space at a generic sum is the sum of the tangent spaces at its
    terms. Its dimension is taken exactly, modulo two primes: see
    :class:`~geomprobe.algebraic.CertifiedRank`. With P = rank * sum(shape), O(P^3) time and O(P^2)
    memory.

    References
    ----------
    Terracini, A. (1911). Sulle V_k per cui la varietà degli S_h (h+1)-seganti ha dimensione minore
    dell'ordinario. Rendiconti del Circolo Matematico di Palermo 31.
    Bernardi, A., Carlini, E., Catalisano, M. V., Gimigliano, A. and Oneto, A. (2018). The
    hitchhiker guide to secant varieties and tensor decomposition. Mathematics 6.
    """
    sizes, powers = _checked(shape, degrees)
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    ambient = _ambient(sizes, powers)

    def values(field: PrimeField, rng: np.random.Generator, n: int) -> Array:
        terms = [field.draw(rng, rank, size) for size in sizes]
        points = [field.draw(rng, n, size) for size in sizes]
        return _tangents(field, terms, points, powers)

    certificate = certified_rank(
        values,
        rows=rank * sum(sizes),
        bound=min(rank * (sum(sizes) - len(sizes) + 1), ambient),
        per_point=1,
        degree=2 * sum(powers) - 1,
        seed=seed,
        what=f"the tangent space of {rank} terms of shape {sizes}",
    )
    return SecantVariety(sizes, powers, rank, ambient, certificate)


def generic_rank(
    shape: Sequence[int], degrees: Sequence[int] | None = None, *, seed: int = 0
) -> int:
    """Return how many terms of rank one a generic tensor is the sum of.

    Parameters
    ----------
    shape, degrees, seed
        As of :func:`secant_dimension`.

    Returns
    -------
    int
        The rank of all complex tensors but a set of measure zero. Of real tensors it is the
        smallest typical rank, one that all tensors of some open set have.

    Raises
    ------
    ValueError, MemoryEstimateError
        As :func:`secant_dimension` does.

    Notes
    -----
    For one factor, the theorem of Alexander and Hirschowitz; otherwise the smallest number whose
    secant variety fills the space. No tensor has more than twice that rank, a real one neither.

    That the generic complex rank is the smallest typical real one is a theorem of Blekherman and
    Teitler. Terracini's lemma gives no more: the rank of tangent spaces is the same over both
    fields, and tells whether real sums of so many contain an open set, not whether they are dense.
    All numbers between two typical ranks are typical (Bernardi, Blekherman and Ottaviani).

    References
    ----------
    Bernardi, A., Blekherman, G. and Ottaviani, G. (2018). On real typical ranks. Bollettino
    dell'Unione Matematica Italiana 11. Blekherman, G. and Teitler, Z. (2015). On maximum, typical
    and generic ranks. Mathematische Annalen 362.
    """
    sizes, powers = _checked(shape, degrees)
    ambient = _ambient(sizes, powers)
    rank = -(-ambient // (sum(sizes) - len(sizes) + 1))
    if len(sizes) == 1:
        while alexander_hirschowitz(sizes[0], powers[0], rank) < ambient:
            rank += 1
        return rank
    while not secant_dimension(sizes, rank, powers, seed=seed).filling:
        rank += 1
    return rank


def alexander_hirschowitz(variables: int, degree: int, rank: int) -> int:
    """Return the dimension of the sums of so many powers of linear forms, by the theorem.

    Parameters
    ----------
    variables : int
        Of the forms, n + 1.
    degree : int
        Of the powers.
    rank : int
        Number of powers.

    Returns
    -------
    int
        Of the variety, as an affine cone: ``rank * variables``, and no more than the ambient space;
        less for quadrics, and by one for (variables, degree, rank) = (3, 4, 5), (4, 4, 9),
        (5, 4, 14) and (5, 3, 7).

    Raises
    ------
    ValueError
        A number below one.

    References
    ----------
    Alexander, J. and Hirschowitz, A. (1995). Polynomial interpolation in several variables. Journal
    of Algebraic Geometry 4.
    """
    if min(variables, degree, rank) < 1:
        raise ValueError(
            f"variables, degree and rank must be at least 1, got {variables}, {degree} and {rank}"
        )
    if degree == 2:
        rank = min(rank, variables)
        return rank * variables - comb(rank, 2)
    expected = min(rank * variables, comb(variables - 1 + degree, degree))
    return expected - ((variables, degree, rank) in _ALEXANDER_HIRSCHOWITZ)


def _checked(
    shape: Sequence[int], degrees: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    sizes = tuple(int(size) for size in shape)
    powers = (1,) * len(sizes) if degrees is None else tuple(int(degree) for degree in degrees)
    if not sizes or len(sizes) != len(powers) or min(*sizes, *powers) < 1:
        raise ValueError(
            "shape must hold the size of each factor and degrees as many degrees, all at least 1; "
            f"got {sizes} and {powers}"
        )
    return sizes, powers


def _ambient(sizes: tuple[int, ...], powers: tuple[int, ...]) -> int:
    return prod(comb(n - 1 + d, d) for n, d in zip(sizes, powers, strict=True))


def _tangents(
    field: PrimeField, terms: list[Array], points: list[Array], powers: tuple[int, ...]
) -> Array:
    """Return the tangent vectors at terms, as multilinear forms at points: (rows, points).

    Without the factors that the powers bring down, which do not change the rank.
    """
    inner = [field.product(v, x.T) for v, x in zip(terms, points, strict=True)]
    blocks: list[Array] = []
    for mode, x in enumerate(points):
        others = np.ones_like(inner[0])
        for other, (values, degree) in enumerate(zip(inner, powers, strict=True)):
            others = field.times(others, field.power(values, degree - (other == mode)))
        blocks.append(field.times(others[:, None], x.T[None]).reshape(-1, len(x)))
    return np.concatenate(blocks)
