"""Records of trained models: one file each while they come, two tables when they are gathered.

What is measured and the gap are kept apart, so that nothing that works on measures has to read a
gap.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomprobe.diagnostics.measures import MEASURES
from geomprobe.exceptions import needing
from geomprobe.findings import Estimate
from geomprobe.storage import decode_number, encode, read_json, write_json, writing_atomically
from geomprobe.zoos.protocol import ZooProtocol

if TYPE_CHECKING:
    import pandas as pd

_PROTOCOL, _MEASURES, _GAPS = "protocol.json", "measures", "gaps"


@dataclass(frozen=True)
class Record:
    """What is known of one model.

    Parameters
    ----------
    number, seed : int
    settings : mapping
        Hyper-parameters.
    failed : str, optional
        Why there are no measures: it did not converge, or something raised.
    facts : mapping of str to number
        Steps, training cross-entropy and error.
    measures : mapping of str to Estimate
    seconds : mapping of str to float
        Of training, and of each group of measures.
    gaps : mapping of str to float
    raised : bool
        Whether something raised: the model is then not finished, and tried again by the next run.
    """

    number: int
    seed: int
    settings: Mapping[str, Any]
    failed: str | None
    facts: Mapping[str, float]
    measures: Mapping[str, Estimate]
    seconds: Mapping[str, float]
    gaps: Mapping[str, float]
    raised: bool = False


@dataclass(frozen=True)
class ZooFolder:
    """A folder that holds a zoo.

    Parameters
    ----------
    path : Path
    """

    path: Path

    def open_for(self, protocol: ZooProtocol) -> None:
        """Make the folder that of a protocol, or see that it is.

        Raises
        ------
        ValueError
            It holds models of another protocol.
        ImportError
            Tables cannot be written: pyarrow is in the extra ``zoo``.
        """
        require_parquet()
        path = self.path / _PROTOCOL
        if path.exists():
            self.require_unchanged(protocol)
            return
        signs = {name: measure.sign for name, measure in MEASURES.items()}
        document = {"digest": protocol.digest, "protocol": protocol.to_dict(), "signs": signs}
        write_json(path, document)

    @property
    def protocol(self) -> ZooProtocol:
        """The protocol of what is in the folder.

        Raises
        ------
        ValueError
            There is none.
        """
        path = self.path / _PROTOCOL
        if not path.exists():
            raise ValueError(f"{self.path} holds no zoo: there is no {_PROTOCOL}")
        return ZooProtocol.from_dict(read_json(path)["protocol"])

    def require_unchanged(self, protocol: ZooProtocol) -> None:
        """Raise ValueError unless the folder is that of a protocol, with the signs of today."""
        document = read_json(self.path / _PROTOCOL)
        if document["digest"] != protocol.digest:
            raise ValueError(
                f"{self.path} holds models of another protocol ({document['digest'][:12]}, not "
                f"{protocol.digest[:12]}): give another folder"
            )
        changed = [
            name
            for name, sign in document["signs"].items()
            if name in MEASURES and MEASURES[name].sign != sign
        ]
        if changed:
            raise ValueError(
                f"{', '.join(changed)} had another sign when {self.path} was begun: signs are "
                "declared before a zoo is run; run it in another folder"
            )

    @property
    def finished(self) -> set[int]:
        """Numbers of the models that are trained, or known not to converge."""
        return {int(path.stem) for path in (self.path / _GAPS).glob("*.json")}

    def write(self, record: Record) -> None:
        """Write a record, whole or not at all."""
        name = f"{record.number:05d}.json"
        document = {
            "number": record.number,
            "seed": record.seed,
            "settings": encode(record.settings),
            "failed": record.failed,
            "facts": encode(record.facts),
            "measures": {name: one.to_dict() for name, one in record.measures.items()},
            "seconds": encode(record.seconds),
        }
        write_json(self.path / _MEASURES / name, document)
        if record.raised:
            return
        # Last: it is what says that the model is finished.
        write_json(self.path / _GAPS / name, {"number": record.number, **encode(record.gaps)})

    def gather(self) -> None:
        """Write all records, if any, as two tables: ``measures.parquet`` and ``gaps.parquet``."""
        import pandas as pd

        require_parquet()
        rows = {
            name: [read_json(path) for path in sorted((self.path / name).glob("*.json"))]
            for name in (_MEASURES, _GAPS)
        }
        if not rows[_MEASURES]:
            return
        measures = pd.DataFrame([_row(row) for row in rows[_MEASURES]])
        gaps = pd.DataFrame(rows[_GAPS], columns=None if rows[_GAPS] else ["number"])
        for name, table in ((_MEASURES, measures), (_GAPS, gaps)):
            with writing_atomically(self.path / f"{name}.parquet") as unfinished:
                table.to_parquet(unfinished, index=False)

    def failures(self) -> dict[str, int]:
        """Return why models have no measures, and how many each, from their records."""
        found = [read_json(path)["failed"] for path in (self.path / _MEASURES).glob("*.json")]
        return dict(Counter(reason for reason in found if reason).most_common())

    def measures(self) -> pd.DataFrame:
        """Return the table of what was measured: a row a model; no gap is read."""
        return self._table(_MEASURES)

    def gaps(self) -> pd.DataFrame:
        """Return the table of gaps, a row a model."""
        return self._table(_GAPS)

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        require_parquet()
        path = self.path / f"{name}.parquet"
        if not path.exists():
            raise ValueError(f"there is no {path}: run the zoo first")
        return pd.read_parquet(path)


def _row(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row: a column for each setting, fact and time, three for each measure."""
    row = {"number": document["number"], "seed": document["seed"]}
    row |= {f"settings.{name}": cell(value) for name, value in document["settings"].items()}
    row["failed"] = document["failed"] or ""
    row |= document["facts"]
    for name, written in document["measures"].items():
        estimate = Estimate.from_dict(written)
        row |= {name: estimate.value, f"{name}.stderr": estimate.stderr}
        row[f"{name}.note"] = estimate.note
    seconds = {name: decode_number(value) for name, value in document["seconds"].items()}
    return row | {f"seconds.{name}": value for name, value in seconds.items()}


def cell(value: Any) -> Any:
    """Return a setting as it stands in a table: a list or a table as JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def require_parquet() -> None:
    """Raise ImportError, with what to do, if tables cannot be written."""
    with needing("pyarrow for the tables of a zoo", "zoo"):
        import_module("pyarrow")
