"""Where implicit bias leads linear models: the largest margin, and the smallest norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from geomprobe.evidence import Samples, forward, require_samples
from geomprobe.hooks import quiet
from geomprobe.jacobians import every_output, jacobian_products, row_bytes, trainable_parameters
from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.values import ByValue


@dataclass(frozen=True, eq=False)
class MaxMargin(ByValue):
    """The linear classifier of the largest margin; made by :func:`max_margin`.

    Parameters
    ----------
    weights : array of shape (d,) or (C, d)
        With smallest margin 1, and the smallest norm of all that have it.
    margin : float
        The largest normalised margin, one over the norm of the weights.
    support : int array
        Samples whose margin is the smallest.
    """

    weights: Array
    margin: float
    support: Array

    def angle(self, weights: Any) -> float:
        """Return the degrees between other weights of this shape and these."""
        return _degrees(_numpy(weights), self.weights)


def max_margin(features: Any, targets: Any) -> MaxMargin:
    r"""Return the hard-margin support vector machine through the origin.

    .. math::
        \min_w \lVert w \rVert^2 \quad \text{with} \quad
        (w_{y_n} - w_j) \cdot x_n \ge 1 \ \text{for all } n \text{ and } j \ne y_n

    and :math:`y_n\, w \cdot x_n \ge 1` for two classes.

    Parameters
    ----------
    features : array or Tensor of shape (N, d)
        With a column of ones if the model has a bias, which gradient descent treats as a weight.
    targets : array or Tensor of shape (N,)
        Class numbers: for 0 and 1, or -1 and 1, there is one vector of weights, for more one a
        class.

    Returns
    -------
    MaxMargin
        To which the direction of gradient descent on the logistic or the cross-entropy loss of a
        linear model tends, with an angle that falls as 1/log t only.

    Raises
    ------
    ValueError
        Shapes that do not fit, numbers that are not finite, one class only, classes that no linear
        classifier separates, or ones whose margin is below 1e-5 of the largest norm, which rounding
        hides: centred or scaled features have a larger one.

    Notes
    -----
    A least distance problem, solved by non-negative least squares to rounding, in which the margins
    are the constraints: no penalty has to be chosen. O(N C) active constraints at worst; for some
    thousand samples.

    References
    ----------
    Lawson, C. L. and Hanson, R. J. (1974). Solving Least Squares Problems, chapter 23. Soudry et
    al. (2018), theorems 3 and 7.
    """
    from scipy.optimize import nnls

    x, labels = _numpy(features), np.asarray(_numpy(targets))
    if x.ndim != 2 or labels.shape != (len(x),) or not len(x):
        raise ValueError(
            f"features must be of shape (N, d) and targets (N,), got {x.shape} and {labels.shape}"
        )
    if not np.isfinite(x).all():
        raise ValueError("features must be finite")
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(f"there must be two classes or more, got {classes.tolist()}")
    if len(classes) == 2 and classes.tolist() in ([0, 1], [-1, 1]):
        rows, of = np.where(labels > 0, 1.0, -1.0)[:, None] * x, np.arange(len(x))
        shape: tuple[int, ...] = (x.shape[1],)
    else:
        if not np.array_equal(labels, labels.astype(int)) or classes.min() < 0:
            raise ValueError(f"targets must be class numbers from 0 on, got {classes[:10]}")
        count = int(classes.max()) + 1
        shape = (count, x.shape[1])
        pairs = [(n, j) for n, y in enumerate(labels) for j in range(count) if j != y]
        of = np.array([n for n, _ in pairs])
        rows = np.zeros((len(pairs), *shape))
        for row, (n, j) in zip(rows, pairs, strict=True):
            row[int(labels[n])], row[j] = x[n], -x[n]
        rows = rows.reshape(len(pairs), -1)
    scale = float(np.linalg.norm(rows, axis=1).max()) or 1.0
    system = np.vstack([rows.T / scale, np.ones(len(rows))])
    right = np.zeros(len(system))
    right[-1] = 1
    solution, distance = nnls(system, right, maxiter=30 * len(rows))
    left = system @ solution - right
    if not distance**2 > 1e-10 or not left[-1] < 0:
        if _separable(rows / scale):
            raise ValueError(
                "a linear classifier separates these classes, but its margin is below 1e-5 of the "
                "largest feature norm: centre or rescale the features"
            )
        raise ValueError(
            "no linear classifier through the origin separates these classes; give features with a "
            "column of ones, if the model has a bias, or more of them"
        )
    weights = left[:-1] / -left[-1] / scale
    values = rows @ weights
    support = np.unique(of[values < 1 + 1e-6])
    return MaxMargin(weights.reshape(shape), float(1 / np.linalg.norm(weights)), support)


def _separable(rows: Array) -> bool:
    """Tell whether some vector has positive products with all rows, by linear programming."""
    from scipy.optimize import linprog

    ones = np.ones(len(rows))
    found = linprog(np.zeros(rows.shape[1]), A_ub=-rows, b_ub=-ones, bounds=(None, None))
    return found.x is not None and bool((rows @ found.x > 0.5).all())


def minimum_norm(features: Any, targets: Any, *, start: Any = None) -> Array:
    r"""Return the weights nearest to a start that fit targets best in a linear model.

    .. math::
        w = w_0 + X^+ (y - X w_0)

    Parameters
    ----------
    features : array or Tensor of shape (N, d)
        Or those of the tangent model, :func:`tangent_features`.
    targets : array or Tensor of shape (N,) or (N, C)
        For features of the tangent model less the outputs at the start.
    start : array or Tensor of shape (d,) or (d, C), optional
        :math:`w_0`; by default zero.

    Returns
    -------
    array of shape (d,) or (d, C)
        Where gradient descent on the squared error ends, from that start and with steps small
        enough.

    Raises
    ------
    ValueError
        Shapes that do not fit or numbers that are not finite.

    References
    ----------
    Gunasekar, S., Lee, J., Soudry, D. and Srebro, N. (2018). Characterizing implicit bias in terms
    of optimization geometry. ICML, section 2.
    """
    x, y = _numpy(features), _numpy(targets)
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise ValueError(f"features and targets of shapes {x.shape} and {y.shape} do not fit")
    w = np.zeros((x.shape[1], *y.shape[1:])) if start is None else _numpy(start)
    if w.shape != (x.shape[1], *y.shape[1:]):
        raise ValueError(f"start must have shape {(x.shape[1], *y.shape[1:])}, got {w.shape}")
    if not all(np.isfinite(one).all() for one in (x, y, w)):
        raise ValueError("features, targets and start must be finite")
    found: Array = w + np.linalg.lstsq(x, y - x @ w, rcond=None)[0]
    return found


def tangent_features(model: nn.Module, data: Samples, *, batch_size: int = 64) -> Array:
    """Return the Jacobian of a model's outputs by its parameters: features of its tangent model.

    Parameters
    ----------
    model : torch.nn.Module
        Looked at in evaluation mode, with outputs of shape (N, C) or (N,).
    data : Samples
    batch_size : int

    Returns
    -------
    array of shape (N * C, P)
        Rows of a sample one after another. Their products are the neural tangent kernel, so that
        :func:`minimum_norm` of them is kernel regression.

    Raises
    ------
    ValueError
        No samples, or outputs of a sample that depend on the others.
    TypeError
        Data that are no samples of tensors.
    MemoryEstimateError
        The rows do not fit.
    """
    require_samples(data)
    parameters = trainable_parameters(model)
    data = data.to(next(iter(parameters.values())).device)
    with quiet(model), torch.enable_grad():
        with torch.no_grad():
            outputs = forward(model, data.inputs)
        each = outputs[0].numel()
        require_memory(
            2 * len(data) * each * row_bytes(parameters),
            f"the Jacobian of {each} outputs of {len(data)} samples",
            "Give fewer samples, or a smaller model.",
        )
        vectors = every_output(outputs)
        rows, _ = jacobian_products(model, parameters, data, outputs, vectors, batch_size)
    found: Array = rows.double().cpu().numpy()
    return found


def _numpy(values: Any) -> Array:
    array: Array = torch.as_tensor(values).detach().cpu().double().numpy()
    return array


def _degrees(a: Array, b: Array) -> float:
    if a.shape != b.shape:
        raise ValueError(f"weights must have shape {b.shape}, got {a.shape}")
    cosine = float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
