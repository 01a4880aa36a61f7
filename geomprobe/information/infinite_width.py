"""Kernels of ReLU networks of infinite width, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.information.tangent_kernel import TangentKernel
from geomprobe.points import as_points
from geomprobe.storage import Array


def relu_kernels(
    X: Any,
    weight_variances: Sequence[float],
    bias_variances: Sequence[float] | None = None,
    *,
    fan_ins: Sequence[int] | None = None,
) -> tuple[Array, Array]:
    r"""Return the NNGP and the tangent kernel of a wide fully connected ReLU network.

    .. math::
        K^1 = \sigma_w^2 \frac{x \cdot x'}{d} + \sigma_b^2, \quad
        K^{l+1} = \sigma_w^2\, E[\phi(u)\phi(v)] + \sigma_b^2, \quad
        \Theta^{l+1} = K^{l+1} + \sigma_w^2\, E[\phi'(u)\phi'(v)]\, \Theta^l,

    with :math:`\Theta^1 = K^1` and (u, v) Gaussian with the covariance :math:`K^l`.

    Parameters
    ----------
    X : array of shape (n, d)
        Inputs.
    weight_variances : sequence of float
        :math:`\sigma_w^2` of each of the L layers: a weight has this variance over its fan-in.
    bias_variances : sequence of float, optional
        :math:`\sigma_b^2` of each layer; by default there are no biases.
    fan_ins : sequence of int, optional
        Inputs of each layer of a network in the standard parametrisation, where weights are the
        parameters themselves: gradients of the weights of a layer are larger by the fan-in over
        :math:`\sigma_w^2`. By default the tangent kernel is that of the NTK parametrisation,
        in which parameters have variance 1.

    Returns
    -------
    nngp, ntk : arrays of shape (n, n)
        Of one output; outputs are independent.

    Raises
    ------
    ValueError
        Numbers of layers that differ, variances that are negative, or no cloud of inputs.

    Notes
    -----
    O(n^2 (d + L)).

    References
    ----------
    Lee, J. et al. (2019). Wide neural networks of any depth evolve as linear models under gradient
    descent. NeurIPS, appendix E. The expectations: Cho, Y. and Saul, L. (2009). Kernel methods for
    deep learning. NIPS, with their kernels of order 0 and 1.
    """
    points = as_points(X)
    depth = len(weight_variances)
    biases = [0.0] * depth if bias_variances is None else list(bias_variances)
    if not depth or len(biases) != depth or (fan_ins is not None and len(fan_ins) != depth):
        raise ValueError(
            f"there are {depth} variances of weights, {len(biases)} of biases and "
            f"{'no' if fan_ins is None else len(fan_ins)} fan-ins; give one a layer"
        )
    if min(weight_variances) < 0 or min(biases) < 0:
        raise ValueError("variances must not be negative")
    # The mean product of what a layer is given, and of what arrives at its outputs from below.
    given = points @ points.T / points.shape[1]
    nngp = ntk = np.zeros_like(given)
    for layer, (weight, bias) in enumerate(zip(weight_variances, biases, strict=True)):
        if layer:
            given, slopes = _relu_expectations(nngp)
            ntk = weight * slopes * ntk
        nngp = weight * given + bias
        # Of the layer's own parameters: of variance 1, or the weights and biases themselves.
        own = nngp if fan_ins is None else fan_ins[layer] * given + (bias_variances is not None)
        ntk = ntk + own
    return nngp, ntk


def infinite_width_ntk(model: nn.Module, data: Samples) -> TangentKernel:
    """Return the tangent kernel that a ReLU network would have at infinite width.

    The variances are those of the model's own weights and biases, as they are, so that at
    initialisation this is what its empirical kernel converges to as it becomes wide, and
    ``ntk(model, data).distance(infinite_width_ntk(model, data))`` says how far from that it is.

    Parameters
    ----------
    model : torch.nn.Sequential
        Linear layers with a ReLU between each two, after any number of Flatten and with Dropout or
        Identity anywhere. All parameters are trainable.
    data : Samples
        Inputs of shape (N, ...).

    Returns
    -------
    TangentKernel

    Raises
    ------
    ValueError
        Another model.
    """
    linears = _linears(model)
    inputs = data.inputs.detach().cpu().double().numpy()
    _, kernel = relu_kernels(
        inputs.reshape(len(inputs), -1),
        [layer.in_features * _mean_square(layer.weight) for layer in linears],
        None if linears[0].bias is None else [_mean_square(layer.bias) for layer in linears],
        fan_ins=[layer.in_features for layer in linears],
    )
    n_outputs = linears[-1].out_features
    return TangentKernel(
        np.kron(kernel, np.eye(n_outputs)),
        len(inputs),
        n_outputs,
        sum(parameter.numel() for parameter in model.parameters()),
        "closed form of infinite width",
    )


def _relu_expectations(kernel: Array) -> tuple[Array, Array]:
    """Return E[phi(u) phi(v)] and E[phi'(u) phi'(v)] for Gaussians of this covariance."""
    deviations = np.sqrt(np.diagonal(kernel))
    scale = np.outer(deviations, deviations)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.where(scale > 0, np.clip(kernel / scale, -1, 1), 1.0)
    # Of two equal inputs the rounded cosine may be below 1, and the angle then far from 0.
    np.fill_diagonal(cosine, 1.0)
    angle = np.arccos(cosine)
    outputs = scale * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
    return outputs, (np.pi - angle) / (2 * np.pi)


def _linears(model: nn.Module) -> list[nn.Linear]:
    expected = (
        "the closed form needs an nn.Sequential of Linear layers, all with or all without bias, "
        "all trainable, with a ReLU between each two; "
    )
    if not isinstance(model, nn.Sequential):
        raise ValueError(f"{expected}got {type(model).__name__}")
    parts = [
        layer for layer in model if not isinstance(layer, nn.Flatten | nn.Dropout | nn.Identity)
    ]
    linears = [layer for layer in parts if isinstance(layer, nn.Linear)]
    kinds = [type(layer).__name__ for layer in parts]
    if kinds != (["Linear", "ReLU"] * len(linears))[:-1] or not linears:
        raise ValueError(f"{expected}got {', '.join(kinds) or 'none'}")
    biased = {layer.bias is not None for layer in linears}
    if len(biased) > 1 or not all(p.requires_grad for p in model.parameters()):
        raise ValueError(f"{expected}some of the layers differ")
    return linears


def _mean_square(parameter: Any) -> float:
    return float(parameter.detach().double().square().mean())
