"""What a probe costs at each place of a long stream, measured where the forward pass is free.

A difference of two forward passes of a second each cannot show a cost of a tenth of a millisecond.
Here the layers return outputs that were computed beforehand, so that all the time of a pass is the
observer's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from contenders import NoopHooks, Plain, StoringHooks
from rounds import attached
from summaries import summary
from torch import nn

import geomprobe as gp

#: Ends of the stretches of the stream, in samples.
STRETCHES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)


class Ready(nn.Module):
    """A layer whose output is there already."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """Return the output."""
        return self.output


class Replay(nn.Module):
    """A model that does nothing but return, layer by layer, what another model's layers returned.

    Parameters
    ----------
    outputs : mapping of str to Tensor
        By the layers' names, which are ``"blocks.<something>"``.
    """

    def __init__(self, outputs: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(
            {name.removeprefix("blocks."): Ready(output) for name, output in outputs.items()}
        )

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Call the layers one after the other."""
        for block in self.blocks.values():
            block(batch)
        return batch


def outputs_of(model: nn.Module, layers: Sequence[str], batch: torch.Tensor) -> dict[str, Any]:
    """Return the outputs of some layers."""
    with attached(StoringHooks(model, layers)) as hooks:
        hooks(batch)
        return hooks.captured


def cost_of(contender: Plain, batch: torch.Tensor, passes: int = 300) -> dict[str, float]:
    """Summarize the seconds of one pass of a contender over a :class:`Replay`."""
    times = []
    with attached(contender):
        for _ in range(passes):
            started = time.perf_counter()
            contender(batch)
            times.append(time.perf_counter() - started)
    return summary(times[passes // 10 :])


def cost_along(
    replay: Replay,
    batch: torch.Tensor,
    *,
    samples: int,
    points: int,
    repeats: int = 3,
    **options: Any,
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Run a stream past a probe; return what each stretch cost, and the probe's state at the end.

    The seconds of a batch are those of the pass with the probe, less those of one without. The
    stream is run several times, in which the same rows enter with the same batches, and the median
    is taken for each batch.
    """
    names = [f"blocks.{name}" for name in replay.blocks]
    free = cost_of(Plain(replay, names), batch)["median"]
    runs: list[list[float]] = []
    for _ in range(repeats):
        times: list[float] = []
        with gp.Probe(replay, names, points=points, strict=True, **options) as probe:
            while probe.samples_seen < samples:
                started = time.perf_counter()
                replay(batch)
                times.append(time.perf_counter() - started - free)
        runs.append(times)
    each = [statistics.median(one) for one in zip(*runs, strict=True)]
    rows: list[dict[str, float]] = []
    start = 0
    for end in sorted({min(end, samples) for end in STRETCHES}):
        stop = -(-end // len(batch))
        rows.append(
            {
                "from_sample": start * len(batch),
                "to_sample": stop * len(batch),
                "batches": stop - start,
                "seconds": sum(each[start:stop]),
                "mean_us": 1e6 * statistics.fmean(each[start:stop]),
                "median_us": 1e6 * statistics.median(each[start:stop]),
            }
        )
        start = stop
    return rows, probe.state_dict()


def hook_costs(replay: Replay, batch: torch.Tensor) -> dict[str, float]:
    """Return the microseconds that the hooks alone cost: those that do nothing, those that copy."""
    names = [f"blocks.{name}" for name in replay.blocks]
    free = cost_of(Plain(replay, names), batch)["median"]
    return {
        kind.name: 1e6 * (cost_of(kind(replay, names), batch)["median"] - free)
        for kind in (NoopHooks, StoringHooks)
    }
