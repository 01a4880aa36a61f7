"""Persistence diagrams, their sums and their distances as functions that torch differentiates.

A bar is born and dies with an edge each, and those edges stay the same while points move a little.
So the edges are found without a gradient, and their lengths are taken with one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomprobe.storage import Array
from geomprobe.topology import distances
from geomprobe.topology.diagrams import as_bars
from geomprobe.topology.rips import rips_persistence

__all__ = ["bottleneck_distance", "diagrams", "total_persistence", "wasserstein_distance"]


def diagrams(
    X: Tensor, max_dim: int = 1, *, metric: str = "euclidean", **options: Any
) -> tuple[Tensor, ...]:
    """Compute Vietoris-Rips persistence diagrams through which gradients flow to the points.

    Parameters
    ----------
    X : tensor of shape (n, d), or (n, n) with ``metric="precomputed"``
        Points, or their distances, in floating point and on any device.
    max_dim : int
        Largest homology dimension.
    metric : {"euclidean", "precomputed"}
        Other distances can be computed with torch, and passed as precomputed.
    **options
        ``threshold``, ``coeff``, ``engine``, ``n_jobs``, ``time_limit`` and ``memory_limit`` of
        :func:`~geomprobe.topology.rips_persistence`.

    Returns
    -------
    tuple of tensors of shape (m, 2)
        Births and deaths in dimension 0, 1, ..., on the device of X, in its dtype, or in float32
        if that is narrower. Births in H0 and deaths that never come are constants.

    Raises
    ------
    TypeError
        X is no tensor of floating point.
    ValueError
        Another metric, and what ``rips_persistence`` refuses.

    Notes
    -----
    Which edges give birth and death is found in float64 on the CPU, in O(n^2) memory. Where several
    edges are equally long a diagram has no gradient but many one-sided ones, and this is one of
    them.

    References
    ----------
    Gameiro, M., Hiraoka, Y. and Obayashi, I. (2016). Continuation of point clouds via persistence
    diagrams. Physica D 334. Carrière, M., Chazal, F., Glisse, M., Ike, Y., Kannan, H. and Umeda, Y.
    (2021). Optimizing persistent homology based functions. ICML.
    """
    if not isinstance(X, Tensor) or not X.is_floating_point():
        given = f"a tensor of {X.dtype}" if isinstance(X, Tensor) else type(X).__name__
        raise TypeError(f"X must be a tensor of floating point, got {given}")
    if metric not in ("euclidean", "precomputed"):
        raise ValueError(
            f"metric must be 'euclidean' or 'precomputed', got {metric!r}; compute other distances "
            "with torch and pass them as precomputed"
        )
    found = rips_persistence(
        X.detach().cpu().to(torch.float64).numpy(),
        max_dim,
        metric=metric,
        return_edges=True,
        **options,
    )
    if X.dtype in (torch.float16, torch.bfloat16):
        X = X.float()
    edges = found.critical_edges or ()
    return tuple(
        torch.stack(
            [_lengths(X, metric, ends[:, :2], 0.0), _lengths(X, metric, ends[:, 2:], np.inf)], dim=1
        )
        for ends in edges
    )


def total_persistence(
    X: Tensor, dim: int = 0, alpha: float = 1.0, *, metric: str = "euclidean", **options: Any
) -> Tensor:
    """Add up the lengths of the bars of one dimension that die, each to the power alpha.

    In dimension 0 this is E_alpha: the sum of the edges of a minimum spanning tree, each to the
    power alpha, of which the PH dimension is made.

    Parameters
    ----------
    X, metric, **options
        As for :func:`diagrams`.
    dim : int
        Homology dimension.
    alpha : float
        Positive. Below 1, the gradient of a bar grows without bound as the bar gets shorter.

    Returns
    -------
    tensor of shape ()

    References
    ----------
    Birdal, T., Lou, A., Guibas, L. and Simsekli, U. (2021). Intrinsic dimension, persistent
    homology and generalization in neural networks. NeurIPS.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    births, deaths = diagrams(X, dim, metric=metric, **options)[dim].T
    dies = torch.isfinite(deaths)
    total: Tensor = ((deaths[dies] - births[dies]) ** alpha).sum()
    return total


def wasserstein_distance(
    dgm1: Any, dgm2: Any, order: float = 2.0, *, ground_norm: float = np.inf
) -> Tensor:
    """Return the Wasserstein distance of two diagrams, either of which may carry a gradient.

    Parameters
    ----------
    dgm1, dgm2 : tensors or arrays of shape (n, 2)
        Bars that never die are matched with each other, in the order of their births.
    order, ground_norm : float
        As for :func:`geomprobe.topology.wasserstein_distance`, with a finite order.

    Returns
    -------
    tensor of shape ()
        Infinite where the diagrams do not have as many infinite bars.

    Notes
    -----
    The bars are matched without a gradient, in O(n^3) time, and how far they move is computed with
    one. Where the diagrams are equal, the gradient is 0.
    """
    first, second = _together(dgm1, dgm2)
    pairs, alone, alone_in_second = distances.matching(
        _values(first), _values(second), order, ground_norm=ground_norm
    )
    left = torch.cat([first[alone], second[alone_in_second]])
    moved = torch.cat(
        [
            torch.linalg.vector_norm(
                first[pairs[:, 0]] - second[pairs[:, 1]], ord=ground_norm, dim=1
            ),
            (left[:, 1] - left[:, 0]) * 2.0 ** (1 / ground_norm - 1),
            _gaps(first, second),
        ]
    )
    distance: Tensor = torch.linalg.vector_norm(moved, ord=order)
    return distance


def bottleneck_distance(dgm1: Any, dgm2: Any) -> Tensor:
    """Return the bottleneck distance of two diagrams, either of which may carry a gradient.

    Parameters
    ----------
    dgm1, dgm2 : tensors or arrays of shape (n, 2)
        Bars that never die are matched with each other, in the order of their births.

    Returns
    -------
    tensor of shape ()
        Infinite where the diagrams do not have as many infinite bars.

    Notes
    -----
    The distance is always the difference of two births or of two deaths, or half the length of a
    bar, and it has the gradient of that one number: two bars at most feel it.
    """
    first, second = _together(dgm1, dgm2)
    gaps = _gaps(first, second)
    if torch.isinf(gaps).any():
        return gaps.sum()
    one, other = (dgm[torch.isfinite(dgm[:, 1])] for dgm in (first, second))
    value = distances.bottleneck_distance(_values(first), _values(second))
    candidates = torch.cat(
        [
            gaps,
            (one[:, None] - other[None]).abs().flatten(),
            (one[:, 1] - one[:, 0]) / 2,
            (other[:, 1] - other[:, 0]) / 2,
            first.new_zeros(1),
        ]
    )
    return candidates[(candidates.detach() - value).abs().argmin()]


def _lengths(X: Tensor, metric: str, ends: Array, otherwise: float) -> Tensor:
    """Return the distance of each pair of points; a constant where there is no pair."""
    there = torch.from_numpy(ends[:, 0] >= 0).to(X.device)
    i, j = torch.from_numpy(ends[ends[:, 0] >= 0]).to(X.device).T
    lengths = X.new_full((len(ends),), otherwise)
    if metric == "precomputed":
        return lengths.masked_scatter(there, (X[i, j] + X[j, i]) / 2)
    return lengths.masked_scatter(there, torch.linalg.vector_norm(X[i] - X[j], dim=1))


def _together(dgm1: Any, dgm2: Any) -> tuple[Tensor, Tensor]:
    """Return both diagrams as tensors on one device, in the wider dtype of the given tensors."""
    given = [dgm for dgm in (dgm1, dgm2) if isinstance(dgm, Tensor)]
    if not given:
        raise TypeError(
            "neither diagram is a tensor, and of arrays geomprobe.topology has the distances"
        )
    dtype = torch.promote_types(given[0].dtype, given[-1].dtype)
    first, second = (
        dgm if isinstance(dgm, Tensor) else torch.from_numpy(as_bars(dgm)) for dgm in (dgm1, dgm2)
    )
    return first.to(given[0].device, dtype), second.to(given[0].device, dtype)


def _values(dgm: Tensor) -> Array:
    return as_bars(dgm.detach().cpu().to(torch.float64).numpy())


def _gaps(first: Tensor, second: Tensor) -> Tensor:
    """Return by how much the births of the bars that never die differ; infinity if they must."""
    births, others = (dgm[torch.isinf(dgm[:, 1]), 0].sort().values for dgm in (first, second))
    if len(births) != len(others):
        return first.new_full((1,), np.inf)
    return (births - others).abs()
