"""How the records of a Monitor reach its sinks: in order, each once, and never fatally."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from geomprobe.callbacks.history import Record
from geomprobe.exceptions import GeomprobeWarning


class Sink(Protocol):
    """What takes the records of a :class:`~geomprobe.Monitor`: any callable will do.

    It may also have ``truncate(after=step)``, by which a resumed run says that what lies after that
    step will come again, and ``close()``.
    """

    def __call__(self, record: Record, /) -> object:
        """Take a record."""
        ...


class Delivery:
    """Brings records to sinks. What a sink fails to take is brought again, with the next record.

    Parameters
    ----------
    sinks : iterable of Sink
    strict : bool
        Raise what a sink raises. Otherwise its first failure is a warning.

    Raises
    ------
    TypeError
        A sink cannot be called.
    """

    def __init__(self, sinks: Iterable[Sink] = (), *, strict: bool = False) -> None:
        self.sinks = list(sinks)
        for sink in self.sinks:
            if not callable(sink) or isinstance(sink, type):
                raise TypeError(f"a sink must be a callable that takes a Record, got {sink!r}")
        self._strict = strict
        self._delivered = [0] * len(self.sinks)
        self._warned: set[int] = set()
        self._busy = False

    def bring(self, records: Sequence[Record]) -> None:
        """Bring every sink those of all records so far that it does not have."""
        if self._busy:  # A sink has asked for the history, and so has ended an analysis.
            return
        self._busy = True
        try:
            for index in range(len(self.sinks)):
                self._attempt(index, self._bring, index, records)
        finally:
            self._busy = False

    def _bring(self, index: int, records: Sequence[Record]) -> None:
        for record in records[self._delivered[index] :]:
            self.sinks[index](record)
            self._delivered[index] += 1

    def resume(self, records: Sequence[Record], step: int) -> None:
        """Go on after records that every sink has, and have it forget what came after a step."""
        self._delivered = [len(records)] * len(self.sinks)
        for index, sink in enumerate(self.sinks):
            if (truncate := getattr(sink, "truncate", None)) is not None:
                self._attempt(index, partial(truncate, after=step))

    def close(self, records: Sequence[Record]) -> None:
        """Try for a last time, tell how many records a sink lacks, and close the sinks."""
        self.bring(records)
        for index, sink in enumerate(self.sinks):
            if lacking := len(records) - self._delivered[index]:
                _warn(sink, f"lacks the last {lacking} of {len(records)} observations")
            if (close := getattr(sink, "close", None)) is not None:
                self._attempt(index, close)

    def _attempt(self, index: int, action: Callable[..., object], *arguments: object) -> None:
        try:
            action(*arguments)
        except Exception as error:
            if self._strict:
                raise
            if index not in self._warned:
                self._warned.add(index)
                reason = f"{type(error).__name__}: {error}"
                _warn(self.sinks[index], f"has failed, and will be tried again: {reason}")


def _warn(sink: Sink, message: str) -> None:
    name = getattr(sink, "__name__", type(sink).__name__)
    warnings.warn(f"the sink {name} {message}", GeomprobeWarning, stacklevel=2)
