"""The trace of a Fisher information, without its Gram matrix."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples
from geomprobe.findings import Estimate
from geomprobe.hooks import quiet
from geomprobe.information.fisher import Room
from geomprobe.information.layerwise import Layer, LayoutError, passes, prepared
from geomprobe.information.likelihoods import Likelihood
from geomprobe.information.setting import Setting, setting_of
from geomprobe.jacobians import (
    Parameters,
    jacobian_products,
    not_finite,
    require_independence,
    row_dtype,
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
    return mean_over_inputs(sample_traces(setting, batch_size, memory_share).cpu().numpy())


def mean_over_inputs(each: Array) -> Estimate:
    """Return the mean of what was computed exactly at each input."""
    n = len(each)
    return Estimate(
        float(each.mean()),
        float(each.std(ddof=1) / n**0.5) if n > 1 else float("nan"),
        n,
        method="exact at each input; standard error from the spread over inputs",
    )


def sample_traces(
    setting: Setting, batch_size: int | None = None, memory_share: float = 0.5
) -> Tensor:
    """Return the trace at each input: float64 of shape (N,)."""
    dtype = row_dtype(setting.parameters)
    n_samples, per_sample = setting.cotangents.shape[:2]
    room = Room(n_samples, per_sample, dtype, batch_size, memory_share)
    with quiet(setting.model):
        layers = setting.layers
        try:
            each = _of_layers(setting, layers, room)
        except LayoutError:
            layers = {}
            each = _of_layers(setting, layers, room)
        each += _of_gradients(setting, setting.left(layers), room)
    finite = torch.isfinite(each)
    if not bool(finite.all()):
        raise ValueError(not_finite("gradients", finite))
    return each


def _of_layers(setting: Setting, layers: Mapping[str, Layer], room: Room) -> Tensor:
    """Return what layers add to the trace at each input."""
    traces = torch.zeros(len(setting.data), dtype=torch.float64, device="cpu")
    if not layers:
        return traces
    for one in passes(setting.model, layers, setting.data, room.chunk_of(layers)):
        require_independence(
            one.outputs, setting.outputs[one.here], row_epsilon(setting.parameters)
        )
        ready = {name: prepared(layer, one.inputs[name]) for name, layer in layers.items()}
        for vectors in setting.cotangents[one.here].unbind(dim=1):
            grads = one.gradients(vectors)
            for name, parts in ready.items():
                for factor, _ in parts([rows[:, None] for rows in grads[name]]):
                    traces[one.here] += factor.squares()[:, 0].cpu()
    return traces


def _of_gradients(setting: Setting, parameters: Parameters, room: Room) -> Tensor:
    """Return what other parameters add to the trace at each input."""
    traces = torch.zeros(len(setting.data), dtype=torch.float64, device="cpu")
    if not parameters:
        return traces
    size = room.chunk_of_rows(parameters)
    for start in range(0, len(setting.data), size):
        here = slice(start, start + size)
        data, cotangents = setting.data.take(here), setting.cotangents[here]
        rows, _ = jacobian_products(
            setting.model, parameters, data, setting.outputs[here], cotangents, size
        )
        traces[here] = rows.square().sum(dim=1).view(len(data), -1).sum(dim=1).cpu().double()
    return traces
