"""The layers of a model whose weights are matrices, and what enters them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from geomprobe.evidence import Samples, forward
from geomprobe.hooks import quiet

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
_BATCH = 1024


def weighted_layers(model: nn.Module) -> dict[str, Layer]:
    """Return the linear and convolution layers by name, where all weights are theirs.

    Raises
    ------
    ValueError
        The model normalizes, has parameters elsewhere, or no such layer: products of the norms of
        its layers would then say nothing of the model.
    """
    layers = {name: each for name, each in model.named_modules() if isinstance(each, _KINDS)}
    owned = {id(p) for layer in layers.values() for p in layer.parameters(recurse=False)}
    others = [name for name, each in model.named_modules() if isinstance(each, _NORMS)]
    others += [name for name, p in model.named_parameters() if id(p) not in owned]
    if others or not layers:
        raise ValueError(
            "norms of layers are for models of linear and convolution layers alone; there is "
            + (f"also {', '.join(others[:3])}" if others else "none")
            + ". Fold batch norm first: torch.nn.utils.fusion.fuse_conv_bn_eval"
        )
    return layers


def entering(model: nn.Module, data: Samples, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the first input of each layer's last call, in the order of the pass.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode for the pass, and left as it was.
    data : Samples
    layers : mapping of str to torch.nn.Module
        Some of its modules. Those that are not called are left out.
    """
    found: dict[str, list[Tensor]] = {}
    seen: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        seen.pop(name, None)
        seen[name] = arguments[0].detach().clone()

    with quiet(model), torch.no_grad():
        hooks = [
            layer.register_forward_pre_hook(partial(keep, name)) for name, layer in layers.items()
        ]
        try:
            for batch in data.batches(_BATCH):
                seen.clear()
                forward(model, batch.inputs)
                for name, value in seen.items():
                    found.setdefault(name, []).append(value)
        finally:
            for hook in hooks:
                hook.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


def entering_last_layer(model: nn.Module, data: Samples) -> tuple[Tensor, nn.Linear]:
    """Return what enters the linear layer that is called last, of shape (n, d), and the layer.

    Raises
    ------
    ValueError
        There is no linear layer, or its inputs are not one vector a sample.
    """
    layers = {name: each for name, each in model.named_modules() if type(each) is nn.Linear}
    inputs = entering(model, data, layers)
    if not inputs:
        raise ValueError("the model calls no linear layer, whose inputs are the last features")
    name = [*inputs][-1]
    if inputs[name].ndim != 2 or len(inputs[name]) != len(data):
        raise ValueError(
            f"inputs of {name!r} have shape {tuple(inputs[name].shape)}, expected ({len(data)}, d)"
        )
    return inputs[name], layers[name]
