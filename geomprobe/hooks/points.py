"""What a point is: a layer's output, arranged so that rows can be chosen before any is copied."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from geomprobe.hooks.outputs import Unobservable
from geomprobe.hooks.transfers import on_device
from geomprobe.storage import Array

#: Ways to make points of a sample that has many positions; see :func:`arrange`.
POOLS = ("auto", "flatten", "mean", "positions", "tokens", "last", "cls")
#: Order of samples (n), positions (t) and channels (c) in tensors of three axes; see
#: :func:`layout_of` for ``"auto"``.
LAYOUTS = ("auto", "ntc", "tnc", "nct")

_CHANNELS_SECOND = re.compile("(Lazy)?(Conv|BatchNorm|InstanceNorm|GroupNorm|.*Pool[123]d)")
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.RNNBase)
_OF_TOKENS = (nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.RNNBase, nn.MultiheadAttention)


class WrongAxis(ValueError):
    """The samples of a model run along another axis, so that no cloud of it can be right."""


@dataclass(frozen=True)
class Rows:
    """Rows that can be taken from one output of a layer.

    Parameters
    ----------
    values : Tensor of shape (n_samples, ...)
        What is indexed first: the output, or a view of it.
    pool : str
        How the points were made.
    samples : int array of shape (rows,)
        Which sample of the batch each row belongs to.
    places : int array of shape (rows,), or None
        Which position of its sample each row is, where a sample has several rows.
    width : int
        Length of a row.
    masked : bool
        Whether padding was left out.
    reduce : callable or None
        ``reduce(taken, samples)``: from the values of some samples to one row each.
    """

    values: torch.Tensor
    pool: str
    samples: Array
    places: Array | None
    width: int
    masked: bool = False
    reduce: Callable[[torch.Tensor, Array], torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, rows: Array) -> torch.Tensor:
        """Return some rows on their device, shape (len(rows), width); perhaps a view: copy it."""
        samples, device = self.samples[rows], self.values.device
        if self.places is not None:
            return self.values[on_device(samples, device), on_device(self.places[rows], device)]
        taken = self.values
        if len(rows) < len(taken) or not np.array_equal(samples, np.arange(len(taken))):
            taken = taken.index_select(0, on_device(samples, device))
        return taken.reshape(len(taken), -1) if self.reduce is None else self.reduce(taken, samples)


def layout_of(model: nn.Module) -> str:
    """Return how a model most likely lays out three axes where a layer's type does not tell.

    ``"nct"`` for a network of one-dimensional convolutions, without embeddings, attention,
    recurrent layers, LayerNorm or RMSNorm; ``"ntc"`` for all others.
    """
    modules = list(model.modules())
    convolves = any(isinstance(module, nn.Conv1d | nn.ConvTranspose1d) for module in modules)
    of_tokens = any(isinstance(module, _OF_TOKENS) for module in modules)
    return "nct" if convolves and not of_tokens else "ntc"


def arrange(
    output: torch.Tensor | PackedSequence,
    module: nn.Module,
    *,
    pool: str = "auto",
    layout: str = "ntc",
    port: str = "",
    real: Array | None = None,
    n_samples: int | None = None,
) -> Rows:
    """Arrange a layer's output as rows of points.

    Parameters
    ----------
    output : Tensor or PackedSequence
        A tensor of shape (n, d) has a point a row. With three axes it is a sequence, laid out as
        ``layout`` says unless the layer's type tells: RNNs and attention by ``batch_first``,
        one-dimensional convolutions, norms and pools ``"nct"``. With four axes or more it is a map,
        channels second (last, for Linear and LayerNorm). Packed sequences and nested tensors have
        no padding.
    module : torch.nn.Module
        The layer.
    pool : str
        ``"flatten"``: one point a sample, all its activations. ``"mean"``: one point a sample, the
        mean over positions. ``"positions"`` or ``"tokens"``: one point a position. ``"last"`` and
        ``"cls"``: the last and the first token of a sequence. ``"auto"``: ``"flatten"`` for maps,
        ``"mean"`` for sequences.
    layout : {"ntc", "tnc", "nct"}
        Axes of sequences.
    port : str
        Which part of what the layer returns or takes this is; see :mod:`geomprobe.hooks.names`.
    real : bool array of shape (n_samples, positions), optional
        Which positions of sequences are not padding; the others never enter a point.
    n_samples : int, optional
        How many samples the model was given.

    Raises
    ------
    Unobservable
        The axes do not fit, or the pool makes no sense for this output.
    WrongAxis
        The samples of the model seem to run along another axis than was said.
    """
    said = layout
    if isinstance(output, PackedSequence) or output.is_nested:
        values, lengths = _padded(output)
        real = np.arange(values.shape[1]) < lengths[:, None]
        whole, is_map = values, False
    elif output.ndim == 3:
        layout = _layout(module, layout, port)
        values = output.permute(*(layout.index(axis) for axis in "ntc"))
        is_map = layout == "nct"
        whole = output if is_map else values
    else:
        values, is_map, whole = output, output.ndim > 3, output
        if is_map and not isinstance(module, _CHANNELS_LAST):
            values = output.movedim(1, -1)
        values = values.flatten(1, -2) if is_map else values.reshape(len(values), -1)
    if n_samples is not None and len(values) != n_samples:
        second = values.shape[1] if values.ndim == 3 and not is_map else None
        if layout == "tnc" != said and not port and second == n_samples:
            raise WrongAxis(
                f"a {type(module).__name__} with batch_first=False has {len(values)} samples along "
                f"its second axis, where the model was given {n_samples}: the samples of the model "
                "seem to run along the second axis as well; give layout='tnc'"
            )
        raise Unobservable(
            f"the output has {len(values)} rows for {n_samples} samples, so that rows cannot be "
            "told to samples"
        )
    if values.ndim == 2:
        return Rows(values, "none", np.arange(len(values)), None, values.shape[1])
    if pool == "auto":
        pool = "flatten" if is_map else "mean"
    if is_map and pool in ("last", "cls"):
        raise Unobservable(f"a map of channels has no tokens for pool={pool!r}; use 'mean'")
    if real is not None and not is_map:
        return _sequence(values, pool, real)
    if is_map and pool == "mean":
        samples, width = np.arange(len(values)), values.shape[2]
        channels = whole.ndim - 1 if isinstance(module, _CHANNELS_LAST) else 1
        return Rows(whole, pool, samples, None, width, reduce=partial(_mean_of_map, axis=channels))
    if pool == "flatten":
        width = values.shape[1] * values.shape[2]
        return Rows(whole, pool, np.arange(len(values)), None, width)
    return _sequence(values, pool, None)


def _padded(ragged: torch.Tensor | PackedSequence) -> tuple[torch.Tensor, Array]:
    """Return sequences of shape (n, t, c), and the length of each."""
    if isinstance(ragged, PackedSequence):
        values, lengths = pad_packed_sequence(ragged, batch_first=True)
        return values, lengths.numpy()
    parts = ragged.unbind()
    if any(part.ndim != 2 for part in parts):
        raise Unobservable("a nested tensor whose parts are no sequences of vectors")
    values = nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
    return values, np.array([len(part) for part in parts])


def _sequence(values: torch.Tensor, pool: str, real: Array | None) -> Rows:
    n, positions, width = values.shape
    if real is not None and real.shape == (positions, n) and n != positions:
        raise Unobservable(
            f"its first axes are {n} and {positions}, and those of the padding mask the other way "
            "round: give layout='tnc' if samples run along the second axis, or mask=None"
        )
    if real is not None and len(real) != n:
        real = None  # A mask of something else, such as the text beside these images.
    if real is not None and real.shape[1] != positions:
        raise Unobservable(
            f"it has {positions} positions where the padding mask has {real.shape[1]}; give a mask "
            "that fits, or mask=None to take every position"
        )
    if real is not None and pool == "flatten":
        raise Unobservable("pool='flatten' would take padding for data; use 'mean' or 'tokens'")
    masked = real is not None
    if pool in ("positions", "tokens"):
        everywhere = np.ones((n, positions), bool) if real is None else real
        samples, places = np.nonzero(everywhere)
        return Rows(values, pool, samples, places, width, masked)
    samples = np.arange(n) if real is None else np.flatnonzero(real.any(axis=1))
    reduce = partial(_mean, real=real) if pool == "mean" else partial(_end, pool=pool, real=real)
    return Rows(values, pool, samples, None, width, masked, reduce)


def _mean_of_map(taken: torch.Tensor, samples: Array, axis: int) -> torch.Tensor:
    positions = [i for i in range(1, taken.ndim) if i != axis]
    return (taken.float() if taken.dtype.itemsize < 4 else taken).mean(dim=positions)


def _mean(taken: torch.Tensor, samples: Array, real: Array | None) -> torch.Tensor:
    taken = taken.float() if taken.dtype.itemsize < 4 else taken
    if real is None:
        return taken.mean(dim=1)
    counted = on_device(real[samples], taken.device)[:, :, None]
    return torch.where(counted, taken, 0).sum(dim=1) / counted.sum(dim=1)


def _end(taken: torch.Tensor, samples: Array, pool: str, real: Array | None) -> torch.Tensor:
    last = taken.shape[1] - 1
    if real is None:
        return taken[:, 0 if pool == "cls" else last]
    kept = real[samples]
    place = kept.argmax(axis=1) if pool == "cls" else last - kept[:, ::-1].argmax(axis=1)
    return taken[torch.arange(len(taken), device=taken.device), on_device(place, taken.device)]


def _layout(module: nn.Module, layout: str, port: str) -> str:
    if port.startswith("#out.1"):  # States and attention weights, whatever batch_first says.
        if isinstance(module, nn.RNNBase):
            return "tnc"
        if isinstance(module, nn.MultiheadAttention):
            return "ntc"
    if any(_CHANNELS_SECOND.match(kind.__name__) for kind in type(module).__mro__):
        return "nct"
    if layout == "nct" and isinstance(module, _CHANNELS_LAST):
        return "ntc"
    own: Any = getattr(module, "batch_first", None)
    if isinstance(module, nn.TransformerEncoder | nn.TransformerDecoder) and len(module.layers):
        module = module.layers[0]
    attention = getattr(module, "self_attn", None)
    batch_first = getattr(attention, "batch_first", None) if own is None else own
    return layout if batch_first is None else "ntc" if batch_first else "tnc"
