"""Times taken in turns, and what can be said of their ratios."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from contenders import Plain
from summaries import summary

#: Seconds of each contender's turn, one a round.
Times = Mapping[str, Sequence[float]]


@contextmanager
def attached(contender: Plain) -> Iterator[Plain]:
    """Let a contender observe its model for a while."""
    contender.attach()
    try:
        yield contender
    finally:
        contender.detach()


def in_turns(
    contenders: Sequence[Plain],
    batches: Sequence[torch.Tensor],
    rounds: int,
    finish: Callable[[], None] = lambda: None,
) -> Times:
    """Time one forward pass of every contender in each round, with the wait for its device.

    The order is rotated from one round to the next and turned round every other time, so that
    nobody always comes after the same one. Two rounds before the first are not counted.
    """
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(-2, rounds):
        gc.collect()
        start = number // 2 % len(contenders)
        order = [*contenders[start:], *contenders[:start]]
        for contender in order if number % 2 else reversed(order):
            with attached(contender):
                finish()
                started = time.perf_counter()
                contender(batches[number % len(batches)])
                finish()
                seconds = time.perf_counter() - started
            if number >= 0:
                times[contender.name].append(seconds)
    return times


def ratios(times: Times, name: str, to: str) -> dict[str, float]:
    """Summarize the ratio of two contenders, round by round."""
    return summary([a / b for a, b in zip(times[name], times[to], strict=True)])
