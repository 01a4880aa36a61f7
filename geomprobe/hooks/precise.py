"""A copy of a model that calculates in double precision, so that ranks and signs can be told."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from geomprobe.evidence import Samples, forward, require_samples
from geomprobe.hooks.quiet import quiet
from geomprobe.hooks.selection import unwrap


def in_double_precision(model: nn.Module, data: Samples) -> tuple[nn.Module, Samples, str]:
    """Return a copy of a model on the CPU in float64, and its data.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it is.
    data : Samples
        Inputs and targets; what is whole numbers stays so.

    Returns
    -------
    model : torch.nn.Module
        In evaluation mode.
    data : Samples
    note : str
        Why the copy has the precision of the model, where it cannot run in float64; else nothing.

    Raises
    ------
    TypeError
        Data that are no samples of tensors.
    ValueError
        No samples, or a model that cannot be copied.
    """
    require_samples(data)

    try:
        with quiet(model):
            own = copy.deepcopy(unwrap(model)).to("cpu")
    except Exception as error:
        raise ValueError(
            f"the model cannot be copied, to be looked at in double precision: {error}"
        ) from error
    for module in own.modules():
        module.training = False
    double = copy.deepcopy(own).double()
    precise = in_precision(data, torch.float64)
    try:
        with quiet(double), torch.no_grad():
            forward(double, precise.take(slice(0, 2)).inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        return own, data.to("cpu"), f"The model cannot run in double precision: {error}."
    return double, precise, ""


def in_precision(data: Samples, dtype: torch.dtype) -> Samples:
    """Return samples on the CPU, their real numbers in a precision; whole numbers stay so."""

    def converted(leaf: Any) -> Any:
        real = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return leaf.to(dtype) if real else leaf

    return Samples(*(pytree.tree_map(converted, part) for part in data.to("cpu").parts))
