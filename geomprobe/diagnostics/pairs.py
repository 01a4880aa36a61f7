"""Pairs of models, the atoms of every rank score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geomprobe.storage import Array


@dataclass(frozen=True)
class Neighbours:
    """Pairs of cells that differ in one hyper-parameter only.

    Parameters
    ----------
    first, second : ndarray of int, shape (n_pairs,)
        Rows of the two.
    axis : ndarray of int, shape (n_pairs,)
        The hyper-parameter in which they differ.
    group : ndarray of int, shape (n_pairs,)
        The pair's granule: the models that differ in that hyper-parameter only.
    """

    first: Array
    second: Array
    axis: Array
    group: Array


def neighbours(levels: Array) -> Neighbours:
    """Find all pairs of rows that differ in one column only.

    Parameters
    ----------
    levels : ndarray of int, shape (n, n_axes)
        One row a cell.

    Notes
    -----
    O(n^2 n_axes) time and O(n^2) memory.
    """
    levels = levels.astype(np.int64)
    first, second = np.triu_indices(len(levels), k=1)
    differ = levels[first] != levels[second]
    close = differ.sum(axis=1) == 1
    first, second, axis = first[close], second[close], differ[close].argmax(axis=1)
    granule = levels[first]
    granule[np.arange(len(axis)), axis] = -1  # A row with one entry blanked names the granule.
    group = np.unique(granule, axis=0, return_inverse=True)[1].reshape(-1)
    return Neighbours(first, second, axis, group)


def require_numbers(measure: Array, gap: Array) -> None:
    """Refuse NaN, which has no place in an order."""
    unknown = int((np.isnan(measure) | np.isnan(gap)).sum())
    if unknown:
        raise ValueError(f"{unknown} of {len(gap)} models have a NaN: leave them out")


def sign_products(measure: Array, gap: Array, first: Array, second: Array) -> Array:
    """Return +1 for pairs that both order alike, -1 unlike, 0 where either has a tie."""
    signs: Array = np.sign(measure[first] - measure[second]) * np.sign(gap[first] - gap[second])
    return signs
