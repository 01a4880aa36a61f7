"""Times taken in turns, and what can be said of their ratios."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from contenders import Plain

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


def in_turns(contenders: Sequence[Plain], batches: Sequence[torch.Tensor], rounds: int) -> Times:
    """Time one forward pass of every contender in each round.

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
                started = time.perf_counter()
                contender(batches[number % len(batches)])
                seconds = time.perf_counter() - started
            if number >= 0:
                times[contender.name].append(seconds)
    return times


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return least, median and most, and an interval for the median.

    With six values or more the interval, from ``low`` to ``high``, covers the median of their
    distribution with a probability of at least 95 %, whatever the distribution: its ends are the
    order statistics that a sign test does not reject (Conover 1999, section 3.2).
    """
    ordered = sorted(values)
    n, rank, below = len(ordered), 0, 0.5 ** len(ordered)
    while rank < (n - 1) // 2 and below + math.comb(n, rank + 1) * 0.5**n <= 0.025:
        rank += 1
        below += math.comb(n, rank) * 0.5**n
    return {
        "min": ordered[0],
        "low": ordered[rank],
        "median": statistics.median(ordered),
        "high": ordered[-1 - rank],
        "max": ordered[-1],
    }


def ratios(times: Times, name: str, to: str) -> dict[str, float]:
    """Summarize the ratio of two contenders, round by round."""
    return summary([a / b for a, b in zip(times[name], times[to], strict=True)])
