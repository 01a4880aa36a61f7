"""Tropical polynomials: the largest of some affine functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING

import numpy as np

from geomprobe.storage import Array
from geomprobe.tropical.hypersurface import hypersurface_segments
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

    Raises
    ------
    ValueError
        Arrays of other shapes, without monomials or variables, or not finite.
    """

    slopes: Array
    constants: Array

    def __post_init__(self) -> None:
        slopes, constants = (np.asarray(a, np.float64) for a in (self.slopes, self.constants))
        if slopes.ndim != 2 or not slopes.size or constants.shape != slopes.shape[:1]:
            raise ValueError(
                "slopes must have shape (m, d) and constants (m,), with one monomial and one "
                f"variable or more; got {slopes.shape} and {constants.shape}"
            )
        if not (np.isfinite(slopes).all() and np.isfinite(constants).all()):
            raise ValueError("slopes or constants hold NaN or infinity")
        object.__setattr__(self, "slopes", slopes)
        object.__setattr__(self, "constants", constants)

    def __len__(self) -> int:
        """Return the number of monomials."""
        return len(self.constants)

    def __call__(self, x: Array) -> Array:
        """Return the values at points (n, d), of shape (n,)."""
        points, d = np.asarray(x), self.slopes.shape[1]
        if points.ndim != 2 or points.shape[1] != d:
            raise ValueError(f"points must have shape (n, {d}), got {points.shape}")
        heights: Array = (points @ self.slopes.T + self.constants).max(axis=1)
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

    def hypersurface(self, box: tuple[float, float] = (-1.0, 1.0)) -> tuple[Array, Array]:
        """Return the tropical hypersurface of a polynomial in two variables, exactly.

        Parameters
        ----------
        box : pair of float
            Least and largest value of both variables.

        Returns
        -------
        ends : float64 array of shape (n, 2, 2)
            Both ends of each segment within the box.
        pairs : int array of shape (n, 2)
            Which two monomials are the largest there.

        Raises
        ------
        ValueError
            Another number of variables, or an empty box.
        """
        if self.slopes.shape[1] != 2:
            raise ValueError(f"a picture takes 2 variables, and there are {self.slopes.shape[1]}")
        low, high = (np.full(2, float(side)) for side in box)
        if not (np.isfinite([low, high]).all() and (low < high).all()):
            raise ValueError(f"box must be a finite range of numbers, low < high, got {box}")
        kept = self._essential[0]
        ends, pairs = hypersurface_segments(self.slopes[kept], self.constants[kept], low, high)
        return ends, kept[pairs]

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
            What :meth:`hypersurface` refuses.
        """
        ends, _ = self.hypersurface(box)
        import matplotlib.pyplot as plt
        from matplotlib.collections import LineCollection

        axes = plt.subplots()[1] if ax is None else ax
        axes.add_collection(LineCollection(list(ends), colors="0.2", linewidths=1))
        axes.set(xlim=box, ylim=box, aspect="equal")
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
