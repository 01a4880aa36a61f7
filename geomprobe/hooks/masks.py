"""Which positions of a batch of sequences are padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

#: ``"auto"``, the name of an argument of the model, a callable of all its arguments, or none.
Mask = str | Callable[[dict[str, Any]], torch.Tensor] | None

#: Arguments that tell padding by convention, and whether True stands for a real token there.
_CONVENTIONS = {
    "attention_mask": True,
    "src_key_padding_mask": False,
    "key_padding_mask": False,
}

#: Scores this low give no weight.
_HIDDEN = -1e4


def padding_mask(mask: Mask, given: Mapping[str, Any], n_samples: int | None) -> Any:
    """Return which positions of a batch are real.

    Parameters
    ----------
    mask : str, callable or None
        The name of an argument that is nonzero, or True, at real positions; a callable of all the
        arguments by name that returns such a tensor; ``"auto"``: the argument ``attention_mask``,
        or one of PyTorch's ``key_padding_mask``s (True at padding), if the model was given one of
        two axes, of zeros and ones, or of zeros and -inf at padding; ``None``: every position is
        real.
    given : mapping of str to Any
        What the model was called with; see :func:`~geomprobe.hooks.outputs.arguments`. If it is
        called with one mapping, that mapping's entries.
    n_samples : int or None
        Size of the batch.

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
    if len(given) == 1 and isinstance(only := next(iter(given.values())), Mapping):
        given = only
    if mask == "auto":
        for name, real in _CONVENTIONS.items():
            told = _if_mask(given.get(name), n_samples, real)
            if told is not None:
                return told.cpu().numpy()[:, -_positions(given, told.shape[1]) :]
        return None
    if isinstance(mask, str) and mask not in given:
        raise ValueError(f"the model was given no argument {mask!r} as a mask, but {list(given)}")
    value = given[mask] if isinstance(mask, str) else mask(dict(given))
    if not (isinstance(value, torch.Tensor) and value.ndim == 2 and len(value) == n_samples):
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"a mask must have shape ({n_samples}, positions), got {got}")
    return value.detach().cpu().numpy() != 0


def _positions(given: Mapping[str, Any], told: int) -> int:
    """Return how many positions the model is shown: with a cache of the past, only the last."""
    if given.get("past_key_values") is not None:
        for name in ("input_ids", "inputs_embeds"):
            if isinstance(shown := given.get(name), torch.Tensor) and shown.ndim > 1:
                return min(shown.shape[1], told)
    return told


def _if_mask(value: Any, n_samples: int | None, real: bool) -> torch.Tensor | None:
    """Return which positions are real, if a tensor tells; one of pairs of positions does not."""
    if not isinstance(value, torch.Tensor) or value.ndim != 2:
        return None
    tensor = value.detach()
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
