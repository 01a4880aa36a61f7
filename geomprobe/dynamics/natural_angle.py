"""How far an update of the parameters points from the natural gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geomprobe.dynamics.output_metric import (
    Metric,
    function_of,
    lowered,
    pulled,
    pushed,
    require_metric,
)
from geomprobe.evidence import Loss, Samples, require_samples
from geomprobe.hooks import quiet
from geomprobe.jacobians import flat, split, trainable_parameters


@dataclass(frozen=True)
class NaturalAngle:
    """Angles of an update with steepest descents; made by :func:`natural_angle`.

    Parameters
    ----------
    to_natural, to_gradient : float
        Degrees between the update and the negative natural gradient, and the negative gradient.
    between : float
        Degrees between these two.
    residual : float
        Of the linear system, relative to the gradient.
    iterations : int
        Of conjugate gradients.
    damping : float
    """

    to_natural: float
    to_gradient: float
    between: float
    residual: float
    iterations: int
    damping: float


def natural_angle(
    model: nn.Module,
    data: Samples,
    update: Tensor,
    *,
    loss: Loss,
    metric: Metric = "softmax",
    damping: float = 1e-3,
    tolerance: float = 1e-4,
    max_iterations: int = 200,
) -> NaturalAngle:
    r"""Return the angle of an update with the damped natural gradient.

    .. math::
        \cos \alpha = \frac{-\langle u, v \rangle}{\lVert u \rVert \lVert v \rVert}, \qquad
        (F + \lambda I)\, v = \nabla L

    Parameters
    ----------
    model : torch.nn.Module
        At the parameters that the update starts from. Looked at in evaluation mode.
    data : Samples
        Inputs and targets, in one pass.
    update : Tensor of shape (P,)
        Change of all trainable parameters, in the model's order.
    loss : callable
        ``loss(outputs, targets)``, the mean over samples.
    metric : {"softmax", "euclidean"} or likelihood
        As of :func:`~geomprobe.dynamics.natural_length`.
    damping : float
        :math:`\lambda`, absolute; the angle depends on it: the larger it is, the nearer the natural
        gradient is to the gradient.
    tolerance : float
        Relative residual at which conjugate gradients end.
    max_iterations : int

    Returns
    -------
    NaturalAngle
        With the residual that was reached; above the tolerance the iterations were too few.

    Raises
    ------
    ValueError
        No samples or targets, a softmax of one logit, an update of another size, not finite or
        zero, a gradient or a Fisher information that is not finite, a gradient of zero, or damping
        that is not positive.
    TypeError
        As of :func:`~geomprobe.dynamics.natural_length`.

    Notes
    -----
    A product with F takes a forward-mode and a reverse-mode product; no matrix is formed. Angles
    are Euclidean, so that they change with the parametrisation as the gradient does.

    References
    ----------
    Amari, S. (1998). Natural gradient works efficiently in learning. Neural Computation 10. For
    conjugate gradients: Martens, J. (2010). Deep learning via Hessian-free optimization. ICML.
    """
    require_metric(metric)
    require_samples(data, targets=True)
    if not 0 < damping < math.inf:
        raise ValueError(f"damping must be positive and finite, got {damping}")
    parameters = trainable_parameters(model)
    size = sum(value.numel() for value in parameters.values())
    if update.shape != (size,) or not bool(torch.isfinite(update).all()) or not bool(update.any()):
        raise ValueError(
            f"the update must be a finite vector of the {size} trainable parameters that is not "
            f"zero, got shape {tuple(update.shape)}"
        )
    data = data.to(next(iter(parameters.values())).device)
    with quiet(model):
        with torch.no_grad():
            outputs = function_of(model, data)(parameters)
        leaf = outputs.detach().requires_grad_()
        with torch.enable_grad():
            value = loss(leaf, data.targets)
        (slope,) = torch.autograd.grad(value, leaf)
        gradient = flat(pulled(model, data, parameters, slope))
        if not bool(torch.isfinite(gradient).all()):
            raise ValueError("the gradient is not finite here, and no direction is steepest")
        if not bool(gradient.any()):
            raise ValueError("the gradient is zero here, and no direction is steepest")
        gradient = gradient / gradient.abs().max()  # Its length is no matter; squares stay finite.

        def product(vector: Tensor) -> Tensor:
            seen, moved = pushed(model, data, parameters, split(vector, parameters))
            curved = lowered(metric, seen, moved, data.targets) / len(data)
            return flat(pulled(model, data, parameters, curved)) + damping * vector

        natural, residual, iterations = _solved(product, gradient, tolerance, max_iterations)
    if not (math.isfinite(residual) and bool(torch.isfinite(natural).all())):
        raise ValueError("products with the Fisher information are not finite here")
    update = update.to(gradient)
    return NaturalAngle(
        to_natural=_degrees(update, -natural),
        to_gradient=_degrees(update, -gradient),
        between=_degrees(natural, gradient),
        residual=residual,
        iterations=iterations,
        damping=damping,
    )


def _solved(
    product: Callable[[Tensor], Tensor], right: Tensor, tolerance: float, most: int
) -> tuple[Tensor, float, int]:
    """Solve a positive definite system by conjugate gradients."""
    x, residual = torch.zeros_like(right), right.clone()
    direction, square = residual.clone(), residual.dot(residual)
    size, done = float(right.norm()), 0
    while done < most and float(square) ** 0.5 > tolerance * size:
        moved = product(direction)
        step = square / direction.dot(moved)
        x += step * direction
        residual -= step * moved
        before, square = square, residual.dot(residual)
        direction = residual + (square / before) * direction
        done += 1
    return x, float(square) ** 0.5 / size, done


def _degrees(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    cosine = float(a.dot(b) / (a.norm() * b.norm()))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
