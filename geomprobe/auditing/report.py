"""AuditReport: what an audit found, as JSON, HTML, a data frame or a table for the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomprobe.auditing.notation import counted, one_line, value_and_error
from geomprobe.exceptions import FileFormatError
from geomprobe.findings import Estimate, Finding, metrics, numbers
from geomprobe.storage import PathLike, encode, read_json, write_atomically, write_json
from geomprobe.values import ByValue

if TYPE_CHECKING:
    import pandas as pd

KIND = "geomprobe audit"
SCHEMA_VERSION = 1
COLUMNS = (
    "analyzer", "subject", "stat", "value", "stderr", "n", "exact", "method", "note", "failed",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class AuditReport(ByValue):
    """What an audit of one model found.

    Parameters
    ----------
    findings : sequence of Finding
        What the analyzers said, failed findings included.
    layers : sequence of mappings
        The layers that were looked at or passed over, in the order of the model: ``name``,
        ``type``, ``status`` (``"observed"`` or ``"skipped"``), ``reason``, ``points``,
        ``dimension``, ``aliases``.
    readings : mapping of str to mapping of str to str
        How to read each number: one sentence by scalar name, by analyzer.
    facts : mapping of str to JSON
        What was audited and how. ``model``, ``parameters``, ``samples`` and ``seed`` are named in
        the summary, ``interrupted`` marks a report that was cut short, and the rest is shown as it
        is. NaN is kept as ``None`` here and in ``layers``, since both hold JSON types.
    caveats : mapping of str to str
        What the numbers of an analyzer do not say, by analyzer.

    Raises
    ------
    TypeError
        ``facts`` or ``layers`` hold what JSON cannot.
    """

    findings: tuple[Finding, ...]
    layers: tuple[dict[str, Any], ...] = ()
    readings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    caveats: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(self.findings))
        object.__setattr__(self, "layers", tuple(_json("layers", list(self.layers))))
        object.__setattr__(self, "facts", _json("facts", self.facts))

    def __str__(self) -> str:
        return self.summary()

    @property
    def partial(self) -> bool:
        """Whether a finding failed or the audit was interrupted."""
        return bool(self.facts.get("interrupted")) or any(
            finding.failed is not None for finding in self.findings
        )

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Every number by its metric name, ``geom/<analyzer>/<layer>/<stat>``.

        Where an analyzer ran twice with different parameters, its second number of one name ends in
        ``#1``, its third in ``#2``.
        """
        return metrics(self.findings)

    def numbers(self) -> Iterator[tuple[tuple[str, str, str, int], Estimate]]:
        """Yield every number by analyzer, subject, stat, and how many came before under these."""
        return numbers(self.findings)

    # --- files ----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the report in strict JSON types; :meth:`from_dict` gives it back."""
        return {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "facts": self.facts,
            "layers": list(self.layers),
            "readings": {name: dict(sentences) for name, sentences in self.readings.items()},
            "caveats": dict(self.caveats),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    @classmethod
    def from_dict(cls, document: Any) -> AuditReport:
        """Give back what :meth:`to_dict` wrote.

        Raises
        ------
        FileFormatError
            The document is no audit report, is of another schema, or lacks a part.
        """
        _require_schema(document)
        try:
            return cls(
                findings=tuple(Finding.from_dict(finding) for finding in document["findings"]),
                layers=document["layers"],
                readings=document["readings"],
                caveats=dict(document.get("caveats", {})),
                facts=document["facts"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(
                f"a damaged {KIND} report, {type(error).__name__}: {error}; expected every field "
                f"of schema version {SCHEMA_VERSION}"
            ) from error

    @staticmethod
    def schema() -> dict[str, Any]:
        """Return the JSON Schema (draft 2020-12) of what :meth:`to_dict` returns."""
        document: dict[str, Any] = read_json(Path(__file__).with_name("report.schema.json"))
        return document

    def to_json(self, path: PathLike) -> Path:
        """Write the report as a strict JSON file and return its path."""
        return write_json(path, self.to_dict())

    @classmethod
    def from_json(cls, path: PathLike) -> AuditReport:
        """Read a report that :meth:`to_json` wrote.

        Raises
        ------
        FileFormatError
            The file is no JSON, no audit report, or of another schema.
        """
        document = read_json(path)
        try:
            return cls.from_dict(document)
        except FileFormatError as error:
            raise FileFormatError(f"{path} is {error}") from error

    def to_html(self, path: PathLike) -> Path:
        """Write the report as one HTML file that needs no other file and no network."""
        from geomprobe.auditing.html import render

        return write_atomically(path, render(self).encode())

    # --- tables ---------------------------------------------------------------------------------

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers in long format, one row a number.

        The columns are analyzer, subject, stat, value, stderr, n, exact, method, note and failed
        (missing where nothing failed). A failed finding without numbers has one row, with an empty
        ``stat`` and NaN as its value.
        """
        import pandas as pd

        rows = [row for finding in self.findings for row in _rows(finding)]
        kinds = {"value": "float64", "stderr": "float64", "n": "Int64", "exact": "bool"}
        frame: pd.DataFrame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(kinds)
        return frame

    def summary(self) -> str:
        """Return the numbers as a table for the terminal."""
        lines = [_title(self.facts), _coverage(self.layers)]
        for analyzer in dict.fromkeys(finding.analyzer for finding in self.findings):
            numbers = [
                (subject, stat, *value_and_error(estimate), _count(estimate.n), estimate.note)
                for (name, subject, stat, _), estimate in self.numbers()
                if name == analyzer
            ]
            if numbers:
                header = ("layer", "stat", "value", "error", "sample", "note")
                lines += ["", one_line(analyzer), *table([header, *numbers], right=(2, 4))]
            lines += _scores(analyzer, {stat for _, stat, *_ in numbers})
        failed = [finding for finding in self.findings if finding.failed is not None]
        if failed:
            lines += ["", "failed"]
            lines += [listed(f"{f.analyzer} ({f.subject}): {f.failed}") for f in failed]
        if self.facts.get("interrupted"):
            lines += ["", "interrupted: the report holds what was finished"]
        return "\n".join(lines)


def table(rows: list[tuple[str, ...]], right: tuple[int, ...] = ()) -> list[str]:
    """Return rows of text as lines of aligned columns, indented by two spaces."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def listed(text: str) -> str:
    """Return a text as one line of a list, indented by two spaces."""
    return f"  {one_line(text)}"


def _rows(finding: Finding) -> Iterator[tuple[Any, ...]]:
    whose = finding.analyzer, finding.subject
    for stat, e in finding.scalars.items():
        yield (*whose, stat, e.value, e.stderr, e.n, e.exact, e.method, e.note, finding.failed)
    if finding.failed is not None and not finding.scalars:
        yield (*whose, "", math.nan, math.nan, None, False, "", "", finding.failed)


def _scores(analyzer: str, stats: Collection[str]) -> Iterator[str]:
    """Yield a line for each number of an analyzer that has a score card."""
    from geomprobe.diagnostics import score_of

    for stat in sorted(stats):
        if (score := score_of(f"{analyzer}/{stat}")) is not None:
            yield listed(f"{stat}: {score}")


def _title(facts: Mapping[str, Any]) -> str:
    parts = [str(facts.get("model", "a model"))]
    for name in ("parameters", "samples"):
        if isinstance(facts.get(name), int):
            parts.append(counted(facts[name], name[:-1]))
    if "seed" in facts:
        parts.append(f"seed {facts['seed']}")
    return one_line("geomprobe audit of " + " · ".join(parts))


def _coverage(layers: tuple[dict[str, Any], ...]) -> str:
    if not layers:
        return "no layer was observed"
    skipped = [str(layer.get("name")) for layer in layers if layer.get("status") == "skipped"]
    text = f"{counted(len(layers) - len(skipped), 'layer')} observed, {len(skipped)} skipped"
    return one_line(text + (f": {', '.join(skipped)}" if skipped else ""))


def _count(n: int | None) -> str:
    return "" if n is None else f"{n:,}"


def _json(name: str, value: Any) -> Any:
    encoded = encode(value)
    try:
        json.dumps(encoded, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must hold JSON types only (str, int, float, bool, None, lists, mappings), but "
            f"{error}"
        ) from error
    return encoded


def _require_schema(document: Any) -> None:
    if not isinstance(document, Mapping) or document.get("kind") != KIND:
        raise FileFormatError(
            f"not an audit report; expected a JSON object with kind {KIND!r} and schema_version "
            f"{SCHEMA_VERSION}"
        )
    found = document.get("schema_version")
    if found != SCHEMA_VERSION or isinstance(found, bool):
        newer = isinstance(found, int) and found > SCHEMA_VERSION
        remedy = "upgrade geomprobe to read it" if newer else "repeat the audit"
        raise FileFormatError(
            f"an audit report of schema version {found!r}, expected {SCHEMA_VERSION}: {remedy}"
        )
