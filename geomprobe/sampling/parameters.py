"""Which parameters of a model to record: by name, glob, regex, or themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import nn

from geomprobe.exceptions import LayerSelectionError
from geomprobe.hooks.names import names_in
from geomprobe.hooks.patterns import matcher, nothing_matches

#: A name or glob, ``"re:..."``, or parameters themselves, such as those of an optimizer's group.
Parameters = str | torch.Tensor | Iterable[str | torch.Tensor]


def select_parameters(
    model: nn.Module, parameters: Parameters | None, buffers: bool
) -> dict[str, torch.Tensor]:
    """Return what to record, by the first name it has in the model; see ``TrajectoryRecorder``."""
    canonical = names_in(model)
    names: dict[torch.Tensor, list[str]] = {}
    for name, tensor in _candidates(model, buffers):
        names.setdefault(tensor, []).append(name)
    if parameters is None:
        chosen = {t for t in names if t.requires_grad or not isinstance(t, nn.Parameter)}
        if not chosen:
            raise ValueError("the model has no trainable parameters: there is no trajectory")
    else:
        if isinstance(parameters, str | torch.Tensor):
            parameters = [parameters]
        chosen = {
            tensor for pattern in parameters for tensor in _matches(pattern, names, canonical)
        }
        if not chosen:
            raise ValueError("parameters names none: give names, globs, 're:...' or parameters")
    selected = {all_names[0]: t for t, all_names in names.items() if t in chosen}
    for name, tensor in selected.items():
        if reason := _cannot_be_recorded(name, tensor):
            raise ValueError(f"parameter {canonical(name)!r} cannot be recorded: {reason}")
    return selected


def _candidates(model: nn.Module, buffers: bool) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    if buffers:
        for name, buffer in model.named_buffers(remove_duplicate=False):
            if buffer.is_floating_point():
                yield name, buffer


def _matches(
    pattern: str | torch.Tensor,
    names: Mapping[torch.Tensor, list[str]],
    canonical: Callable[[str], str],
) -> list[torch.Tensor]:
    if isinstance(pattern, torch.Tensor):
        if pattern in names:
            return [pattern]
        raise ValueError(
            f"a tensor of shape {tuple(pattern.shape)} in parameters is none of the model's"
        )
    if not isinstance(pattern, str):
        raise TypeError(
            f"cannot select parameters by {pattern!r}: give a name, a glob, 're:...', or "
            "parameters of the model"
        )
    matches = matcher(pattern)
    found = [t for t, raw in names.items() if any(matches(canonical(name)) for name in raw)]
    if not found:
        listed = [canonical(name) for raw in names.values() for name in raw]
        raise LayerSelectionError(nothing_matches("parameter", pattern, listed))
    return found


def _cannot_be_recorded(name: str, tensor: torch.Tensor) -> str:
    if nn.parameter.is_lazy(tensor):
        return "it is not initialised yet; run one batch through the model first"
    if hasattr(tensor, "full_tensor") or "_fsdp_wrapped_module" in name.split("."):
        return (
            "it is sharded, and no process has all of it; record parameters that are whole on "
            "every process"
        )
    if tensor.is_meta:
        return "it is on the meta device, without values"
    if tensor.layout != torch.strided or not tensor.is_floating_point():
        return f"it is {tensor.dtype} and {tensor.layout}, not dense and of a floating-point type"
    return ""
