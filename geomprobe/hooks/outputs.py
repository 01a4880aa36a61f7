"""From whatever a layer takes or returns to the one tensor that is observed."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

_signatures: WeakKeyDictionary[nn.Module, inspect.Signature] = WeakKeyDictionary()


class Unobservable(Exception):
    """What was to be observed cannot become points; the message is the reason."""


def arguments(module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a module was called with, by the names of its forward's parameters.

    Positional arguments that have no name of their own are called ``"0"``, ``"1"``, ...
    """
    try:
        if (signature := _signatures.get(module)) is None:
            signature = _signatures[module] = inspect.signature(module.forward)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {**{str(i): value for i, value in enumerate(args)}, **kwargs}
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named |= {str(len(named) + i): entry for i, entry in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        else:
            named[name] = value
    return named


def part_of(value: Any, port: str) -> Any:
    """Follow a port such as ``"#out.hidden"``, ``"#out.0"`` or ``"#in.x"`` into a value.

    Parameters
    ----------
    value : Any
        The output, or the :func:`arguments`. A whole number counts entries from 0; other words are
        keys of mappings or attributes.
    port : str
        See :mod:`geomprobe.hooks.names`; an empty one is the value itself.

    Raises
    ------
    Unobservable
        There is no such part; the message lists those that are there.
    """
    for word in port.split(".")[1:]:
        value = _step(value, word)
    return value


def _step(value: Any, word: str) -> Any:
    if isinstance(value, Mapping):
        if word in value:
            return value[word]
        if word.isdigit() and int(word) < len(value):
            return list(value.values())[int(word)]
        there = list(value)
    elif word.isdigit() and isinstance(value, Sequence):
        if int(word) < len(value):
            return value[int(word)]
        there = list(range(len(value)))
    elif dataclasses.is_dataclass(value) and word.isdigit():
        return _step([getattr(value, entry.name) for entry in dataclasses.fields(value)], word)
    elif hasattr(value, word):
        return getattr(value, word)
    else:
        there = list(getattr(value, "__dict__", ()))
    raise Unobservable(f"no part {word!r} in a {type(value).__name__}; it has {there}")


def output_tensor(output: Any) -> torch.Tensor | PackedSequence:
    """Return the first floating-point tensor, or packed sequence, in a value.

    Tuples, lists, dicts, dataclasses and everything registered as a pytree are looked into.

    Raises
    ------
    Unobservable
        There is none, or it cannot be read row by row.
    """
    if _is_points(output):
        return output
    tensors = []
    for leaf in leaves(output):
        if isinstance(leaf, PackedSequence):
            return leaf
        if isinstance(leaf, torch.Tensor):
            if _is_points(leaf):
                return leaf
            tensors.append(leaf)
    if tensors:
        kinds = ", ".join(sorted({str(t.dtype).removeprefix("torch.") for t in tensors}))
        raise Unobservable(f"no dense floating-point tensor in the output, only {kinds}")
    raise Unobservable(f"no tensor in an output of type {type(output).__name__}")


def _is_points(value: Any) -> TypeGuard[torch.Tensor]:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or not value.ndim:
        return False
    return value.layout == torch.strided or value.is_nested


def leaves(tree: Any) -> Iterator[Any]:
    """Yield what is not a container, looking into mappings and dataclasses too."""
    for leaf in pytree.tree_leaves(tree, is_leaf=lambda node: isinstance(node, PackedSequence)):
        if isinstance(leaf, Mapping):
            yield from leaves(dict(leaf))
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            yield from leaves([getattr(leaf, entry.name) for entry in dataclasses.fields(leaf)])
        else:
            yield leaf
