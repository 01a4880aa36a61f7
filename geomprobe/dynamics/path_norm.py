"""The path norm: the weights along every path from an input to an output, multiplied and added."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from geomprobe.evidence import forward
from geomprobe.hooks import quiet
from geomprobe.hooks.selection import unwrap

_ALLOWED = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ReLU, nn.Identity, nn.Flatten, nn.Dropout),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)


def path_norm(model: nn.Module, input_shape: Sequence[int], *, p: float = 2.0) -> float:
    r"""Return the path norm of a ReLU network.

    .. math::
        \Bigl( \sum_{\text{paths}} \prod_{e \in \text{path}} |w_e|^p \Bigr)^{1/p}

    Parameters
    ----------
    model : torch.nn.Module
        Of linear and convolutional layers with ReLU, pooling and flattening. A copy is looked at.
    input_shape : sequence of int
        Of one input, without the axis of the samples.
    p : float
        2 as in the source, or 1.

    Returns
    -------
    float
        Over the paths from every input, and every bias, to every output. It does not change when
        a ReLU unit is rescaled.

    Raises
    ------
    ValueError
        A module of another kind, by name, or a power below 1.

    Notes
    -----
    One forward pass of ones with ``|w| ** p`` as parameters. Maxima are taken over the candidates'
    sums, so that with max pooling it is a lower bound of the sum over paths; means weigh paths by
    their own weights to the power 1.

    References
    ----------
    Neyshabur, B., Tomioka, R. and Srebro, N. (2015). Norm-based capacity control in neural
    networks. COLT, section 3.
    """
    if p < 1:
        raise ValueError(f"p must be at least 1, got {p}")
    model = unwrap(model)
    for name, module in model.named_modules():
        leaf = not any(True for _ in module.children())
        if leaf and not isinstance(module, _ALLOWED):
            raise ValueError(
                f"module {name!r} ({type(module).__name__}) is none whose paths can be added up: "
                "linear layers, convolutions, ReLU, pooling and flattening are"
            )
    with quiet(model):
        own = copy.deepcopy(model).to("cpu").double()
    for module in own.modules():
        module.training = False
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.abs_().pow_(p)
        outputs = forward(own, torch.ones(1, *input_shape, dtype=torch.float64))
    return math.pow(float(outputs.sum()), 1 / p)
