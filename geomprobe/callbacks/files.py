"""Sinks that append to a file of lines, observation by observation: CSV and JSON lines."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from pathlib import Path

from geomprobe.callbacks.history import COLUMNS, History, Record
from geomprobe.storage import PathLike, write_atomically


class _Lines:
    """A file of lines, each of which tells its step.

    A monitor that is resumed goes on with the file, from the step of its checkpoint. Any other
    starts it anew, at its first observation.
    """

    _head = ""

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self._last: int | None = None

    def __call__(self, record: Record) -> None:
        """Append a record. It is in the file whole, or not at all."""
        if self._last is None or record.step < self._last:  # Another training has begun.
            write_atomically(self.path, self._head.encode())
        content = self._text(record).encode()
        with open(self.path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            written = 0
            try:
                written = file.write(content)
            finally:
                if written != len(content):
                    file.truncate(end)
        if written != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._last = record.step

    def truncate(self, *, after: int) -> None:
        """Forget what came after a step, and a line that was cut off; go on from there."""
        if not self.path.exists():
            return
        *lines, _ = self.path.read_text(encoding="utf-8")[len(self._head) :].split("\n")
        kept = [f"{line}\n" for line in lines if self._step(line) <= after]
        write_atomically(self.path, (self._head + "".join(kept)).encode())
        self._last = after

    def _text(self, record: Record) -> str:
        raise NotImplementedError

    def _step(self, line: str) -> int:
        raise NotImplementedError


class CSVSink(_Lines):
    """Appends one row a number to a CSV file, with the columns of :meth:`History.to_frame`.

    A monitor that is resumed goes on with the file, without the rows after its checkpoint. Any
    other starts it anew, at its first observation.

    Parameters
    ----------
    path : path
        The file. Missing folders are made.
    """

    _head = ",".join(COLUMNS) + "\n"

    def _text(self, record: Record) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in record.rows():
            # One line a row, so that whole ones can be told from one that was cut off.
            writer.writerow(
                " ".join(cell.split()) if isinstance(cell, str) else cell for cell in row.values()
            )
        return text.getvalue()

    def _step(self, line: str) -> int:
        return int(line.partition(",")[0])


class JSONLinesSink(_Lines):
    """Appends one line an observation to a file, with all that the history holds of it.

    ``History.from_dicts(map(json.loads, open(path)))`` gives the history back. A monitor that is
    resumed goes on with the file, without the lines after its checkpoint. Any other starts it anew,
    at its first observation.

    Parameters
    ----------
    path : path
        The file. Missing folders are made.
    """

    def _text(self, record: Record) -> str:
        (document,) = History([record]).to_dicts()
        text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return f"{text}\n"

    def _step(self, line: str) -> int:
        step: int = json.loads(line)["step"]
        return step
