"""What each kind of layer makes of its input and of the gradients at its output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geomprobe.information.factors import Factor, Lookup, Outer, Rows

#: A factor, and what turns its total into the gradient of each of its parameters.
Part = tuple[Factor, Callable[[Tensor], dict[str, Tensor]]]
#: ``rule(module, input, grads)`` for an input of N samples and gradients (N, K, ...) at the output
#: gives the parts of the module's own parameters that require a gradient.
Rule = Callable[[Any, Tensor, Tensor], list[Part]]


def linear(module: nn.Linear, x: Tensor, grads: Tensor) -> list[Part]:
    """Positions between the sample and the features add up."""
    n, k = grads.shape[:2]
    inputs = x.reshape(n, 1, -1, module.in_features)
    return _affine(module, inputs, grads.reshape(n, k, 1, -1, module.out_features))


def convolution(module: Any, x: Tensor, grads: Tensor) -> list[Part]:
    """Take every patch of the input for a position of a linear map."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    patches = _patches(padded, module.kernel_size, module.stride, module.dilation)
    return _affine(module, _grouped(patches, module.groups), _channels_last(grads, module.groups))


def transposed_convolution(module: Any, x: Tensor, grads: Tensor) -> list[Part]:
    """Take every entry of the input for a position of a linear map to patches of the output."""
    n, k = grads.shape[:2]
    parts: list[Part] = []
    if _trained(module, "bias"):
        sums = grads.flatten(3).sum(dim=3)
        parts.append((Rows(sums), lambda total: {"bias": total}))
    if _trained(module, "weight"):
        around = [side for size in reversed(module.padding) for side in (size, size)]
        padded = F.pad(grads.flatten(0, 1), around)
        patches = _patches(padded, module.kernel_size, module.stride, module.dilation)
        for axis, size in enumerate(x.shape[2:], start=2):
            patches = patches.narrow(axis, 0, size)
        outputs = torch.unflatten(_grouped(patches, module.groups), 0, (n, k))
        inputs = _channels_last(x[:, None], module.groups)[:, 0]

        def unpacked(total: Tensor) -> dict[str, Tensor]:
            return {"weight": total.transpose(1, 2).reshape(module.weight.shape)}

        parts.append((Outer(inputs, outputs), unpacked))
    return parts


def embedding(module: nn.Embedding, x: Tensor, grads: Tensor) -> list[Part]:
    """Each position adds to the row that it looks up, but for the padding."""
    n, k = grads.shape[:2]
    places, grads = x.reshape(n, -1), grads.reshape(n, k, -1, module.embedding_dim)
    if module.padding_idx is not None:
        grads = grads * (places != module.padding_idx)[:, None, :, None]
    return [(Lookup(places, grads, module.num_embeddings), lambda total: {"weight": total})]


def layer_norm(module: nn.LayerNorm, x: Tensor, grads: Tensor) -> list[Part]:
    """One weight a feature."""
    normal = F.layer_norm(x, module.normalized_shape, eps=module.eps)
    return _elementwise(module, normal, grads, len(module.normalized_shape))


def rms_norm(module: Any, x: Tensor, grads: Tensor) -> list[Part]:
    """One weight a feature."""
    normal = F.rms_norm(x, module.normalized_shape, eps=module.eps)
    return _elementwise(module, normal, grads, len(module.normalized_shape))


def group_norm(module: nn.GroupNorm, x: Tensor, grads: Tensor) -> list[Part]:
    """One weight a channel."""
    normal = F.group_norm(x, module.num_groups, eps=module.eps)
    return _elementwise(module, normal.movedim(1, -1), grads.movedim(2, -1), 1)


def batch_norm(module: Any, x: Tensor, grads: Tensor) -> list[Part]:
    """One weight a channel, with running statistics."""
    normal = F.batch_norm(x, module.running_mean, module.running_var, eps=module.eps)
    return _elementwise(module, normal.movedim(1, -1), grads.movedim(2, -1), 1)


def instance_norm(module: Any, x: Tensor, grads: Tensor) -> list[Part]:
    """One weight a channel; running statistics only if it keeps them."""
    statistics = module.running_mean, module.running_var
    own = statistics[0] is None
    normal = F.instance_norm(x, *statistics, use_input_stats=own, eps=module.eps)
    return _elementwise(module, normal.movedim(1, -1), grads.movedim(2, -1), 1)


#: By exact type, since a subclass may compute anything.
RULES: dict[type[nn.Module], Rule] = {
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


def _affine(module: Any, inputs: Tensor, grads: Tensor) -> list[Part]:
    """Return the part of a weight and a bias, which is the weight of an input that is always 1."""
    weighted, biased = _trained(module, "weight"), _trained(module, "bias")
    if not weighted and not biased:
        return []
    ones = inputs.new_ones(*inputs.shape[:3], int(biased))
    joined = torch.cat([inputs, ones], dim=3) if weighted else ones

    def unpacked(total: Tensor) -> dict[str, Tensor]:
        found = {}
        if weighted:
            weights = total[..., :-1] if biased else total
            found["weight"] = weights.reshape(module.weight.shape)
        if biased:
            found["bias"] = total[..., -1].flatten()
        return found

    return [(Outer(joined, grads), unpacked)]


def _elementwise(module: Any, normal: Tensor, grads: Tensor, n_axes: int) -> list[Part]:
    """Return the parts of a weight and a bias an entry of the last axes."""
    n, k = grads.shape[:2]
    size = normal.shape[normal.ndim - n_axes :].numel()
    gradients = {"weight": grads * normal[:, None], "bias": grads}
    parts: list[Part] = []
    for name, gradient in gradients.items():
        if _trained(module, name):
            shape = getattr(module, name).shape
            rows = gradient.reshape(n, k, -1, size).sum(dim=2)

            def unpacked(total: Tensor, name: str = name, shape: Any = shape) -> dict[str, Tensor]:
                return {name: total.reshape(shape)}

            parts.append((Rows(rows), unpacked))
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
    n, channels = patches.shape[:2]
    flat = patches.reshape(n, groups, channels // groups, patches.shape[2 : 2 + axes].numel(), -1)
    return flat.movedim(3, 2).flatten(3)


def _channels_last(grads: Tensor, groups: int) -> Tensor:
    """Return (N, K, C, *positions) as (N, K, G, T, C / G)."""
    return torch.unflatten(grads.flatten(3), 2, (groups, -1)).transpose(3, 4)
