"""What a figure shows, in a sentence a curve: for its caption, and for those who cannot see it."""

from __future__ import annotations

import numpy as np

from geomprobe.auditing.notation import counted, number
from geomprobe.storage import Array

_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def subscript(dimension: int) -> str:
    """Write a homology dimension as in H₁."""
    return str(dimension).translate(_SUBSCRIPT)


def diagram(dimension: int, bars: Array, drawn: int) -> str:
    """Say how many bars of a dimension are drawn, and which is the longest."""
    name = f"H{subscript(dimension)}"
    if not len(bars):
        return f"{name}: no bars."
    words = f"{name}: {counted(drawn, 'bar')} drawn"
    if drawn < len(bars):
        words += f", the most persistent of {len(bars):,}"
    finite = bars[np.isfinite(bars[:, 1])]
    if len(finite):
        birth, death = finite[np.argmax(finite[:, 1] - finite[:, 0])]
        words += f"; the longest finite one from {number(birth)} to {number(death)}"
    return f"{words}."


def betti_curve(dimension: int, grid: Array, curve: Array) -> str:
    """Say where a Betti curve peaks."""
    name = f"β{subscript(dimension)}"
    if not np.isfinite(curve).any():
        return f"{name} is undefined."
    top = int(np.nanargmax(curve))
    if curve[top] == 0:
        return f"{name} is zero throughout."
    return f"{name} is at most {number(curve[top])}, first at scale {number(grid[top])}."


def spectrum(name: str, eigenvalues: Array) -> str:
    """Say how many eigenvalues are drawn (the others are NaN), and their range."""
    drawn = eigenvalues[np.isfinite(eigenvalues)]
    some = "" if len(drawn) == len(eigenvalues) else f"{len(drawn):,} of "
    words = f"{_capitalized(name)}: {some}{counted(len(eigenvalues), 'eigenvalue')}"
    if len(drawn):
        words += f", from {number(drawn.max())} down to {number(drawn.min())}"
    if len(drawn) < len(eigenvalues):
        words += "; the others are zero to the precision of the eigenvalue solver"
    return f"{words}."


def dimension_curve(name: str, n: Array, curve: Array) -> str:
    """Say where a curve of effective dimensions is smallest, and where it ends.

    It diverges at its beginning, so that its first value tells nothing.
    """
    known = np.flatnonzero(np.isfinite(n) & np.isfinite(curve))
    if not len(known):
        return f"{_capitalized(name)}: undefined."
    smallest = known[np.argmin(curve[known])]
    said = [f"{number(curve[at])} at n = {number(n[at])}" for at in (smallest, known[-1])]
    return f"{_capitalized(name)}: smallest {', then '.join(dict.fromkeys(said))}."


def _capitalized(name: str) -> str:
    return name[:1].upper() + name[1:]
