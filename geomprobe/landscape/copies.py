"""Copies of models: their tensors by name, in another precision, or with other values."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from geomprobe.evidence import Samples, forward
from geomprobe.hooks import quiet, streams_kept
from geomprobe.hooks.selection import unwrap

State = dict[str, Tensor]


def state_of(model: nn.Module) -> State:
    """Return parameters and floating-point buffers, detached, each once and under one name."""
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.detach() for name, tensor in named if tensor.is_floating_point()}


def copied(model: nn.Module, state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Return a copy of a model, with other values of some tensors.

    Raises
    ------
    ValueError
        It cannot be copied.
    """
    model = unwrap(model)
    try:
        with quiet(model):
            own = copy.deepcopy(model)
    except Exception as error:
        raise ValueError(f"the model cannot be copied: {error}") from error
    for module, original in zip(own.modules(), model.modules(), strict=True):
        module.training = original.training
    for parameter in own.parameters():
        parameter.grad = None
    if state is not None:
        tensors = state_of(own)
        with torch.no_grad():
            for name, value in state.items():
                tensors[name].copy_(value)
    return own


def outputs_of(model: nn.Module, data: Samples) -> list[Tensor]:
    """Return every floating-point tensor that a model returns."""
    with quiet(model), torch.no_grad():
        leaves = pytree.tree_leaves(forward(model, data.inputs))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def require_alike(models: Mapping[str, nn.Module]) -> None:
    """Raise ValueError unless the tensors of all models have the same names, shapes and dtypes."""
    (first, model), *others = models.items()
    expected = {name: (tuple(t.shape), t.dtype) for name, t in state_of(unwrap(model)).items()}
    if not expected:
        raise ValueError(f"{first} has no parameters")
    for title, other in others:
        found = {name: (tuple(t.shape), t.dtype) for name, t in state_of(unwrap(other)).items()}
        if found == expected:
            continue
        missing = sorted(expected.keys() ^ found.keys())
        if missing:
            where = first if missing[0] in expected else title
            what = f"{missing[0]!r} is in {where} only"
        else:
            name = next(name for name in expected if expected[name] != found[name])
            (shape, dtype), (its_shape, its_dtype) = expected[name], found[name]
            if shape == its_shape:
                raise ValueError(
                    f"the models are not of one precision: {name!r} is {dtype} in {first} and "
                    f"{its_dtype} in {title}; model.to(dtype) gives a model another"
                )
            what = f"{name!r} has shape {shape} in {first} and {its_shape} in {title}"
        raise ValueError(f"the models are not of one architecture: {what}")


def require_one_code(a: nn.Module, b: nn.Module, data: Samples) -> None:
    """Raise ValueError unless a, with the parameters and buffers of b, computes what b does."""
    device = next(iter(state_of(unwrap(a)).values())).device
    own = copied(b).to(device)
    pair = copied(a, state_of(own)), own
    data = data.to(device)
    rows = torch.linspace(0, len(data) - 1, min(len(data), 8), device="cpu").long().to(device)
    found = []
    for model in pair:
        for module in model.modules():
            module.training = False
        with streams_kept(0):
            found.append(outputs_of(model, data.take(rows)))
    for ours, theirs in zip(*found, strict=False):
        near = torch.finfo(theirs.dtype).eps ** 0.5
        size = near * float(theirs.nan_to_num(0, 0, 0).abs().max())
        if ours.shape != theirs.shape or not torch.allclose(
            ours, theirs, near, size, equal_nan=True
        ):
            raise ValueError(
                "the models are not of one architecture: parameters have the same names and "
                "shapes, but the code of a gives other outputs than b with those of b (another "
                "activation, or buffers of whole numbers?)"
            )
