"""What each kind of layer makes of its input and of the gradients at its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geomprobe.information.factors import Factor, Lookup, Outer, Rows, inner_products

#: A factor, and what turns its total into the gradient of each of its parameters.
Part = tuple[Factor, Callable[[Tensor], dict[str, Tensor]]]
#: From gradients (N, K, ...) at the output of a module to the parts of its own parameters that
#: require a gradient.
Parts = Callable[[Tensor], list[Part]]
#: ``rule(module, input)`` for an input of N samples: what depends on the input alone is done once.
Rule = Callable[[Any, Tensor], Parts]


@dataclass(frozen=True)
class Table:
    """A parameter of shape (1, ...) of a module of the user's own: of positions, a class token."""

    owner: nn.Module
    attribute: str

    @contextmanager
    def repeated(self, n: int) -> Iterator[Tensor]:
        """Give the module the parameter once for each of n samples."""
        held, own = self.owner._parameters, self.owner.get_parameter(self.attribute)
        rows = own.expand(n, *own.shape[1:])
        held[self.attribute] = rows  # type: ignore[assignment]
        try:
            yield rows
        finally:
            held[self.attribute] = own


def linear(module: nn.Linear, x: Tensor) -> Parts:
    """Positions between the sample and the features add up."""
    inputs = x.reshape(len(x), 1, -1, module.in_features)

    def arranged(grads: Tensor) -> Tensor:
        return grads.reshape(*grads.shape[:2], 1, -1, module.out_features)

    return _affine(module, inputs, arranged)


def convolution(module: Any, x: Tensor) -> Parts:
    """Take every patch of the input for a position of a linear map."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    patches = _patches(padded, module.kernel_size, module.stride, module.dilation)
    inputs = _grouped(patches, module.groups)
    return _affine(module, inputs, lambda grads: _channels_last(grads, module.groups))


def transposed_convolution(module: Any, x: Tensor) -> Parts:
    """Take every entry of the input for a position of a linear map to patches of the output."""
    inputs = _channels_last(x[:, None], module.groups)[:, 0]
    around = [side for size in reversed(module.padding) for side in (size, size)]

    def unpacked(total: Tensor) -> dict[str, Tensor]:
        return {"weight": total.transpose(1, 2).reshape(module.weight.shape)}

    def parts(grads: Tensor) -> list[Part]:
        found: list[Part] = []
        if _trained(module, "bias"):
            sums = grads.flatten(3).sum(dim=3)
            found.append((Rows(sums), lambda total: {"bias": total}))
        if _trained(module, "weight"):
            padded = F.pad(grads.flatten(0, 1), around)
            patches = _patches(padded, module.kernel_size, module.stride, module.dilation)
            for axis, size in enumerate(x.shape[2:], start=2):
                patches = patches.narrow(axis, 0, size)
            outputs = torch.unflatten(_grouped(patches, module.groups), 0, grads.shape[:2])
            found.append((Outer(inputs, outputs), unpacked))
        return found

    return parts


def embedding(module: nn.Embedding, x: Tensor) -> Parts:
    """Each position adds to the row that it looks up, but for the padding."""
    places = x.reshape(len(x), -1)

    def parts(grads: Tensor) -> list[Part]:
        grads = grads.reshape(*grads.shape[:2], -1, module.embedding_dim)
        if module.padding_idx is not None:
            grads = grads * (places != module.padding_idx)[:, None, :, None]
        return [(Lookup(places, grads, module.num_embeddings), lambda total: {"weight": total})]

    return parts


def layer_norm(module: nn.LayerNorm, x: Tensor) -> Parts:
    """One weight a feature."""
    normal = F.layer_norm(x, module.normalized_shape, eps=module.eps)
    return _elementwise(module, normal, len(module.normalized_shape))


def rms_norm(module: Any, x: Tensor) -> Parts:
    """One weight a feature."""
    normal = F.rms_norm(x, module.normalized_shape, eps=module.eps)
    return _elementwise(module, normal, len(module.normalized_shape))


def group_norm(module: nn.GroupNorm, x: Tensor) -> Parts:
    """One weight a channel."""
    return _by_channel(module, F.group_norm(x, module.num_groups, eps=module.eps))


def batch_norm(module: Any, x: Tensor) -> Parts:
    """One weight a channel, with running statistics."""
    normal = F.batch_norm(x, module.running_mean, module.running_var, eps=module.eps)
    return _by_channel(module, normal)


def instance_norm(module: Any, x: Tensor) -> Parts:
    """One weight a channel; running statistics only if it keeps them."""
    statistics = module.running_mean, module.running_var
    own = statistics[0] is None
    return _by_channel(module, F.instance_norm(x, *statistics, use_input_stats=own, eps=module.eps))


def table(module: Table, x: Tensor) -> Parts:
    """Each sample has a gradient of its own, where the parameter is repeated for it."""
    name, shape = module.attribute, module.owner.get_parameter(module.attribute).shape
    return lambda grads: [(Rows(grads.flatten(2)), lambda total: {name: total.view(shape)})]


#: By exact type, since a subclass may compute anything.
RULES: dict[type, Rule] = {
    Table: table,
    nn.Linear: linear,
    nn.modules.linear.NonDynamicallyQuantizableLinear: linear,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), convolution),
    **dict.fromkeys(
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), transposed_convolution
    ),
    nn.Embedding: embedding,
    nn.LayerNorm: layer_norm,
    nn.RMSNorm: rms_norm,
    nn.GroupNorm: group_norm,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), batch_norm),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), instance_norm),
}

#: Rules for which samples need not be the first axis: features come last, the rest are positions.
POSITIONWISE = frozenset({linear, embedding, layer_norm, rms_norm})


def _trained(module: nn.Module, name: str) -> bool:
    parameter = getattr(module, name, None)
    return parameter is not None and parameter.requires_grad


def _affine(module: Any, inputs: Tensor, arranged: Callable[[Tensor], Tensor]) -> Parts:
    """Return the part of a weight and a bias, which is the weight of an input that is always 1."""
    weighted, biased = _trained(module, "weight"), _trained(module, "bias")
    values = inputs if weighted else inputs[..., :0]
    alike = cache(partial(inner_products, values, biased))

    def unpacked(total: Tensor) -> dict[str, Tensor]:
        found = {}
        if weighted:
            weights = total[..., :-1] if biased else total
            found["weight"] = weights.reshape(module.weight.shape)
        if biased:
            found["bias"] = total[..., -1].flatten()
        return found

    return lambda grads: [(Outer(values, arranged(grads), biased, alike), unpacked)]


def _by_channel(module: Any, normal: Tensor) -> Parts:
    """Return the parts of a weight and a bias a channel."""
    parts = _elementwise(module, normal.movedim(1, -1), 1)
    return lambda grads: parts(grads.movedim(2, -1))


def _elementwise(module: Any, normal: Tensor, n_axes: int) -> Parts:
    """Return the parts of a weight and a bias an entry of the last axes."""
    size = normal.shape[normal.ndim - n_axes :].numel()
    normal = normal.reshape(len(normal), 1, -1, size)

    def unpacked(name: str) -> Callable[[Tensor], dict[str, Tensor]]:
        return lambda total: {name: total.reshape(getattr(module, name).shape)}

    def parts(grads: Tensor) -> list[Part]:
        grads = grads.reshape(*grads.shape[:2], -1, size)
        found: list[Part] = []
        if _trained(module, "weight"):
            found.append((Rows((grads * normal).sum(dim=2)), unpacked("weight")))
        if _trained(module, "bias"):
            found.append((Rows(grads.sum(dim=2)), unpacked("bias")))
        return found

    return parts


def _patches(x: Tensor, kernel: Any, stride: Any, dilation: Any) -> Tensor:
    """Return the patches of (N, C, *positions), of shape (N, C, *patches, *kernel)."""
    sizes = zip(kernel, stride, dilation, strict=True)
    for axis, (size, step, spread) in enumerate(sizes, start=2):
        x = x.unfold(axis, (size - 1) * spread + 1, step)[..., ::spread]
    return x


def _grouped(patches: Tensor, groups: int) -> Tensor:
    """Return patches (N, C, *patches, *kernel) as (N, G, T, C / G * kernel)."""
    axes = (patches.ndim - 2) // 2
    by_entry = patches.permute(0, 1, *range(2 + axes, 2 + 2 * axes), *range(2, 2 + axes))
    split = torch.unflatten(by_entry, 1, (groups, -1))
    return split.reshape(*split.shape[:2], split.shape[2 : 3 + axes].numel(), -1).transpose(2, 3)


def _channels_last(grads: Tensor, groups: int) -> Tensor:
    """Return (N, K, C, *positions) as (N, K, G, T, C / G)."""
    return torch.unflatten(grads.flatten(3), 2, (groups, -1)).transpose(3, 4)
