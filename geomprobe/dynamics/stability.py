"""The edge of stability: sharpness over what the step of an optimizer can stand."""

from __future__ import annotations

import math
from dataclasses import replace

from geomprobe.findings import Estimate


def stability_ratio(
    sharpness: Estimate | float,
    lr: float,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Estimate:
    r"""Return the largest curvature over the largest with which the optimizer is stable.

    .. math::
        \frac{\eta\, \lambda_{\max}}{2}, \qquad
        \frac{\eta\, \lambda_{\max}}{2 (1 + \beta)}, \qquad
        \frac{\eta\, \lambda_{\max} (1 + 2 \beta)}{2 (1 + \beta)}

    for gradient descent, heavy-ball momentum :math:`\beta`, and Nesterov's.

    Parameters
    ----------
    sharpness : Estimate or float
        The largest eigenvalue of the Hessian of the loss over the whole batch, such as the first of
        ``geomprobe.information.top_eigenpairs(curvature(...))``. Its standard error is carried on.
    lr : float
        :math:`\eta`.
    momentum : float
        :math:`\beta`, as torch.optim.SGD has it, without dampening.
    nesterov : bool
    weight_decay : float
        As torch.optim.SGD adds it to the gradient, and so to every eigenvalue.

    Returns
    -------
    Estimate
        Above 1 the quadratic approximation of the loss diverges along the sharpest direction. Full
        batch training hovers at or above 1; with small batches the ratio stays below.

    Raises
    ------
    ValueError
        A learning rate that is not positive, momentum outside [0, 1), decay that is negative.

    References
    ----------
    Cohen, J. M., Kaur, S., Li, Y., Kolter, J. Z. and Talwalkar, A. (2021). Gradient descent on
    neural networks typically occurs at the edge of stability. ICLR, equation 1 and appendix B.
    """
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be positive and finite, got {lr}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if weight_decay < 0:
        raise ValueError(f"weight_decay must not be negative, got {weight_decay}")
    threshold = 2 * (1 + momentum) / lr
    if nesterov:
        threshold /= 1 + 2 * momentum
    rule = "Nesterov" if nesterov else "heavy ball" if momentum else "gradient descent"
    method = f"sharpness over {threshold:.4g}, the stability threshold of {rule}"
    given = sharpness if isinstance(sharpness, Estimate) else Estimate(sharpness, note="as given")
    value = (given.value + weight_decay) / threshold
    return replace(given, value=value, stderr=given.stderr / threshold, method=method)
