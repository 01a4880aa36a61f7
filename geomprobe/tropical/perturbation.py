"""A network moved a little, so that its walls are in general position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from geomprobe.tropical.tape import Step, Tape


def perturbed(tape: Tape, size: float, seed: int) -> Tape:
    """Return a tape with a constant added to each argument of what bends, drawn from N(0, size^2).

    It is that of a network with biases moved so.
    """
    steps: list[Step] = []
    used = [
        slot for step in tape.steps for slot in (*step.inputs, *step.outputs) if slot is not None
    ]
    fresh = 1 + max(used)
    for step in tape.steps:
        moved = step.inputs
        if step.kink is not None:
            moved = tuple(range(fresh, fresh + len(step.inputs)))
            fresh += len(moved)
            for before, after in zip(step.inputs, moved, strict=True):
                steps.append(Step(_shift(size, seed + after), (before,), (after,)))
        steps.append(replace(step, inputs=moved))
    return replace(tape, steps=tuple(steps))


def _shift(size: float, seed: int) -> Callable[[Tensor], Tensor]:
    def shifted(rows: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(rows.shape[1:], generator=generator, dtype=rows.dtype, device="cpu")
        return rows + size * noise.to(rows.device)

    return shifted
