"""Functional correlation: neurons as points, near where their activations tell the same."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.topology.diagrams import Diagrams
from geomprobe.topology.rips import rips_persistence

_BYTES_A_PAIR = 24
# Relative to its norm, what rounding leaves of a constant that is taken from its mean.
_ROUNDING = 1e-7


class CorrelationDistances(NamedTuple):
    """Distances of neurons, and which neurons have them.

    Parameters
    ----------
    distances : array of shape (m, m)
        1 - ``|correlation|``: symmetric, from 0 to 1.
    neurons : int array of shape (m,)
        Columns that these are.
    constant : int array
        Columns left out, since a neuron that never changes has no correlation.
    """

    distances: Array
    neurons: Array
    constant: Array


def correlation_distances(A: Any) -> CorrelationDistances:
    """Return 1 - ``|Pearson correlation|`` of every two neurons of a layer.

    Parameters
    ----------
    A : array of shape (n, d)
        Activations of d neurons on n samples, at least 3.

    Raises
    ------
    ValueError
        Another shape or dtype, NaN or infinity.
    MemoryEstimateError
        The d^2 distances would not fit.

    Notes
    -----
    Neurons that are each other's affine image are at distance 0, independent ones near 1: nearer by
    about 0.8 / sqrt(n) by chance alone. It is no metric, since the triangle inequality may fail;
    Rips persistence needs none. O(n d^2) time.

    References
    ----------
    Corneanu, C. A., Escalera, S. and Martinez, A. M. (2020). Computing the testing error without a
    testing set. CVPR.
    """
    given = np.asarray(A)
    if given.ndim != 2 or len(given) < 3 or not given.shape[1] or given.dtype.kind not in "fiub":
        raise ValueError(
            "A must be a real array of shape (n, d), a row for each of 3 samples or more, got "
            f"shape {given.shape} and dtype {given.dtype}"
        )
    unusable = int((~np.isfinite(given)).any(axis=1).sum())
    if unusable:
        raise ValueError(f"{unusable} of {len(given)} rows hold NaN or infinity; leave them out")
    d = given.shape[1]
    require_memory(
        _BYTES_A_PAIR * d**2, f"The correlations of {d} neurons", "Take some of the neurons."
    )
    values = given.astype(np.float64)
    # In units of the largest of each neuron, so that no square overflows or vanishes.
    largest = np.abs(values).max(axis=0)
    values /= np.where(largest > 0, largest, 1)
    centred = values - values.mean(axis=0)
    norms = np.linalg.norm(centred, axis=0)
    varies = norms > _ROUNDING * np.linalg.norm(values, axis=0)
    unit = centred[:, varies] / norms[varies]
    distances = 1 - np.minimum(np.abs(unit.T @ unit), 1)
    distances = np.minimum(distances, distances.T)
    np.fill_diagonal(distances, 0)
    return CorrelationDistances(distances, np.flatnonzero(varies), np.flatnonzero(~varies))


def correlation_persistence(A: Any, max_dim: int = 1, **options: Any) -> Diagrams:
    """Return the Rips persistence diagrams of the neurons of a layer by functional correlation.

    H0 tells how neurons group: bars that die early join neurons that tell the same. A long bar of
    H1 is a ring of groups, each correlated with its neighbours alone.

    Parameters
    ----------
    A : array of shape (n, d)
        As for :func:`correlation_distances`; constant neurons are left out, so that
        ``Diagrams.n_points`` is the number of the others.
    max_dim : int
        Largest homology dimension.
    **options
        Further options of :func:`~geomprobe.topology.rips_persistence`.

    Raises
    ------
    ValueError
        Fewer than two neurons vary, or all are each other's affine images.
    """
    distances, neurons, constant = correlation_distances(A)
    if len(neurons) < 2:
        raise ValueError(
            f"{len(constant)} of {len(constant) + len(neurons)} neurons are constant, and "
            "homology needs two that vary"
        )
    return rips_persistence(distances, max_dim, metric="precomputed", **options)
