"""From whatever a layer returns to rows: one point a row, and which sample each row belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

POOLS = ("flatten", "mean", "positions")

_CHANNELS_SECOND = ("Conv", "BatchNorm", "InstanceNorm", "GroupNorm", "Pool")


class Unobservable(Exception):
    """A layer's output cannot become points; the message is the reason."""


def output_tensor(output: Any) -> torch.Tensor:
    """Return the first floating-point tensor in a layer's output.

    Tuples, lists, dicts, dataclasses and everything registered as a pytree are looked into.

    Raises
    ------
    Unobservable
        There is none, or it cannot be read row by row.
    """
    if isinstance(output, PackedSequence):
        raise Unobservable("a PackedSequence mixes samples; observe a layer that returns padding")
    leaves = pytree.tree_leaves(output)
    if not any(isinstance(leaf, torch.Tensor) for leaf in leaves):
        leaves = pytree.tree_leaves(_opened(output))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.layout == torch.strided and tensor.ndim:
            return tensor
    if tensors:
        kinds = ", ".join(sorted({str(t.dtype).removeprefix("torch.") for t in tensors}))
        raise Unobservable(f"no dense floating-point tensor in the output, only {kinds}")
    raise Unobservable(f"no tensor in an output of type {type(output).__name__}")


def _opened(output: Any) -> Any:
    if isinstance(output, Mapping):
        return dict(output)
    if dataclasses.is_dataclass(output):
        return [getattr(output, entry.name) for entry in dataclasses.fields(output)]
    return output


def output_rows(
    tensor: torch.Tensor, module: nn.Module, pool: str, n_samples: int | None
) -> tuple[torch.Tensor, int]:
    """Arrange a layer's output as points.

    Parameters
    ----------
    tensor : Tensor
        What the layer returned.
    module : torch.nn.Module
        The layer, which tells where the channels are.
    pool : {"flatten", "mean", "positions"}
        One point a sample from all its activations; one point a sample, averaged over positions;
        or one point a position. Channels are the second axis of outputs with four or more axes and
        of one-dimensional convolutions, norms and pools; otherwise the last axis.
    n_samples : int or None
        How many samples the model was given.

    Returns
    -------
    rows : Tensor of shape (n_samples * positions, d)
        A view where possible: copy before the next layer can change it.
    positions : int
        Rows that each sample has.

    Raises
    ------
    Unobservable
        The first axis does not run over the samples.
    """
    if tensor.ndim == 3 and not _batch_first(module):
        tensor = tensor.transpose(0, 1)
    if n_samples is not None and tensor.shape[0] != n_samples:
        raise Unobservable(
            f"the output has {tensor.shape[0]} rows for {n_samples} samples, so that rows cannot "
            "be told to samples"
        )
    if tensor.ndim <= 2 or pool == "flatten":
        return tensor.reshape(tensor.shape[0], -1), 1
    if tensor.ndim > 3 or type(module).__name__.startswith(_CHANNELS_SECOND):
        tensor = tensor.movedim(1, -1)
    tensor = tensor.flatten(1, -2)
    if pool == "mean":
        return tensor.mean(dim=1), 1
    return tensor.reshape(-1, tensor.shape[-1]), int(tensor.shape[1])


def _batch_first(module: nn.Module) -> bool:
    own = getattr(module, "batch_first", None)
    attention = getattr(module, "self_attn", None)
    return bool(getattr(attention, "batch_first", True) if own is None else own)
