"""The path norm: the weights along every path from an input to an output, multiplied and added."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from geomprobe.evidence import forward
from geomprobe.hooks import quiet
from geomprobe.hooks.selection import unwrap

_ALLOWED = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ReLU, nn.Identity, nn.Flatten, nn.Dropout),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
#: Functions and methods that take a maximum with zero, or a mean, or put numbers elsewhere.
_FOLLOWED: frozenset[Any] = frozenset(
    {F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"}
    | {torch.flatten, "flatten", "view", "reshape", torch.reshape, "contiguous"}
    | {torch.squeeze, "squeeze", torch.unsqueeze, "unsqueeze", torch.cat}
    | {torch.permute, "permute", torch.transpose, "transpose", torch.mean, "mean"}
    | {"size", "dim", getattr, operator.getitem}
    | {F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d}
    | {torch.max_pool1d, torch.max_pool2d, torch.max_pool3d}
    | {F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d}
)
_SUMS: frozenset[Any] = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})


def path_norm(model: nn.Module, input_shape: Sequence[int], *, p: float = 2.0) -> float:
    r"""Return the path norm of a ReLU network.

    .. math::
        \Bigl( \sum_{\text{paths}} \prod_{e \in \text{path}} |w_e|^p \Bigr)^{1/p}

    Parameters
    ----------
    model : torch.nn.Module
        Of linear and convolutional layers with ReLU, pooling, flattening and sums of branches, as
        modules or functions. A copy is looked at, and traced with ``torch.fx``.
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
        A module or function of another kind, by name, a model that cannot be traced, or a power
        below 1.

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
    _require_paths(own)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.abs_().pow_(p)
        outputs = forward(own, torch.ones(1, *input_shape, dtype=torch.float64, device="cpu"))
    return math.pow(float(outputs.sum()), 1 / p)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _ALLOWED)


def _require_paths(model: nn.Module) -> None:
    """Raise where a forward pass calls functions whose paths cannot be added up."""
    try:
        graph = _Tracer().trace(copy.deepcopy(model))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            "torch.fx cannot follow the model, so that it is not known whether its paths can be "
            f"added up: {reason}"
        ) from error
    for node in graph.nodes:
        if node.op == "get_attr":
            followed = node.target in dict(model.named_parameters(remove_duplicate=False))
        elif node.target in _SUMS:
            followed = all(isinstance(one, fx.Node) for one in node.args) and not node.kwargs
        elif node.target is F.dropout:
            followed = node.kwargs.get("training") is False
        else:
            followed = node.op in ("placeholder", "call_module", "output")
            followed = followed or node.target in _FOLLOWED
        if not followed:
            name = getattr(node.target, "__name__", node.target)
            raise ValueError(
                f"{name} is called on the way, which is none whose paths can be added up: ReLU, "
                "pooling, flattening and sums of branches are"
            )
