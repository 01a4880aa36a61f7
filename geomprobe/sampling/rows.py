"""Datasets that hold rows by name, as those of Hugging Face, and what becomes of their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch


def holds_rows(data: Any) -> bool:
    """Whether the data have a length, and at each number a mapping of names to values."""
    if isinstance(data, Mapping | Sequence) or not hasattr(data, "__getitem__"):
        return False
    try:
        return len(data) > 0 and isinstance(data[0], Mapping)
    except (TypeError, KeyError, IndexError):
        return False


def stack_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Make one batch of rows: a tensor for each name, images by :func:`pixels`.

    Raises
    ------
    ValueError
        A value is no number, list of numbers or image, or the values under one name differ in
        shape.
    """
    return {name: _stacked(name, [row[name] for row in rows]) for name in rows[0]}


def _stacked(name: str, values: Sequence[Any]) -> torch.Tensor:
    try:
        tensors = [_tensor(value) for value in values]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the column {name!r} holds what is neither numbers nor an image, such as a "
            f"{type(values[0]).__name__} ({error}): remove it, or turn it into numbers"
        ) from error
    shapes = sorted({tuple(tensor.shape) for tensor in tensors})
    if len(shapes) > 1:
        raise ValueError(
            f"the column {name!r} holds values of shapes {shapes[0]} and {shapes[-1]}: pad or "
            "resize them all alike, or give a DataLoader that does"
        )
    return torch.stack(tensors)


def _tensor(value: Any) -> torch.Tensor:
    if hasattr(value, "getbands"):  # An image of Pillow.
        return pixels(value)
    if isinstance(value, torch.Tensor):
        return value
    return torch.as_tensor(np.asarray(value), device="cpu")


def channels(image: Any) -> int:
    """Return how many channels a Pillow image is given by :func:`pixels`: 1 if grey, or else 3."""
    return 1 if image.mode in ("1", "L") or image.mode.startswith("I") else 3


def pixels(image: Any) -> torch.Tensor:
    """Return a Pillow image as a float32 tensor of shape (channels, height, width) in [0, 1].

    Raises
    ------
    ValueError
        Its pixels are floating-point numbers, of which the range is not known.
    """
    if image.mode == "F":
        raise ValueError("pixels that are floating-point numbers have no known range")
    deep = image.mode.startswith("I")  # Sixteen bits, also where Pillow keeps them in more.
    if not deep:
        image = image.convert("L" if channels(image) == 1 else "RGB")
    array = np.asarray(image).astype(np.float32) / (65535 if deep else 255)
    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return torch.from_numpy(planes.copy())
