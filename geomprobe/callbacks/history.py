"""What a Monitor has seen, observation by observation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from geomprobe.findings import Estimate, Finding, metric_name, metrics, numbers
from geomprobe.storage import PathLike, encode, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("step", "epoch", "loss", "metric", "value", "stderr", "n", "exact", "note")


@dataclass(frozen=True)
class Record:
    """One observation.

    Parameters
    ----------
    step : int
        Optimizer steps taken so far.
    epoch : float or None
        Epochs finished so far, where they are known.
    loss : float or None
        Last loss that was reported.
    findings : tuple of Finding
        What the analyzers said.
    seconds : float
        Wall time the observation took.
    """

    step: int
    epoch: float | None
    loss: float | None
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Every number by its metric name, ``geom/<analyzer>/<layer>/<stat>``.

        Where an analyzer ran twice with different parameters, its second number of one name ends in
        ``#1``, its third in ``#2``.
        """
        return metrics(self.findings)

    @property
    def values(self) -> dict[str, float]:
        """The numbers that are finite, by metric name."""
        return {
            name: estimate.value
            for name, estimate in self.metrics.items()
            if math.isfinite(estimate.value)
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row a number, as :meth:`History.rows` does."""
        failed = {
            metric_name(finding.analyzer, finding.subject, "failed"): Estimate.undefined(
                finding.failed
            )
            for finding in self.findings
            if finding.failed is not None
        }
        for metric, estimate in {**self.metrics, **failed}.items():
            values = (
                *(self.step, self.epoch, self.loss, metric, estimate.value, estimate.stderr),
                *(estimate.n, estimate.exact, estimate.note),
            )
            yield dict(zip(COLUMNS, values, strict=True))


class History(Sequence[Record]):
    """Records in the order they were made."""

    def __init__(self, records: Sequence[Record] = ()) -> None:
        self._records = list(records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> Record | History:
        if isinstance(index, slice):
            return History(self._records[index])
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._records == other._records

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"History of {len(self)} observations"

    def append(self, record: Record) -> None:
        """Add a record."""
        self._records.append(record)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row a number: step, epoch, loss, metric, value, stderr, n, exact, note.

        A finding that failed has a row whose metric ends in ``failed``: NaN, with the reason as its
        note.
        """
        for record in self._records:
            yield from record.rows()

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame(list(self.rows()), columns=list(COLUMNS))
        return frame

    def summary(self) -> str:
        """Return the numbers of the last observation as text, with what is known of their worth.

        A number that has a score card comes with its verdict and psi, see
        :func:`~geomprobe.diagnostics.published_scores`; of one that has not been scored nothing is
        known about how well it predicts generalization.
        """
        from geomprobe.diagnostics import score_of

        if not self._records:
            return "no observation yet"
        last = self._records[-1]
        rows = []
        for (*key, repeat), estimate in numbers(last.findings):
            analyzer, _, stat = key
            name = metric_name(*key) + (f"#{repeat}" if repeat else "")
            rows.append((name, str(estimate), str(score_of(f"{analyzer}/{stat}") or "not scored")))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"step {last.step}" + ("" if last.loss is None else f", loss {last.loss:.4g}")]
        for name, value, score in rows:
            lines.append(f"  {name:{widths[0]}}  {value:{widths[1]}}  {score}")
        for finding in last.findings:
            if finding.failed is not None:
                lines.append(f"  {finding.analyzer} of {finding.subject} failed: {finding.failed}")
        return "\n".join(lines)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the records as plain types."""
        return [
            {
                **vars(record),
                # JSON has no NaN, and a loss that is NaN is not one that is missing.
                "loss": "NaN" if record.loss != record.loss else encode(record.loss),
                "findings": [finding.to_dict() for finding in record.findings],
            }
            for record in self._records
        ]

    @classmethod
    def from_dicts(cls, rows: Iterable[Mapping[str, Any]]) -> History:
        """Return the history whose :meth:`to_dicts` these are."""
        records = []
        for row in rows:
            loss = None if row["loss"] is None else float(row["loss"])
            findings = tuple(map(Finding.from_dict, row["findings"]))
            records.append(Record(**{**row, "loss": loss, "findings": findings}))
        return cls(records)

    def save(self, path: PathLike) -> None:
        """Write the history as a JSON file."""
        write_json(path, self.to_dicts())

    @classmethod
    def load(cls, path: PathLike) -> History:
        """Read a history that :meth:`save` wrote."""
        return cls.from_dicts(read_json(path))
