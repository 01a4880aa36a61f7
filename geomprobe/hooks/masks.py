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


def padding_mask(mask: Mask, given: Mapping[str, Any], n_samples: int | None) -> Any:
    """Return which positions of a batch are real.

    Parameters
    ----------
    mask : str, callable or None
        The name of an argument that is nonzero, or True, at real positions; a callable of all the
        arguments by name that returns such a tensor; ``"auto"``: the argument ``attention_mask``,
        or one of PyTorch's ``key_padding_mask``s (True at padding), if the model was given one of
        zeros and ones of two axes; ``None``: every position is real.
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
            if (tensor := _if_mask(given.get(name), n_samples)) is not None:
                return (tensor.cpu().numpy() != 0) == real
        return None
    if isinstance(mask, str) and mask not in given:
        raise ValueError(f"the model was given no argument {mask!r} as a mask, but {list(given)}")
    value = given[mask] if isinstance(mask, str) else mask(dict(given))
    if not (isinstance(value, torch.Tensor) and value.ndim == 2 and len(value) == n_samples):
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"a mask must have shape ({n_samples}, positions), got {got}")
    return value.detach().cpu().numpy() != 0


def _if_mask(value: Any, n_samples: int | None) -> torch.Tensor | None:
    """Return a tensor if it tells padding; a mask of pairs of positions does not."""
    if not isinstance(value, torch.Tensor) or value.ndim != 2:
        return None
    tensor = value.detach()
    ones, zeros = tensor == 1, tensor == 0
    if tensor.is_floating_point() and not ((zeros | ones).all() and ones.any(dim=1).all()):
        return None  # Added to scores, where 0 stands for a real position.
    if tensor.shape[0] != tensor.shape[1]:
        return tensor
    causal = torch.ones_like(tensor, dtype=torch.bool).tril()
    is_of_pairs = tensor.shape[0] != n_samples or any(
        torch.equal(part, causal) for part in (tensor != 0, tensor == 0)
    )
    return None if is_of_pairs else tensor
