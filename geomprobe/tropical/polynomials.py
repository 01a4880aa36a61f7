"""Tropical polynomials: the largest of some affine functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING

import numpy as np

from geomprobe.storage import Array
from geomprobe.tropical.redundancy import essential_terms
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class TooManyTerms(ValueError):
    """A tropical polynomial would get more terms than it may have."""


@dataclass(frozen=True, eq=False)
class TropicalPolynomial(ByValue):
    r"""The convex function :math:`\max_i (a_i \cdot x + c_i)`, with real exponents :math:`a_i`.

    Parameters
    ----------
    slopes : float64 array of shape (m, d)
        The exponents: one row a monomial.
    constants : float64 array of shape (m,)
        The coefficients.
    """

    slopes: Array
    constants: Array

    def __len__(self) -> int:
        """Return the number of monomials."""
        return len(self.constants)

    def __call__(self, x: Array) -> Array:
        """Return the values at points (n, d), of shape (n,)."""
        heights: Array = (np.asarray(x) @ self.slopes.T + self.constants).max(axis=1)
        return heights

    def reduced(self) -> TropicalPolynomial:
        """Return the same function by the monomials that are the only largest one somewhere."""
        if len(self) == 1:
            return self
        kept, _ = self._essential
        return TropicalPolynomial(self.slopes[kept], self.constants[kept])

    @property
    def vertices(self) -> Array:
        """Vertices of the tropical hypersurface, (n, d).

        Where the exponents span more than 5 dimensions, a point inside each cell instead.
        """
        return self._essential[1]

    @cached_property
    def _essential(self) -> tuple[Array, Array]:
        return essential_terms(self.slopes, self.constants)

    def newton_polytope(self) -> Array:
        """Return the vertices of the convex hull of the exponents, of shape (v, d).

        They are the monomials whose cells are unbounded.
        """
        kept, _ = essential_terms(self.slopes, np.zeros(len(self)))
        vertices: Array = self.slopes[kept]
        return vertices

    def plot(self, box: tuple[float, float] = (-1.0, 1.0), ax: Axes | None = None) -> Axes:
        """Draw the tropical hypersurface of a polynomial in two variables, and return the Axes.

        Raises
        ------
        ValueError
            Another number of variables.
        """
        if self.slopes.shape[1] != 2:
            raise ValueError(f"a picture takes 2 variables, and there are {self.slopes.shape[1]}")
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        grid = np.linspace(*box, 400)
        points = np.stack(np.meshgrid(grid, grid), axis=2).reshape(-1, 2)
        largest = (points @ self.slopes.T + self.constants).argmax(axis=1).reshape(400, 400)
        edges = np.zeros(largest.shape, dtype=bool)
        edges[:, 1:] |= largest[:, 1:] != largest[:, :-1]
        edges[1:] |= largest[1:] != largest[:-1]
        axes.imshow(edges, origin="lower", extent=(*box, *box), cmap="Greys")
        axes.set(title=f"tropical hypersurface of {len(self.reduced())} monomials")
        return axes


def monomial(slope: Array, constant: float) -> TropicalPolynomial:
    """Return an affine function."""
    return TropicalPolynomial(np.asarray(slope, dtype=np.float64)[None], np.array([constant]))


def scaled(polynomial: TropicalPolynomial, factor: float) -> TropicalPolynomial:
    """Return a power: a multiple of the function; a negative one only of a monomial."""
    if factor == 1:
        return polynomial
    assert factor >= 0 or len(polynomial) == 1
    return TropicalPolynomial(factor * polynomial.slopes, factor * polynomial.constants)


def product(polynomials: Iterable[TropicalPolynomial], max_terms: int) -> TropicalPolynomial:
    """Return the tropical product, the sum of the functions, reduced.

    Raises
    ------
    TooManyTerms
        A sum of two has more monomials than ``max_terms`` before it is reduced.
    """

    def one_more(p: TropicalPolynomial, q: TropicalPolynomial) -> TropicalPolynomial:
        if len(p) * len(q) > max_terms:
            raise TooManyTerms(len(p) * len(q))
        slopes = (p.slopes[:, None] + q.slopes).reshape(-1, p.slopes.shape[1])
        both = TropicalPolynomial(slopes, np.add.outer(p.constants, q.constants).ravel())
        # A monomial only shifts what is reduced already.
        return both if 1 in (len(p), len(q)) else both.reduced()

    return reduce(one_more, sorted(polynomials, key=len))


def largest(polynomials: Iterable[TropicalPolynomial]) -> TropicalPolynomial:
    """Return the tropical sum, the largest of the functions, reduced."""
    parts = list(polynomials)
    return TropicalPolynomial(
        np.concatenate([part.slopes for part in parts]),
        np.concatenate([part.constants for part in parts]),
    ).reduced()
