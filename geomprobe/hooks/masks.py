"""Which positions of a batch of sequences are padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from geomprobe.hooks.outputs import Unobservable
from geomprobe.storage import Array

#: ``"auto"``, the name of an argument of the model, a callable of all its arguments, or none.
Mask = str | Callable[[dict[str, Any]], torch.Tensor] | None

#: Arguments that tell padding by convention, and whether True stands for a real token there.
_CONVENTIONS = {
    "attention_mask": True,
    "src_key_padding_mask": False,
    "key_padding_mask": False,
}
#: The same of the second sequences, those of the decoder, of a model that is given two.
_OF_DECODERS = {"decoder_attention_mask": True, "tgt_key_padding_mask": False}
_SECOND = ("tgt", "decoder_input_ids", "decoder_inputs_embeds", *_OF_DECODERS)

#: Scores this low give no weight.
_HIDDEN = -1e4


class Padding:
    """Which positions of the sequences in one batch are real, for one layer or another.

    Parameters
    ----------
    given : callable
        Returns what the model was called with, by name.
    n_samples : int or None
        Size of the batch.
    two : bool
        Whether the model is an encoder and a decoder, by its own account.
    """

    def __init__(
        self, given: Callable[[], dict[str, Any]], n_samples: int | None, two: bool = False
    ) -> None:
        self._given, self._n_samples, self._two = given, n_samples, two
        self._known: dict[Any, Array | None] = {}

    def of(self, mask: Mask, layer: str, shape: Sequence[int]) -> Array | None:
        """Return the real positions of a layer: see :func:`padding_mask`.

        Of a model that is given two sequences, ``"auto"`` takes the mask of the first in what
        lies in an encoder, that of the second in what lies in a decoder, and elsewhere the one
        that fits.

        Parameters
        ----------
        mask : str, callable or None
        layer : str
            Its dotted name.
        shape : sequence of int
            Shape of its output.

        Raises
        ------
        Unobservable
            Both fit.
        """
        if mask != "auto":
            return self._told(mask)
        given = _entries(self._given())
        if not self._two and all(given.get(name) is None for name in _SECOND):
            return self._told(mask)
        first, second = self._told(mask), self._told(mask, second=True)
        for part in layer.split("."):
            if "decoder" in part:
                return second
            if "encoder" in part:
                return first
        if first is None or first.shape[1] not in shape[:2]:
            return second
        if second is not None and second.shape[1] not in shape[:2]:
            return first
        raise Unobservable(
            "the model is given two sequences, and the layer's name does not tell which of them "
            "it sees: give mask={pattern: mask, ...}, for instance "
            "{'head': 'decoder_attention_mask'}, or None to take every position"
        )

    def _told(self, mask: Mask, *, second: bool = False) -> Array | None:
        if mask is None:
            return None
        key = mask if isinstance(mask, str) else id(mask), second
        if key not in self._known:
            self._known[key] = padding_mask(mask, self._given(), self._n_samples, second=second)
        return self._known[key]


def padding_mask(
    mask: Mask,
    given: Mapping[str, Any],
    n_samples: int | None,
    *,
    second: bool = False,
) -> Any:
    """Return which positions of a batch are real.

    Parameters
    ----------
    mask : str, callable or None
        The name of an argument that is nonzero, or True, at real positions, or of one of PyTorch's
        ``key_padding_mask``s (True at padding); a callable of all the arguments by name that
        returns a tensor that is nonzero at real positions; ``"auto"``: the argument
        ``attention_mask``, or a ``key_padding_mask``, if the model was given one of two axes, of
        zeros and ones, or of zeros and -inf at padding; ``None``: every position is real.
    given : mapping of str to Any
        What the model was called with; see :func:`~geomprobe.hooks.outputs.arguments`. If it is
        called with one mapping, that mapping's entries.
    n_samples : int or None
        Size of the batch.
    second : bool
        ``"auto"`` looks for the mask of the sequences that a decoder is given:
        ``decoder_attention_mask`` or ``tgt_key_padding_mask``.

    Returns
    -------
    bool array of shape (samples, positions), or None where all are real

    Raises
    ------
    ValueError
        The mask that was asked for is not there, or not of that shape.
    """
    if mask is None:
        return None
    given = _entries(given)
    if mask == "auto":
        conventions = _OF_DECODERS if second else _CONVENTIONS
        found = (_by_convention(name, given, n_samples) for name in conventions)
        return next((told for told in found if told is not None), None)
    if isinstance(mask, str) and mask not in given:
        raise ValueError(f"the model was given no argument {mask!r} as a mask, but {list(given)}")
    value = given[mask] if isinstance(mask, str) else mask(dict(given))
    if not (isinstance(value, torch.Tensor) and value.ndim == 2 and len(value) == n_samples):
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"a mask must have shape ({n_samples}, positions), got {got}")
    if isinstance(mask, str) and mask in {**_CONVENTIONS, **_OF_DECODERS}:
        return _by_convention(mask, given, n_samples)
    return value.detach().cpu().numpy() != 0


def _entries(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the entries of the one mapping that a model was given, or what it was given."""
    only = next(iter(given.values())) if len(given) == 1 else None
    return only if isinstance(only, Mapping) else given


def _by_convention(name: str, given: Mapping[str, Any], n_samples: int | None) -> Array | None:
    """Read an argument of a known name; None where it tells of no padding."""
    second = name in _OF_DECODERS
    real = (_OF_DECODERS if second else _CONVENTIONS)[name]
    told = _if_mask(given.get(name), n_samples, real)
    if told is None:
        return None
    mask: Array = told.numpy()
    return mask[:, -_positions(given, told.shape[1], second) :]


def _positions(given: Mapping[str, Any], told: int, second: bool) -> int:
    """Return how many positions the model is shown: with a cache of the past, only the last."""
    if given.get("past_key_values") is not None:
        for name in ("input_ids", "inputs_embeds"):
            shown = given.get(f"decoder_{name}" if second else name)
            if isinstance(shown, torch.Tensor) and shown.ndim > 1:
                return min(shown.shape[1], told)
    return told


def _if_mask(value: Any, n_samples: int | None, real: bool) -> torch.Tensor | None:
    """Return which positions are real, if a tensor tells; one of pairs of positions does not."""
    if not isinstance(value, torch.Tensor) or value.ndim != 2:
        return None
    tensor = value.detach().cpu()
    ones, zeros = tensor == 1, tensor == 0
    if tensor.is_floating_point() and not ((zeros | ones).all() and ones.any(dim=1).all()):
        # Added to scores: 0 stands for a real position, and a large negative number for padding.
        if not (zeros | (tensor <= _HIDDEN)).all() or zeros.all():
            return None
        there = zeros
    else:
        there = ~zeros if real else zeros
    if tensor.shape[0] != tensor.shape[1]:
        return there
    causal = torch.ones_like(tensor, dtype=torch.bool).tril()
    is_of_pairs = tensor.shape[0] != n_samples or any(
        torch.equal(part, causal) for part in (there, ~there)
    )
    return None if is_of_pairs else there
