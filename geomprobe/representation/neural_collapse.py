"""Neural collapse: how near features of classes are to the corners of a simplex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.points import as_points
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array

_NO_CLASSIFIER = "no classifier was given: weights of shape (C, d)"
_TWO_CLASSES = "two class means are equally far from their centre and opposite, whatever they are"


@dataclass(frozen=True)
class NeuralCollapse:
    """The four properties of neural collapse; each number is 0 where it is complete.

    Parameters
    ----------
    within_class : Estimate
        NC1: variance within classes over that between them, Tr(S_W S_B^+) / C.
    equinorm : Estimate
        NC2: standard deviation of the norms of the centred class means, over their mean.
    equiangularity : Estimate
        NC2: standard deviation of the cosines between centred class means.
    maximal_angle : Estimate
        NC2: mean distance of these cosines from -1 / (C - 1), the least that all could have.
    self_duality : Estimate
        NC3: squared distance of the classifier's weights to the centred class means, both of norm
        1.
    disagreement : Estimate
        NC4: share of the samples for which the classifier does not choose the nearest class mean.
    """

    within_class: Estimate
    equinorm: Estimate
    equiangularity: Estimate
    maximal_angle: Estimate
    self_duality: Estimate
    disagreement: Estimate


def neural_collapse(
    X: Any, labels: Any, *, weights: Any = None, bias: Any = None, seed: int = 0
) -> NeuralCollapse:
    """Measure neural collapse of the features that a classifier's last layer sees.

    Parameters
    ----------
    X : array of shape (n, d)
        Features.
    labels : int array of shape (n,)
        Class of each; at least two classes, of at least two samples each.
    weights : array of shape (C, d), optional
        Of the last layer, a row for each class in the order of their numbers; for NC3 and NC4.
    bias : array of shape (C,), optional
    seed : int
        Seed of the halves of the delete-half jackknife.

    Returns
    -------
    NeuralCollapse
        NC2 is NaN for two classes, whose means are a simplex whatever they are; NC3 and NC4 where
        no weights are given.

    Raises
    ------
    ValueError
        Labels or weights that do not fit, fewer than two classes, or a class of a single sample.

    Notes
    -----
    The centre is the mean of the class means, so that classes of different sizes count alike.
    Training samples collapse where test samples need not (Hui et al. 2022): say which they are.

    References
    ----------
    Papyan, V., Han, X. Y. and Donoho, D. L. (2020). Prevalence of neural collapse during the
    terminal phase of deep learning training. PNAS 117. Hui, L., Belkin, M. and Nakkiran, P. (2022).
    Limitations of neural collapse for understanding generalization in deep learning.
    arXiv:2202.08384.
    """
    points = as_points(X)
    given = np.asarray(labels)
    if given.shape != (len(points),):
        raise ValueError(f"labels must have shape ({len(points)},), one a point, got {given.shape}")
    classes, which = np.unique(given, return_inverse=True)
    counts = np.bincount(which)
    if len(classes) < 2 or counts.min() < 2:
        raise ValueError(
            "neural collapse needs two classes or more, of two samples or more each; got "
            f"{len(classes)} classes, the smallest of {counts.min()}"
        )
    head = None if weights is None else _head(weights, bias, len(classes), points.shape[1])

    def measure(rows: Array) -> Array:
        if len(np.unique(which[rows])) < len(classes):
            return np.full(6, np.nan)
        return _measure(points[rows], which[rows], head)

    values = measure(np.arange(len(points)))
    errors = delete_half_stderr(measure, len(points), seed=seed)
    reasons = ("", *3 * (_TWO_CLASSES,), *2 * (_NO_CLASSIFIER,))
    estimates = [
        Estimate.undefined(reason, n=len(points))
        if np.isnan(value)
        else Estimate(value, error, n=len(points), method="delete-half jackknife")
        for value, error, reason in zip(values, errors, reasons, strict=True)
    ]
    return NeuralCollapse(*estimates)


def _head(weights: Any, bias: Any, n_classes: int, width: int) -> tuple[Array, Array]:
    matrix = np.asarray(weights, dtype=np.float64)
    offset = np.zeros(n_classes) if bias is None else np.asarray(bias, dtype=np.float64)
    if matrix.shape != (n_classes, width) or offset.shape != (n_classes,):
        raise ValueError(
            f"weights must have shape ({n_classes}, {width}) and bias ({n_classes},), for the "
            f"classes among the labels, got {matrix.shape} and {offset.shape}"
        )
    return matrix, offset


def _measure(points: Array, which: Array, head: tuple[Array, Array] | None) -> Array:
    n_classes = int(which.max()) + 1
    sums = np.zeros((n_classes, points.shape[1]))
    np.add.at(sums, which, points)
    means = sums / np.bincount(which)[:, None]
    centre = means.mean(axis=0)
    centred = means - centre

    # S_B = V S^2 V^T / C: its inverse where it has one.
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    # Of rank C - 1 at most; rounding is of the size of the means before they were centred.
    size = max(float(singular[0]), float(np.linalg.norm(means, axis=1).max()))
    kept = singular > max(centred.shape) * np.finfo(np.float64).eps * size
    kept[n_classes - 1 :] = False
    whitened = (points - means[which]) @ (directions[kept].T / singular[kept])
    within = float((whitened**2).sum() / len(points))

    norms = np.linalg.norm(centred, axis=1)
    cosines = (centred @ centred.T / np.outer(norms, norms))[np.triu_indices(n_classes, 1)]
    shape = [
        norms.std() / norms.mean(),
        cosines.std(),
        np.abs(cosines + 1 / (n_classes - 1)).mean(),
    ]
    found = [within, *(shape if n_classes > 2 else 3 * [np.nan])]
    if head is None:
        return np.array([*found, np.nan, np.nan])
    weights, bias = head
    gap = weights / np.linalg.norm(weights) - centred / np.linalg.norm(centred)
    chosen = (points @ weights.T + bias).argmax(axis=1)
    # |x - m|^2 less |x|^2.
    nearest = ((means**2).sum(axis=1) - 2 * points @ means.T).argmin(axis=1)
    return np.array([*found, (gap**2).sum(), (chosen != nearest).mean()])
