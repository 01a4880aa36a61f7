"""Load weights into a model without running anybody's code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from geomprobe.exceptions import FileFormatError
from geomprobe.storage import PathLike, require_safetensors

#: Where checkpoints keep a state dict.
_STATES = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "state_dict.")


def load_weights(model: nn.Module, path: PathLike, *, trust_pickle: bool = False) -> nn.Module:
    """Load a safetensors file into a model, and return the model.

    Prefixes that wrappers put before every name (``module.``, ``_orig_mod.``, ``model.``,
    ``net.``, ``state_dict.``) are taken off where the model does not have them.

    Parameters
    ----------
    model : torch.nn.Module
    path : path
        The file.
    trust_pickle : bool
        Also open what ``torch.save`` has written, with all code that it may run: a state dict, or a
        checkpoint that has one under ``state_dict``, ``model_state_dict`` or ``model``.

    Raises
    ------
    FileFormatError
        The file is a pickle or no safetensors file; or its names or shapes are not the model's,
        and the message lists which.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        require_safetensors(path)
        state = load_file(path)
    except SafetensorError as error:
        raise FileFormatError(f"{path} is damaged or truncated: {error}") from error
    except FileFormatError:
        if not trust_pickle:
            raise
        state = _unpickled(path)
    expected = model.state_dict()
    state = _without_prefixes(state, set(expected))
    # safetensors stores a tied tensor once; any of its names stands for all.
    storage_of = {name: tensor.data_ptr() for name, tensor in expected.items()}
    given = {storage_of[name] for name in state if name in storage_of}
    missing = [name for name in expected if name not in state and storage_of[name] not in given]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, the model's is {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if missing or unexpected or shapes:
        raise FileFormatError(
            f"{path} does not fit the model {type(model).__name__}."
            f"{_listing('Missing', missing)}{_listing('Unexpected', unexpected)}"
            f"{_listing('Shapes', shapes)}"
        )
    model.load_state_dict(state, strict=False)
    return model


def _unpickled(path: PathLike) -> dict[str, torch.Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise FileFormatError(
            f"{path} cannot be opened: {type(error).__name__}: {error}"
        ) from error
    if isinstance(found, nn.Module):
        found = found.state_dict()
    for key in _STATES:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(
        isinstance(tensor, torch.Tensor) for tensor in found.values()
    ):
        raise FileFormatError(
            f"{path} holds no state dict, nor one under {', '.join(_STATES)}: it is a "
            f"{type(found).__name__}"
        )
    return dict(found)


def _without_prefixes(
    state: dict[str, torch.Tensor], expected: set[str]
) -> dict[str, torch.Tensor]:
    while state and not expected & state.keys():
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _listing(title: str, names: Iterable[str]) -> str:
    listed = list(names)
    more = f", and {len(listed) - 8} more" if len(listed) > 8 else ""
    return f" {title}: {', '.join(listed[:8])}{more}." if listed else ""
