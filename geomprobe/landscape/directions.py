"""Directions in the space of parameters: random ones in units of the weights, and given ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.hooks.selection import unwrap
from geomprobe.jacobians import Parameters, row_dtype, trainable_parameters

NORMALIZATIONS = ("filter", "entry")

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def random_directions(
    model: nn.Module,
    k: int = 2,
    *,
    normalize: str | None = "filter",
    biases: bool = False,
    seed: int = 0,
) -> Tensor:
    r"""Draw directions in parameter space whose unit of length is the weights' own size.

    With ``"filter"``, every filter :math:`d_f` of a normal direction is brought, once, to the norm
    of the filter of the weights (Li et al. 2018),

    .. math::
        d_f \leftarrow \frac{d_f}{\|d_f\|} \|w_f\|,

    and with ``"entry"`` every entry is multiplied by the absolute value of its weight. A step of
    length 1 then changes each filter, or each weight, by as much as it is.

    Parameters
    ----------
    model : torch.nn.Module
        Read only.
    k : int
        How many directions.
    normalize : {"filter", "entry", None}
        None draws from the standard normal distribution.
    biases : bool
        By default parameters of one dimension and those of norm layers stay where they are, as in
        the paper. Otherwise each such vector moves as one filter.
    seed : int
        The same seed draws the same numbers for models of one shape.

    Returns
    -------
    Tensor of shape (p, k)
        A column a direction, over the trainable parameters in their order.

    Raises
    ------
    ValueError
        Another ``normalize``, k < 1, no trainable parameters, or none that may move.

    Notes
    -----
    A filter is all that leads to one output: a row of a linear layer, of an embedding, of a
    projection, or the kernel of an output channel. A filter of zeros has direction zero.

    Slices along these directions do not change when every filter is multiplied by a factor of its
    own and the function stays: a filter before batch norm, with its statistics; a whole ReLU layer,
    with the inverse for the whole next one. Where the units of a layer have different factors, the
    filters of the next change their shape, and only ``"entry"`` follows.

    References
    ----------
    Li, H., Xu, Z., Taylor, G., Studer, C. and Goldstein, T. (2018). Visualizing the loss landscape
    of neural nets. NeurIPS, section 4. By entry: Kwon, J., Kim, J., Park, H. and Choi, I. K.
    (2021). ASAM: adaptive sharpness-aware minimization. ICML.
    """
    if normalize is not None and normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize must be one of {(*NORMALIZATIONS, None)}, got {normalize!r}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    model = unwrap(model)
    parameters = trainable_parameters(model)
    layers = _layers(model)
    generator = torch.Generator().manual_seed(seed)
    columns = []
    for _ in range(k):
        parts = []
        for name, weight in parameters.items():
            noise = torch.randn(
                weight.shape, generator=generator, dtype=torch.float64, device="cpu"
            )
            layer = layers.get(name)
            moves = biases or (weight.ndim > 1 and not isinstance(layer, _NORMS))
            part = _normalized(noise, weight.cpu().double(), layer, normalize)
            parts.append(part.reshape(-1) if moves else torch.zeros(weight.numel(), device="cpu"))
        columns.append(torch.cat([part.to(row_dtype(parameters)) for part in parts]))
    directions = torch.stack(columns, dim=1)
    if not bool(directions.any()):
        raise ValueError(
            "no parameter may move: all weights are zero, or all are biases or those of norm "
            "layers; give biases=True, normalize=None, or directions of your own"
        )
    return directions.to(next(iter(parameters.values())).device)


def columns_of(given: Any, parameters: Parameters) -> Tensor:
    """Return directions as a tensor of shape (p, k), as :func:`random_directions` does.

    Parameters
    ----------
    given : tensor or array of shape (p,) or (p, k), mapping, or sequence of vectors and mappings
        A mapping is by name of the parameter; parameters that it leaves out do not move.
    parameters : dict
        The trainable parameters.

    Raises
    ------
    ValueError
        Another shape, unknown names, more than two directions, or one that is zero or not finite.
    """
    if isinstance(given, Mapping):
        given = [given]
    if isinstance(given, Tensor | np.ndarray):
        columns = _tensor(given)
        columns = columns[:, None] if columns.ndim == 1 else columns
    elif isinstance(given, Sequence) and not isinstance(given, str) and given:
        columns = torch.stack([_vector(one, parameters) for one in given], dim=1)
    else:
        raise ValueError(
            "directions must be vectors over the parameters, as columns of an array of shape "
            f"(p, k), or mappings by name of the parameter; got {type(given).__name__}"
        )
    first = next(iter(parameters.values()))
    columns = columns.detach().to(first.device, row_dtype(parameters))
    p = sum(parameter.numel() for parameter in parameters.values())
    if columns.ndim != 2 or len(columns) != p or columns.shape[1] not in (1, 2):
        raise ValueError(
            f"directions must have shape ({p}, 1) or ({p}, 2), a column a direction over the "
            f"{p} trainable parameters, got {tuple(columns.shape)}"
        )
    for place, column in enumerate(columns.T, start=1):
        if not bool(torch.isfinite(column).all()) or not bool(column.any()):
            raise ValueError(f"direction {place} is zero or not finite, and leads nowhere")
    return columns


def _tensor(given: Any) -> Tensor:
    return given if isinstance(given, Tensor) else torch.as_tensor(given, device="cpu")


def _vector(given: Any, parameters: Parameters) -> Tensor:
    if not isinstance(given, Mapping):
        return _tensor(given).reshape(-1).cpu().double()
    unknown = sorted(set(given) - set(parameters))
    if unknown:
        raise ValueError(
            f"the model has no trainable parameters {unknown}; it has {sorted(parameters)}"
        )
    parts = []
    for name, parameter in parameters.items():
        part = _tensor(given.get(name, torch.zeros_like(parameter)))
        if part.shape != parameter.shape:
            raise ValueError(
                f"the direction of {name!r} must have shape {tuple(parameter.shape)}, "
                f"got {tuple(part.shape)}"
            )
        parts.append(part.reshape(-1).cpu().double())
    return torch.cat(parts)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the module that owns each parameter, by the parameter's name."""
    return {
        f"{prefix}.{name}" if prefix else name: module
        for prefix, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }


def _normalized(
    noise: Tensor, weight: Tensor, layer: nn.Module | None, normalize: str | None
) -> Tensor:
    if normalize is None:
        return noise
    if normalize == "entry":
        return noise * weight.abs()
    kept: tuple[int, ...] = (0,) if weight.ndim > 1 else ()
    if isinstance(layer, _TRANSPOSED) and weight.ndim > 2:
        # Of shape (groups * entering, leaving, ...): an output channel for each group and column.
        shape = (layer.groups, -1, *weight.shape[1:])
        noise, weight = noise.reshape(shape), weight.reshape(shape)
        kept = (0, 2)
    over = tuple(axis for axis in range(weight.ndim) if axis not in kept)
    sizes, lengths = (
        part.square().sum(dim=over, keepdim=True).sqrt() if over else part.abs()
        for part in (weight, noise)
    )
    return noise / lengths * sizes
