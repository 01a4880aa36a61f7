"""The trace of a Fisher information, without its Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples
from geomprobe.findings import Estimate
from geomprobe.hooks import quiet
from geomprobe.information.layerwise import Layer, LayoutError, parts_of, record
from geomprobe.information.likelihoods import Likelihood
from geomprobe.information.setting import LARGEST_BATCH, Setting, setting_of
from geomprobe.jacobians import (
    jacobian_products,
    not_finite,
    require_independence,
    row_epsilon,
)
from geomprobe.storage import Array


def fisher_trace(
    model: nn.Module,
    data: Samples,
    *,
    kind: str = "true",
    likelihood: Likelihood | None = None,
    loss: Loss | None = None,
    draws: int = 1,
    seed: int = 0,
    batch_size: int | None = None,
    memory_share: float = 0.5,
) -> Estimate:
    """Compute the trace of a Fisher information, exactly at each input.

    Parameters and errors are those of :func:`~geomprobe.information.fisher_gram`.

    Returns
    -------
    Estimate
        The standard error is from the spread over inputs.

    Notes
    -----
    The squared norms of all rows, layer by layer: O(M) memory beside the inputs and gradients of
    one batch, and as many backward passes to the layers' outputs as there are rows a sample. What
    has no rule is left to per-sample gradients, batch by batch.
    """
    setting = setting_of(
        model,
        data,
        kind=kind,
        likelihood=likelihood,
        loss=loss,
        draws=draws,
        seed=seed,
        batch_size=batch_size,
        memory_share=memory_share,
    )
    return mean_over_inputs(sample_traces(setting, batch_size).cpu().numpy())


def mean_over_inputs(each: Array) -> Estimate:
    """Return the mean of what was computed exactly at each input."""
    n = len(each)
    return Estimate(
        float(each.mean()),
        float(each.std(ddof=1) / n**0.5) if n > 1 else float("nan"),
        n,
        method="exact at each input; standard error from the spread over inputs",
    )


def sample_traces(setting: Setting, batch_size: int | None = None) -> Tensor:
    """Return the trace at each input: float64 of shape (N,)."""
    size = max(1, 2 * min(batch_size or LARGEST_BATCH, len(setting.data)) // 3)
    with quiet(setting.model):
        each = torch.cat(list(_traces(setting, size))).double()
    finite = torch.isfinite(each)
    if not bool(finite.all()):
        raise ValueError(not_finite("gradients", finite))
    return each


def _traces(setting: Setting, size: int) -> Iterator[Tensor]:
    """Yield the traces of some samples at a time."""
    layers = setting.layers()
    for start in range(0, len(setting.data), size):
        here = slice(start, start + size)
        data, cotangents = setting.data.take(here), setting.cotangents[here]
        squares = torch.zeros(cotangents.shape[:2], device=cotangents.device)
        try:
            if layers:
                squares = squares + _of_layers(setting, layers, here)
        except LayoutError:
            layers = {}
        left = setting.left(layers)
        if left:
            rows, _ = jacobian_products(
                setting.model, left, data, setting.outputs[here], cotangents, len(data)
            )
            squares = squares + rows.square().sum(dim=1).view(squares.shape)
        yield squares.sum(dim=1)


def _of_layers(setting: Setting, layers: Mapping[str, Layer], here: slice) -> Tensor:
    cotangents = setting.cotangents[here]
    recorded, alone = record(
        setting.model, layers, setting.data.take(here), cotangents, len(cotangents)
    )
    require_independence(alone, setting.outputs[here], row_epsilon(setting.parameters))
    squares = [
        factor.squares()
        for name, layer in layers.items()
        for factor, _ in parts_of(layer, recorded.pop(name))
    ]
    return torch.stack(squares).sum(dim=0)
