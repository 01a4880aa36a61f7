"""Know a value again, in another process or on another day, by words for JSON."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from functools import partial
from hashlib import sha256
from io import BytesIO
from operator import attrgetter
from typing import Any

import numpy as np
import torch


def in_words(value: Any, *, exact: bool = False) -> Any:
    """Return a value in JSON types, to know it again by.

    Objects that are no plain values are known by the names of their classes, and functions by their
    own; exactly, by all that they hold.
    """
    words = partial(in_words, exact=exact)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        if all(isinstance(name, str) for name in value):
            return {name: words(one) for name, one in value.items()}
        return [[words(name), words(one)] for name, one in value.items()]
    if isinstance(value, list | tuple):
        return [words(one) for one in value]
    if isinstance(value, AbstractSet):
        return sorted((words(one) for one in value), key=json.dumps)
    if isinstance(value, partial):
        return [words(one) for one in (value.func, *value.args, value.keywords)]
    if _is_plain_tensor(value):
        plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
        content = plain.view(torch.uint8).numpy()
        return _array_in_words(str(value.dtype).removeprefix("torch."), value.shape, content)
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return [str(value.dtype), list(value.shape), words(value.ravel().tolist())]
        content = np.ascontiguousarray(value).ravel().view(np.uint8)
        return _array_in_words(str(value.dtype), value.shape, content)
    named = value if hasattr(value, "__qualname__") else type(value)
    name = f"{getattr(named, '__module__', None)}:{named.__qualname__}"
    if not exact or (named is value and _is_importable(value)):
        return name
    if named is not value and is_dataclass(value) and _is_importable(named):
        held = {one.name: getattr(value, one.name) for one in fields(value)}
        if not {*getattr(value, "__dict__", ())} - {*held}:
            return [name, words(held)]
    return f"{name} {_pickled(value)}"


def _array_in_words(dtype: str, shape: Iterable[int], content: np.ndarray[Any, Any]) -> str:
    return f"{dtype} {(*shape,)} {sha256(content.data).hexdigest()}"


def _is_importable(value: Any) -> bool:
    """Whether a function or class is what its name stands for, in every process."""
    module = getattr(value, "__module__", None)
    if module == "__main__" or module not in sys.modules:
        return False
    try:
        return attrgetter(value.__qualname__)(sys.modules[module]) is value
    except AttributeError:
        return False


def _pickled(value: Any) -> str:
    """Return the SHA-256 of a pickle, or what no other value has."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, one: Any) -> Any:
            """Stand in for what has another pickle in each process."""
            if _is_plain_tensor(one) or type(one) in (set, frozenset):
                return in_words(one, exact=True)
            return None

    file = BytesIO()
    try:
        Pickler(file).dump(value)
    except Exception:  # Whatever an object's own way of being pickled raises.
        return uuid.uuid4().hex
    return sha256(file.getvalue()).hexdigest()


def _is_plain_tensor(value: Any) -> bool:
    strided = isinstance(value, torch.Tensor) and value.layout is torch.strided
    return strided and not value.is_meta
