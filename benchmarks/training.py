"""What a Monitor costs a training at its default cadence: one probe pass of its own an epoch."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

import geomprobe as gp

#: Probe samples: as many as a Monitor keeps points by default.
PROBED = 400
#: Samples of an epoch: as many as CIFAR-10 has for training.
EPOCH = 50_000


@dataclass(frozen=True)
class CaptureOnly:
    """An analyzer that needs the clouds and does nothing with them: what is left is capture."""

    name: ClassVar[str] = "capture_only"
    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    readings: ClassVar[dict[str, str]] = {}

    def __call__(self, evidence: gp.Evidence) -> Iterator[gp.Finding]:
        """Yield nothing."""
        return iter(())


def amortised(
    model: nn.Module,
    layers: Sequence[str],
    batch: torch.Tensor,
    *,
    limit: float,
    steps: int = 5,
    probed: int = PROBED,
) -> dict[str, Any]:
    """Return the cost of an observation beside that of the training steps of an epoch.

    Parameters
    ----------
    model : torch.nn.Module
        Its last axis of outputs are scores of classes. It is trained for some steps.
    layers : sequence of str
        What to observe.
    batch : Tensor
        Inputs of a training step; samples of the same kind are probed.
    limit : float
        For which ratio to return the shortest epoch.
    steps, probed : int
        Steps that are timed, and samples that the monitor probes.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    model.train()
    times = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        optimizer.zero_grad()
        scores = model(batch)
        scores = scores.reshape(-1, scores.shape[-1])
        functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long)).backward()
        optimizer.step()
        times.append(time.perf_counter() - started)
    step_seconds = statistics.median(times[1:])
    optimizer.zero_grad()
    data = batch.repeat(-(-probed // len(batch)), *[1] * (batch.ndim - 1))[:probed]
    monitor = gp.Monitor(
        model,
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), len(batch)),
        layers=list(layers),
        analyzers=[CaptureOnly()],
        budget=None,
        workers=0,
        strict=True,
    )
    with monitor:
        started = time.perf_counter()
        for _ in range(1000):
            monitor.step()
        bookkeeping = (time.perf_counter() - started) / 1000
        started = time.perf_counter()
        monitor.epoch_end()
        observation = time.perf_counter() - started
    model.eval()
    epoch_steps = EPOCH / len(batch)
    share = (observation / epoch_steps + bookkeeping) / step_seconds
    shortest = observation / ((limit - 1) * step_seconds - bookkeeping)
    return {
        "step_seconds": step_seconds,
        "observation_seconds": observation,
        "bookkeeping_seconds": bookkeeping,
        "probed_samples": probed,
        "epoch_samples": EPOCH,
        "ratio": 1 + share,
        "shortest_epoch_within_the_bar": math.ceil(shortest) * len(batch),
    }
