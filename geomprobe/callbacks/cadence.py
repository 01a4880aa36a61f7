"""When to observe: every so many steps or epochs, within a share of the wall time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Cadence:
    """Counts steps and epochs, and says when an observation is due.

    Parameters
    ----------
    every : str
        ``"N steps"`` or ``"N epochs"``.
    steps_per_epoch : int, optional
        Lets :meth:`step` tell epochs.
    """

    def __init__(self, every: str, steps_per_epoch: int | None = None) -> None:
        match = re.fullmatch(r"\s*([1-9]\d*)\s*(step|epoch)s?\s*", str(every))
        if match is None:
            raise ValueError(f"every must read like '5 steps' or '1 epoch', got {every!r}")
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
        self._period, self._unit = int(match[1]), match[2]
        self._steps_per_epoch = steps_per_epoch
        self.steps = self._epochs = 0

    def step(self) -> bool:
        """Count a step, and the epoch that it ends; return whether an observation is due."""
        self.steps += 1
        due = self._unit == "step" and self.steps % self._period == 0
        if self._steps_per_epoch and self.steps % self._steps_per_epoch == 0:
            due = self.epoch_end() or due
        return due

    def epoch_end(self) -> bool:
        """Count an epoch; return whether an observation is due."""
        self._epochs += 1
        return self._unit == "epoch" and self._epochs % self._period == 0

    @property
    def epoch(self) -> float | None:
        """Epochs finished so far, where they are known."""
        if self._steps_per_epoch:
            return self.steps / self._steps_per_epoch
        return float(self._epochs) if self._epochs else None

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"steps": self.steps, "epochs": self._epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the counts that :meth:`state_dict` returned."""
        self.steps, self._epochs = state["steps"], state["epochs"]


class Budget:
    """Keeps account of time, and says whether one more observation can be afforded.

    Parameters
    ----------
    share : float or None
        Largest share of the wall time since construction; ``None``: no limit.
    """

    def __init__(self, share: float | None) -> None:
        if share is not None and not 0 < share <= 1:
            raise ValueError(f"budget must be a share of wall time in (0, 1] or None, got {share}")
        self.share = share
        self._started = time.perf_counter()
        self.spent = 0.0
        self._costs: list[float] = []
        self._measures = False

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Book the time within as spent; once, where it is measured already."""
        if self._measures:
            yield
            return
        started, self._measures = time.perf_counter(), True
        try:
            yield
        finally:
            self.spent += time.perf_counter() - started
            self._measures = False

    def book(self, seconds: float) -> None:
        """Book time that was spent elsewhere."""
        self.spent += seconds

    def observed(self, seconds: float) -> None:
        """Remember what one observation has cost, all in all."""
        self._costs = [*self._costs[-4:], seconds]

    @property
    def elapsed(self) -> float:
        """Wall time in seconds since construction, and before an interruption."""
        return time.perf_counter() - self._started

    @property
    def overhead(self) -> float:
        """Share of the wall time that was spent."""
        return self.spent / max(self.elapsed, 1e-9)

    @property
    def affords(self) -> bool:
        """Whether another observation would stay within the budget; the first one always does.

        It is expected to cost as much as the dearest of the last five.
        """
        if self.share is None or not self._costs:
            return True
        expected = max(self._costs)
        return self.spent + expected <= self.share * (self.elapsed + expected)

    def state_dict(self) -> dict[str, Any]:
        """Return the account."""
        return {"spent": self.spent, "elapsed": self.elapsed, "costs": list(self._costs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the account that :meth:`state_dict` returned."""
        self._started = time.perf_counter() - state["elapsed"]
        self.spent, self._costs = state["spent"], list(state["costs"])
