"""Measures of the weights: norms, their products over layers, and the path norm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp

from geomprobe.diagnostics.layers import Layer, entering, weighted_layers
from geomprobe.dynamics.path_norm import path_norm as of_paths
from geomprobe.evidence import Samples
from geomprobe.findings import Estimate
from geomprobe.information import top_eigenpairs
from geomprobe.jacobians import trainable_parameters


def parameter_norm(model: nn.Module, initial: Mapping[str, Tensor] | None = None) -> Estimate:
    r"""Return :math:`\|w\|_2` of all trainable parameters, or :math:`\|w - w_0\|_2`.

    Parameters
    ----------
    model : torch.nn.Module
    initial : mapping of str to Tensor, optional
        The parameters to take off, such as the ``state_dict`` before training.

    Raises
    ------
    ValueError
        There are no trainable parameters, or ``initial`` lacks one.

    References
    ----------
    Nagarajan, V. and Kolter, J. Z. (2019). Generalization in deep networks: the role of distance
    from initialization. arXiv:1901.01672.
    """
    pieces = moved(model, initial).values()
    return Estimate(math.sqrt(sum(float(piece.square().sum()) for piece in pieces)), exact=True)


def moved(model: nn.Module, initial: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return the trainable parameters in float64, less the initial ones if there are any."""
    parameters = {name: p.double() for name, p in trainable_parameters(model).items()}
    if initial is None:
        return parameters
    missing = [name for name, p in parameters.items() if _shape(initial, name) != p.shape]
    if missing:
        raise ValueError(
            f"the initial parameters lack {', '.join(missing[:3])}, or have another shape there; "
            "give the model's state_dict from before the training, as copies"
        )
    return {name: p - initial[name].to(p) for name, p in parameters.items()}


def _shape(state: Mapping[str, Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None


@dataclass(frozen=True)
class LayerNorms:
    """Squared norms of the weights of each layer; made by :func:`layer_norms`.

    Parameters
    ----------
    spectral, frobenius : mapping of str to float
        By layer.
    """

    spectral: Mapping[str, float]
    frobenius: Mapping[str, float]

    def log_product_spectral(self, margin: float | None = None) -> Estimate:
        r"""Return :math:`\sum_i \log \|W_i\|_2^2`, less :math:`2 \log \gamma` if there is a margin.

        References
        ----------
        Bartlett, P. L., Foster, D. J. and Telgarsky, M. (2017). Spectrally-normalized margin bounds
        for neural networks. NeurIPS. As in Jiang et al. (2020), appendix C.
        """
        return _log_product(self.spectral, margin)

    def log_product_frobenius(self, margin: float | None = None) -> Estimate:
        r"""Return :math:`\sum_i \log \|W_i\|_F^2`, less :math:`2 \log \gamma` if there is a margin.

        References
        ----------
        Neyshabur, B., Tomioka, R. and Srebro, N. (2015). Norm-based capacity control in neural
        networks. COLT. As in Jiang et al. (2020), appendix C.
        """
        return _log_product(self.frobenius, margin)

    def frobenius_over_spectral(self) -> Estimate:
        r"""Return :math:`\sum_i \|W_i\|_F^2 / \|W_i\|_2^2`, the sum of the stable ranks.

        References
        ----------
        Jiang et al. (2020), appendix C.
        """
        if min(self.spectral.values()) <= 0:
            return Estimate.undefined("a layer has no weights but zeros")
        ratios = (self.frobenius[name] / self.spectral[name] for name in self.spectral)
        return Estimate(sum(ratios), exact=True)


def layer_norms(model: nn.Module, data: Samples) -> LayerNorms:
    """Take the spectral and the Frobenius norm of each layer's weights.

    The spectral norm of a convolution is that of the linear map from its inputs to its outputs, of
    the size that they have here and with its padding and stride; the Frobenius norm is that of its
    kernel.

    Parameters
    ----------
    model : torch.nn.Module
        Of linear and convolution layers, and what has no parameters.
    data : Samples
        One is looked at, for the sizes.

    Raises
    ------
    ValueError
        The model has parameters elsewhere, or normalizes.

    Notes
    -----
    By singular values for a linear layer, by Lanczos on the map itself for a convolution. Sedghi et
    al. find the norm by the Fourier transform, for circular padding.

    References
    ----------
    Jiang, Y. et al. (2020). Fantastic generalization measures and where to find them. ICLR.
    Sedghi, H., Gupta, V. and Long, P. M. (2019). The singular values of convolutional layers. ICLR.
    """
    layers = weighted_layers(model)
    inputs = entering(model, data.take(slice(0, 1)), layers)
    called = {name: layers[name] for name in inputs}
    return LayerNorms(
        {name: _spectral(layer, inputs[name]) for name, layer in called.items()},
        {
            name: float(layer.weight.detach().double().square().sum())
            for name, layer in called.items()
        },
    )


def _spectral(layer: Layer, inputs: Tensor) -> float:
    weight = layer.weight.detach().double()
    if isinstance(layer, nn.Linear):
        return float(torch.linalg.matrix_norm(weight, 2)) ** 2
    operator = _NormalMap(layer, weight, inputs.shape[1:])
    return float(top_eigenpairs(operator).values[0])


@dataclass(frozen=True)
class _NormalMap:
    """The matrix A^T A of a layer A without its bias."""

    layer: Layer
    weight: Tensor
    entering: torch.Size

    @property
    def shape(self) -> tuple[int, int]:
        return self.entering.numel(), self.entering.numel()

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        values = {"weight": self.weight}
        if self.layer.bias is not None:
            values["bias"] = self.layer.bias.detach().to(self.weight) * 0

        def mapped(points: Tensor) -> Tensor:
            image: Tensor = functional_call(self.layer, values, (points,))
            return image

        columns = vectors.reshape(len(vectors), -1).T.reshape(-1, *self.entering)
        pulled = vjp(mapped, columns)
        (product,) = pulled[1](pulled[0])
        found: Tensor = product.reshape(len(columns), -1).T.reshape(vectors.shape)
        return found


def _log_product(squares: Mapping[str, float], margin: float | None) -> Estimate:
    if min(squares.values()) <= 0:
        return Estimate.undefined("a layer has no weights but zeros")
    value = sum(map(math.log, squares.values()))
    return Estimate(value - (0.0 if margin is None else 2 * math.log(margin)), exact=True)


def path_norm(model: nn.Module, data: Samples, margin: float | None = None) -> Estimate:
    r"""Return the path norm :math:`\sum_c f_{w^2}(1)_c`, over :math:`\gamma^2` of a margin.

    With all parameters squared, biases as well, the network sums the squared products of the
    weights along its paths; rescaling the units of a ReLU network leaves it as it is.

    Parameters
    ----------
    model : torch.nn.Module
        Of linear and convolution layers with ReLU between them.
    data : Samples
        One is looked at, for the size of the inputs: one tensor.
    margin : float, optional

    Raises
    ------
    ValueError
        The model has parameters elsewhere, or normalizes; it bends otherwise than by ReLU; inputs
        that are not one tensor.

    References
    ----------
    Neyshabur, B., Salakhutdinov, R. and Srebro, N. (2015). Path-SGD: path-normalized optimization
    in deep neural networks. NeurIPS. As in Jiang et al. (2020), appendix C.
    """
    weighted_layers(model)
    if not isinstance(data.inputs, Tensor):
        raise ValueError(f"the path norm takes inputs of one tensor, got {type(data.inputs)}")
    value = of_paths(model, data.inputs.shape[1:]) ** 2
    return Estimate(value if margin is None else value / margin**2, exact=True)
