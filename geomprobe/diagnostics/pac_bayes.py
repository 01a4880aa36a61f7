"""PAC-Bayes measures: how much noise the parameters stand, and what a bound makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from geomprobe.diagnostics.norms import moved
from geomprobe.diagnostics.trained import classes_of, outputs_of
from geomprobe.evidence import Samples, forward
from geomprobe.findings import Estimate
from geomprobe.hooks import quiet
from geomprobe.jacobians import trainable_parameters

_SMALLEST, _LARGEST, _STEPS = 1e-4, 10.0, 12
_EPSILON = 1e-3


@dataclass(frozen=True)
class PacBayes:
    r"""What parameters stand of noise, and bounds from it; made by :func:`pac_bayes`.

    Parameters
    ----------
    sigma : Estimate
        The standard deviation of the noise.
    flatness : Estimate
        :math:`1 / \sigma^2`.
    orig, init : Estimate
        The bound with a prior about the origin, and about the initial parameters; ``init`` is None
        where these are not known.
    """

    sigma: Estimate
    flatness: Estimate
    orig: Estimate
    init: Estimate | None


def pac_bayes(
    model: nn.Module,
    data: Samples,
    initial: Mapping[str, Tensor] | None = None,
    *,
    magnitude: bool = False,
    increase: float = 0.1,
    draws: int = 10,
    random_state: int = 0,
) -> PacBayes:
    r"""Find the Gaussian noise on the parameters that raises the training error by ``increase``.

    The noise has the standard deviation :math:`\sigma`, or, with ``magnitude``,
    :math:`s_i = \sqrt{\sigma^2 w_i^2 + \epsilon^2}` for each parameter, :math:`\epsilon = 10^{-3}`.
    The bounds are, for m samples, :math:`\omega` parameters, and v = w or w - w_0:

    .. math::
        \frac{\|v\|^2}{4 \sigma^2} + \log \frac{m}{\sigma} + 10, \qquad
        \frac14 \sum_i \log \frac{\epsilon^2 + (\sigma^2 \|w\|^2 + \|v\|^2) / \omega}
        {\epsilon^2 + \sigma^2 w_i^2} + \log \frac{m}{\sigma} + 10

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode for the passes, and left as it was.
    data : Samples
        Training inputs and classes.
    initial : mapping of str to Tensor, optional
        The ``state_dict`` before training.
    magnitude : bool
        Whether noise is in proportion to the parameters.
    increase : float
        Of the error rate.
    draws : int
        Of the noise; the same at every size of it.
    random_state : int
        Seed of the noise.

    Returns
    -------
    PacBayes
        Standard errors are from the spread over draws. NaN with the reason where no noise from
        1e-4 to 10 does it.

    Raises
    ------
    ValueError
        Fewer than two draws, an increase outside (0, 1), outputs that are not those of a
        classifier.

    Notes
    -----
    Bisection on log sigma, 12 steps of ``draws`` passes over the data. Public code passes the
    variance where PyTorch expects a standard deviation, so that what it reports is the root of this
    sigma; and it has :math:`w - w_0` in place of w in the denominator above. Here the sums are half
    of the Kullback-Leibler divergence of the noise that is drawn from the best isotropic prior.

    References
    ----------
    Jiang, Y. et al. (2020). Fantastic generalization measures and where to find them. ICLR,
    appendix C. Dziugaite, G. K. et al. (2020). In search of robust measures of generalization.
    NeurIPS. Neyshabur, B. et al. (2017). Exploring generalization in deep learning. NeurIPS.
    """
    if draws < 2:
        raise ValueError(f"draws must be at least 2, got {draws}")
    if not 0 < increase < 1:
        raise ValueError(f"increase is one of an error rate, between 0 and 1, got {increase}")
    parameters = trainable_parameters(model)
    plain = float((outputs_of(model, data).argmax(1) != classes_of(data)).double().mean())

    def errors(sigma: float) -> Tensor:
        return _errors_under_noise(model, parameters, data, sigma, magnitude, draws, random_state)

    kind = "in proportion to the parameters" if magnitude else "equal for all parameters"
    method = f"noise {kind} that raises the error by {increase:g}, {draws} draws"
    with quiet(model), torch.no_grad():
        sigma = _bisected(errors, plain + increase, draws, method)
    w = moved(model, None)
    square = _square(w)

    def bound(v_square: float) -> Callable[[float], float]:
        def value(s: float) -> float:
            rest = math.log(len(data) / s) + 10
            if not magnitude:
                return v_square / (4 * s**2) + rest
            n = sum(each.numel() for each in w.values())
            prior = _EPSILON**2 + (s**2 * square + v_square) / n
            ratios = (torch.log(prior / (_EPSILON**2 + (s * p) ** 2)).sum() for p in w.values())
            return float(sum(ratios)) / 4 + rest

        return value

    distance = None if initial is None else _square(moved(model, initial))
    return PacBayes(
        sigma,
        _function_of(sigma, lambda s: 1 / s**2),
        _function_of(sigma, bound(square)),
        None if distance is None else _function_of(sigma, bound(distance)),
    )


def _errors_under_noise(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    data: Samples,
    sigma: float,
    magnitude: bool,
    draws: int,
    seed: int,
) -> Tensor:
    """Return the error of each draw; draws differ in size alone from one sigma to another."""
    generator, classes = torch.Generator().manual_seed(seed), classes_of(data)
    found = []
    for _ in range(draws):
        noisy = {}
        for name, p in parameters.items():
            noise = torch.randn(p.shape, generator=generator, dtype=p.dtype, device="cpu")
            noise = noise.to(p.device)
            scale = (sigma**2 * p.square() + _EPSILON**2).sqrt() if magnitude else sigma
            noisy[name] = p + scale * noise

        def call(*args: Any, values: dict[str, Tensor] = noisy, **kwargs: Any) -> Any:
            return functional_call(model, values, args, kwargs)

        outputs = torch.cat([forward(call, batch.inputs) for batch in data.batches(4096)])
        found.append((outputs.argmax(1) != classes).double().mean())
    return torch.stack(found)


def _bisected(
    errors: Callable[[float], Tensor], target: float, draws: int, method: str
) -> Estimate:
    low, high = math.log(_SMALLEST), math.log(_LARGEST)
    if float(errors(_LARGEST).mean()) < target or float(errors(_SMALLEST).mean()) > target:
        return Estimate.undefined(
            f"no noise from {_SMALLEST:g} to {_LARGEST:g} gives the error of {target:.3g}",
            n=draws,
            method=method,
        )
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if float(errors(math.exp(middle)).mean()) > target:
            high = middle
        else:
            low = middle
    sigma = math.exp((low + high) / 2)
    step = 0.1
    more, less = errors(sigma * math.exp(step)), errors(sigma * math.exp(-step))
    slope = float((more - less).mean()) / (2 * step)
    spread = float(errors(sigma).std()) / draws**0.5
    stderr = sigma * spread / slope if slope > 0 else math.nan
    return Estimate(sigma, stderr, n=draws, method=method)


def _function_of(sigma: Estimate, function: Callable[[float], float]) -> Estimate:
    if math.isnan(sigma.value):
        return sigma
    s, step = sigma.value, 1e-4 * sigma.value
    slope = (function(s + step) - function(s - step)) / (2 * step)
    return Estimate(function(s), abs(slope) * sigma.stderr, n=sigma.n, method=sigma.method)


def _square(values: Mapping[str, Tensor]) -> float:
    return sum(float(value.square().sum()) for value in values.values())
