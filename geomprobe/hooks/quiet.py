"""Look at a model and leave it bit for bit as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

_visits: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def visits(model: nn.Module) -> int:
    """Return how many :func:`quiet` visits a model is in.

    A tap hears the passes of the visit it was attached in, and no visitor's inside that one.
    """
    return _visits.get(model, 0)


@contextmanager
def streams_kept() -> Iterator[None]:
    """Put the global random streams of Python, numpy and torch back on exit, on every device.

    Even an import can draw from them.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if cuda else ()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def quiet(model: nn.Module) -> Iterator[nn.Module]:
    """Put a model in evaluation mode for a while, and undo every trace of the visit.

    On exit, also after an exception, these are what they were on entry: the ``training`` flag of
    every module (set directly, so that an overridden ``train()`` is not called), every buffer
    (running statistics, step counters), and the global random streams. Parameters and gradients
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
    waiting for its backward pass is not invalidated.
    """
    _visits[model] = _visits.get(model, 0) + 1
    flags = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        with streams_kept():
            for module, _ in flags:
                module.training = False
            yield model
    finally:
        _visits[model] -= 1
        for module, training in flags:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
