"""The noise of mini-batch gradients: its size, its directions, and the batch to drown it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples, forward, require_samples
from geomprobe.findings import Estimate
from geomprobe.hooks import quiet
from geomprobe.jacobians import jacobian_products, row_bytes, trainable_parameters
from geomprobe.memory import require_memory
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array
from geomprobe.values import ByValue

_UNRESOLVED = (
    "the gradient is not told from zero by these samples: its squared norm, less what noise adds, "
    "is not positive"
)


@dataclass(frozen=True, eq=False)
class GradientNoise(ByValue):
    """How noisy gradients are; made by :func:`gradient_noise`.

    Parameters
    ----------
    trace : Estimate
        Trace of the covariance of the gradient of one sample.
    square : Estimate
        Squared norm of the true gradient, without bias; it may be negative.
    scale : Estimate
        The simple noise scale, trace over square, in samples: batches well below it are dominated
        by noise, and ones well above it waste samples.
    spectrum : array
        Eigenvalues of the covariance that are not zero by construction, the largest first.
    """

    trace: Estimate
    square: Estimate
    scale: Estimate
    spectrum: Array


def gradient_noise(
    model: nn.Module, data: Samples, *, loss: Loss, batch_size: int = 64
) -> GradientNoise:
    r"""Measure the noise of gradients from those of each sample.

    .. math::
        \operatorname{tr} \hat\Sigma = \frac{1}{N - 1} \sum_n \lVert g_n - \bar g \rVert^2, \qquad
        |\hat G|^2 = \lVert \bar g \rVert^2 - \frac{\operatorname{tr} \hat\Sigma}{N}, \qquad
        \hat B = \frac{\operatorname{tr} \hat\Sigma}{|\hat G|^2}

    Parameters
    ----------
    model : torch.nn.Module
        Looked at in evaluation mode, and left as it was.
    data : Samples
        N samples with targets, drawn at random; at least 4.
    loss : callable
        ``loss(outputs, targets)``, the mean over samples.
    batch_size : int
        Samples to work on at a time.

    Returns
    -------
    GradientNoise
        Trace and square are without bias, their ratio only to leading order in 1/N. Standard errors
        by delete-half jackknife over samples.

    Raises
    ------
    ValueError
        Fewer samples, no targets, gradients that are not finite, outputs of a sample that depend
        on the others, or a loss of a batch that is not the mean of those of its samples, as with
        weights of classes.
    TypeError
        Data that are no samples of tensors.
    MemoryEstimateError
        The N gradients do not fit.

    References
    ----------
    McCandlish, S., Kaplan, J., Amodei, D. et al. (2018). An empirical model of large-batch
    training. arXiv:1812.06162, equation 2.9 and appendix A.1.
    """
    require_samples(data, targets=True)
    if len(data) < 4:
        raise ValueError(f"4 samples or more are needed, got {len(data)}")
    parameters = trainable_parameters(model)
    require_memory(
        2 * len(data) * row_bytes(parameters),
        f"the gradients of {len(data)} samples",
        "Give fewer samples, or measure batches of two sizes: noise_of_batches.",
    )
    data = data.to(next(iter(parameters.values())).device)
    assert data.targets is not None
    with quiet(model), torch.enable_grad():
        with torch.no_grad():
            parts = [forward(model, batch.inputs) for batch in data.batches(batch_size)]
            outputs = torch.cat(parts)
        pairs = zip(outputs[:, None], data.targets[:, None], strict=True)
        slopes = torch.stack([_slope(loss, *pair) for pair in pairs])
        together = len(data) * _slope(loss, outputs, data.targets)[:, None]
        if float((together - slopes).abs().max()) > 1e-3 * float(slopes.abs().max()):
            raise ValueError(
                "the loss of a batch is not the mean of those of its samples, so that the noise of "
                'its gradient is another: give a loss with reduction="mean" and without weights '
                "of classes or ignored targets, or measure batches of two sizes: noise_of_batches"
            )
        rows, _ = jacobian_products(model, parameters, data, outputs, slopes, batch_size)
    return noise_of_gradients(rows)


def _slope(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of the mean loss by the outputs."""
    leaf = outputs.detach().requires_grad_()
    return torch.autograd.grad(loss(leaf, targets).mean(), leaf)[0]


def noise_of_gradients(gradients: Any) -> GradientNoise:
    """Measure the noise of gradients that are at hand.

    Parameters
    ----------
    gradients : array or Tensor of shape (N, P)
        The gradient of each of N independent samples, or of N batches of one size: the trace is
        then that of a batch, and the scale in batches.

    Returns
    -------
    GradientNoise
        See :func:`gradient_noise`.

    Raises
    ------
    ValueError
        Another shape, fewer than 4 rows, or ones that are not finite.
    """
    rows = gradients if isinstance(gradients, Tensor) else torch.from_numpy(np.asarray(gradients))
    if rows.ndim != 2 or len(rows) < 4 or not rows.is_floating_point():
        raise ValueError(
            "gradients must be real, of shape (N, P) with N of at least 4, got shape "
            f"{tuple(rows.shape)} and {rows.dtype}"
        )
    if not bool(torch.isfinite(rows).all()):
        raise ValueError("gradients must be finite; leave out the samples whose gradient is not")
    gram = _gram(rows)
    n = len(gram)
    everything = np.arange(n)

    def pair(samples: Array) -> Array:
        inner = gram[np.ix_(samples, samples)]
        mean = inner.mean()
        trace = len(samples) / (len(samples) - 1) * (inner.trace() / len(samples) - mean)
        return np.array([trace, mean - trace / len(samples)])

    def ratio(samples: Array) -> float:
        trace, square = pair(samples)
        return float(trace / square) if square > 0 else float("nan")

    (trace, square), errors = pair(everything), delete_half_stderr(pair, n)
    method = "gradients of each sample; delete-half jackknife over samples"
    scale = Estimate.undefined(_UNRESOLVED, n=n, method=method)
    if square > 0:
        error = float(delete_half_stderr(ratio, n))
        scale = Estimate(trace / square, error, n, method=method)
    means = gram.mean(axis=0)
    spectrum = np.linalg.eigvalsh(gram - means - means[:, None] + gram.mean())[::-1][: n - 1]
    return GradientNoise(
        Estimate(trace, errors[0], n, method=method),
        Estimate(square, errors[1], n, method=method),
        scale,
        spectrum[: rows.shape[1]].clip(min=0) / (n - 1),
    )


def noise_of_batches(
    small_squares: Any, small_size: int, large_squares: Any, large_size: int
) -> GradientNoise:
    r"""Measure the noise of gradients from batches of two sizes, without gradients of a sample.

    .. math::
        |\hat G|^2 = \frac{B |G_B|^2 - b |G_b|^2}{B - b}, \qquad
        \operatorname{tr} \hat\Sigma = \frac{|G_b|^2 - |G_B|^2}{1/b - 1/B}

    Parameters
    ----------
    small_squares, large_squares : array of shape (M,)
        Squared norms of the gradients of batches of b and of B samples; with data parallelism those
        of a process and of all. Pairs need not be independent of each other.
    small_size, large_size : int
        b and B.

    Returns
    -------
    GradientNoise
        Trace and square are without bias; their standard errors are those of means over the M
        pairs, and that of the ratio is to first order. No spectrum.

    Raises
    ------
    ValueError
        Sizes that do not grow, norms of other shapes or that are not finite.

    References
    ----------
    McCandlish et al. (2018), appendix A.1.
    """
    small, large = (np.asarray(one, dtype=float).ravel() for one in (small_squares, large_squares))
    if not 1 <= small_size < large_size:
        raise ValueError(f"sizes must be 1 <= small < large, got {small_size} and {large_size}")
    if len(small) != len(large) or not len(small) or not np.isfinite([*small, *large]).all():
        raise ValueError(
            f"squared norms must be finite and as many of either size, got {len(small)} and "
            f"{len(large)}"
        )
    squares = (large_size * large - small_size * small) / (large_size - small_size)
    traces = (small - large) / (1 / small_size - 1 / large_size)
    m, method = len(small), f"batches of {small_size} and {large_size} samples"
    covariance = np.full((2, 2), np.nan)
    if m > 1:
        covariance = np.cov([traces, squares]) / m
    trace, square = float(traces.mean()), float(squares.mean())
    scale = Estimate.undefined(_UNRESOLVED, n=m, method=method)
    if square > 0:
        slope = np.array([1, -trace / square]) / square
        error = float(np.sqrt(slope @ covariance @ slope))
        scale = Estimate(trace / square, error, m, method=method)
    deviations: Array = np.sqrt(np.diagonal(covariance))
    return GradientNoise(
        Estimate(trace, deviations[0], m, method=method),
        Estimate(square, deviations[1], m, method=method),
        scale,
        np.empty(0),
    )


def _gram(rows: Tensor) -> Array:
    """Return the products of rows, in float64, without a copy of all of them in it."""
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device="cpu")
    for part in torch.split(rows, 1 << 16, dim=1):
        own = part.detach().cpu().double()
        total += own @ own.T
    gram: Array = total.numpy()
    return gram
