"""Load weights into a model without running anybody's code."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from geomprobe.exceptions import FileFormatError
from geomprobe.storage import PathLike, format_of, require_safetensors

#: Where checkpoints keep a state dict.
_STATES = ("state_dict", "model_state_dict", "model")
#: Where they keep that of the optimizer; Lightning has a list of them.
_OPTIMIZER_STATES = ("optimizer", "optimizer_state_dict", "optimizer_states")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "state_dict.")


def load_weights(model: nn.Module, path: PathLike, *, trust_pickle: bool = False) -> nn.Module:
    """Load a safetensors file, or tensors that ``torch.save`` has written, into a model.

    Prefixes that wrappers put before every name (``module.``, ``_orig_mod.``, ``model.``,
    ``net.``, ``state_dict.``) are taken off where the model does not have them.

    Parameters
    ----------
    model : torch.nn.Module
    path : path
        Safetensors, or what ``torch.save`` has written: a state dict, or a checkpoint that has one
        under ``state_dict``, ``model_state_dict`` or ``model``. If that is all tensors and plain
        types, PyTorch 2.6 or newer opens it without running its code.
    trust_pickle : bool
        Also open what holds other objects, with all code that it may run; a whole model too.

    Returns
    -------
    torch.nn.Module
        The model.

    Raises
    ------
    FileFormatError
        The file is a pickle of other objects, or neither that nor safetensors; or its names or
        shapes are not the model's, and the message lists which.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if format_of(path) == "pickle":
        state = _unpickled(path, trusted=trust_pickle)
    else:
        require_safetensors(path)
        try:
            state = load_file(path)
        except SafetensorError as error:
            raise FileFormatError(f"{path} is damaged or truncated: {error}") from error
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


def load_optimizer(optimizer: torch.optim.Optimizer, path: PathLike) -> torch.optim.Optimizer:
    """Load what ``torch.save`` has written of an optimizer into one, and return it.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Of the same parameters in the same order.
    path : path
        A ``state_dict``, or a checkpoint that has one under ``optimizer``, ``optimizer_state_dict``
        or, the only one of a list, ``optimizer_states``. Only tensors and plain types are read.

    Raises
    ------
    FileFormatError
        The file is none of that, holds other objects, or is of an optimizer of other parameters;
        or PyTorch is older than 2.6.
    """
    if _can_run_code():
        raise FileFormatError(
            f"{path} is a pickle, which PyTorch {torch.__version__} cannot read without running "
            "its code; 2.6 or newer can"
        )
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        told = str(error).partition("\n")[0]
        raise FileFormatError(
            f"{path} holds no plain state of an optimizer: {told}. Write it by "
            "torch.save(optimizer.state_dict(), path)"
        ) from error
    for key in _OPTIMIZER_STATES:
        if isinstance(found, Mapping) and key in found:
            found = found[key]
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, Mapping) or not {"state", "param_groups"} <= found.keys():
        raise FileFormatError(
            f"{path} holds no state of an optimizer, nor one under {', '.join(_OPTIMIZER_STATES)}"
        )
    expected = set(optimizer.defaults)  # Loading adds to them.
    try:
        optimizer.load_state_dict(dict(found))
    except (ValueError, KeyError) as error:
        raise FileFormatError(f"{path} is of another optimizer: {error}") from error
    options = set.intersection(*map(set, optimizer.param_groups))
    if lacking := sorted(expected - options):
        raise FileFormatError(
            f"{path} is of another optimizer than {type(optimizer).__name__}: it has no "
            f"{', '.join(lacking)}"
        )
    for parameter, state in optimizer.state.items():
        if reason := _misfit(parameter, state, optimizer):
            raise FileFormatError(f"{path} is of an optimizer of other parameters: {reason}")
    return optimizer


def _misfit(
    parameter: torch.Tensor, state: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> str:
    """Say how no tensor of a state is of a parameter's shape; empty where one is, or none is there.

    One that is factored (Adafactor) has some of the parameter's sizes in their order, and that of
    LBFGS is of all parameters at once.
    """
    held = {
        name: tuple(tensor.shape)
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor) and tensor.numel() > 1
    }
    total = sum(one.numel() for group in optimizer.param_groups for one in group["params"])
    for shape in held.values():
        sizes = iter(parameter.shape)
        if all(size in sizes for size in shape if size != 1) or shape == (total,):
            return ""
    return "; ".join(
        f"{name} is {shape}, its parameter {tuple(parameter.shape)}" for name, shape in held.items()
    )


def nan_in(model: nn.Module, *, buffers: bool = True) -> str:
    """Name the parameters and buffers that hold NaN, and say what to do; empty where none does."""
    named = [*model.named_parameters(), *(model.named_buffers() if buffers else ())]
    spoilt = [name for name, tensor in named if _holds_nan(tensor)]
    if not spoilt:
        return ""
    return (
        f"{len(spoilt)} of {len(named)} parameters{' and buffers' if buffers else ''} hold NaN."
        f"{_listing('They are', spoilt)} The training has diverged, or the file is damaged: take "
        "an earlier checkpoint, and train with a smaller learning rate or clipped gradients"
    )


def _holds_nan(tensor: Any) -> bool:
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    readable = not is_lazy(local) and local.is_floating_point() and not local.is_meta
    try:
        return readable and local.layout is torch.strided and bool(local.detach().isnan().any())
    except RuntimeError:  # Some kinds of tensors, such as nested ones, cannot be asked.
        return False


def _can_run_code() -> bool:
    """Whether reading weights only may run code in a file all the same: CVE-2025-32434."""
    return torch.__version__ < "2.6"


def _unpickled(path: PathLike, *, trusted: bool) -> dict[str, torch.Tensor]:
    refusal = (
        f"{path} is a pickle (a torch.save file), and opening a pickle can run any code. PyTorch "
        "2.6 or newer opens one of tensors and plain types alone, such as model.state_dict(), "
        "without that. Where you trust this one, --trust-pickle (trust_pickle=True) opens it, a "
        "whole model too"
    )
    if not trusted and _can_run_code():
        raise FileFormatError(refusal)
    try:
        with open(path, "rb") as file:  # Of a path torch.load would look at the suffix.
            found = torch.load(file, map_location="cpu", weights_only=not trusted)
    except Exception as error:
        if not trusted and isinstance(error, pickle.UnpicklingError):
            # What it met, of a message that goes on to tell how to trust the file.
            met = str(error).partition("rror: ")[2].partition(". ")[0]
            raise FileFormatError(f"{refusal}. {met}") from error
        raise FileFormatError(
            f"{path} cannot be opened: {type(error).__name__}: {error}"
        ) from error
    if isinstance(found, nn.Module):
        found = found.state_dict()
    for key in _STATES:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in found.items()
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
