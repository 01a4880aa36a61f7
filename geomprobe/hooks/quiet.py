"""Look at a model and leave it bit for bit as it was."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from geomprobe.threads import threads_kept

_visits: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def visits(model: nn.Module) -> int:
    """Return how many :func:`quiet` visits a model is in, alone or as a part of another.

    A tap hears the passes of the visit it was attached in, and no visitor's inside that one.
    """
    return _visits.get(model, 0)


@contextmanager
def streams_kept(seed: int | None = None) -> Iterator[None]:
    """Put the global random streams of Python, numpy and torch back on exit, on every device.

    Even an import can draw from them. With a seed they start from it within. PyTorch's number of
    threads is put back too.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if cuda else ()
    try:
        with torch.random.fork_rng(devices=devices), threads_kept():
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002
                torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def quiet(model: nn.Module) -> Iterator[nn.Module]:
    """Put a model in evaluation mode for a while, and undo every trace of the visit.

    On exit, also after an exception, these are what they were on entry: the ``training`` flag of
    every module (set directly, so that an overridden ``train()`` is not called), every buffer
    (running statistics, step counters) and every other attribute of a module, whether changed in
    place, for buffers, or bound anew, and what :func:`streams_kept` keeps. Parameters and gradients
    are the visitor's own duty.

    Parameters
    ----------
    model : torch.nn.Module
        The model to visit.

    Yields
    ------
    torch.nn.Module
        The same model, every module of it in evaluation mode.

    Notes
    -----
    Costs one copy of the buffers. A buffer is written back only if it has changed, so that a graph
    waiting for its backward pass is not invalidated. With recurrent layers on a CUDA device
    cuDNN is off meanwhile, since it has no backward pass for them in evaluation mode.
    """
    modules = list(model.modules())
    before = [(module, dict(vars(module)), dict(module._buffers)) for module in modules]
    values = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    for module in modules:
        _visits[module] = _visits.get(module, 0) + 1
    try:
        with streams_kept(), _differentiable(modules):
            for module in modules:
                module.training = False
            yield model
    finally:
        for module, attributes, buffers in before:
            _visits[module] -= 1
            _put_back(vars(module), attributes)
            _put_back(module._buffers, buffers)
        with torch.no_grad():
            for buffer, value in values:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


@contextmanager
def _differentiable(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Switch off cuDNN for a while where there is a recurrent layer on a CUDA device."""
    recurrent = (m for m in modules if isinstance(m, nn.RNNBase))
    if not any(weight.is_cuda for module in recurrent for weight in module.parameters()):
        yield
        return
    # This alone: its other flags cannot be read where precisions are set operation by operation.
    before, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def _put_back(now: dict[str, Any], before: dict[str, Any]) -> None:
    for name in [name for name in now if name not in before]:
        del now[name]
    for name, value in before.items():
        if now.get(name) is not value:
            now[name] = value
