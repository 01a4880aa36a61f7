"""Estimate and Finding: what every analysis returns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from geomprobe.exceptions import FileFormatError
from geomprobe.storage import (
    Array,
    PathLike,
    decode_array,
    decode_number,
    encode,
    read_json,
    write_json,
)
from geomprobe.values import ByValue


@dataclass(frozen=True, eq=False)
class Estimate(ByValue):
    """One number, and what it is worth.

    Parameters
    ----------
    value : float
        The number. NaN only with a ``note`` that gives the reason: see :meth:`undefined`.
    stderr : float
        Standard error; 0 for an exact number, NaN where none is known.
    n : int, optional
        How many points, samples or draws the number rests on.
    exact : bool
        Whether the number is what its name says without approximation or sampling.
    method : str
        How it was got.
    note : str
        What else a reader must know.
    """

    value: float
    stderr: float = math.nan
    n: int | None = None
    exact: bool = False
    method: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "stderr", 0.0 if self.exact else float(self.stderr))
        if math.isnan(self.value) and not self.note:
            raise ValueError("an Estimate without a value needs a note that says why")
        if self.stderr < 0:
            raise ValueError(f"a standard error cannot be negative, got {self.stderr}")

    @classmethod
    def undefined(cls, reason: str, *, n: int | None = None, method: str = "") -> Estimate:
        """Return a number that means nothing, with the reason."""
        return cls(math.nan, n=n, method=method, note=reason)

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"undefined ({self.note})"
        if self.exact:
            return f"{self.value:.4g} (exact)"
        spread = "?" if math.isnan(self.stderr) else f"{self.stderr:.2g}"
        return f"{self.value:.4g} ± {spread}"

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate in JSON types; :meth:`from_dict` gives it back."""
        return {name: encode(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Estimate:
        """Give back what :meth:`to_dict` wrote."""
        numbers = {name: decode_number(document[name]) for name in ("value", "stderr")}
        return cls(**{**document, **numbers})


@dataclass(frozen=True, eq=False)
class Finding(ByValue):
    """What one analyzer says about one subject.

    Parameters
    ----------
    analyzer : str
        Name of the analyzer.
    subject : str
        What it speaks of: a layer's name, or ``"model"``.
    scalars : mapping of str to Estimate
        Numbers by name.
    arrays : mapping of str to ndarray
        Curves, spectra and diagrams: aggregates, never raw points.
    notes : tuple of str
        What a reader must know: points left out, settings chosen, fallbacks taken.
    seconds : float
        Wall time the finding took.
    failed : str, optional
        Why there is no result; ``None`` where there is one.
    """

    analyzer: str
    subject: str
    scalars: Mapping[str, Estimate] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    failed: str | None = None

    def __post_init__(self) -> None:
        for kind, named in ((Estimate, self.scalars), (np.ndarray, self.arrays)):
            for name, value in named.items():
                if not isinstance(value, kind):
                    raise TypeError(
                        f"{name!r} of a finding of {self.analyzer!r} must be a {kind.__name__}, "
                        f"got {type(value).__name__}; scalars are Estimate(value, stderr, n=, "
                        "method=) or Estimate(value, exact=True), arrays are numpy arrays"
                    )

    def to_dict(self) -> dict[str, Any]:
        """Return the finding in JSON types; :meth:`from_dict` gives it back."""
        return {
            "analyzer": self.analyzer,
            "subject": self.subject,
            "scalars": {name: estimate.to_dict() for name, estimate in self.scalars.items()},
            "arrays": encode(self.arrays),
            "notes": list(self.notes),
            "seconds": self.seconds,
            "failed": self.failed,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Finding:
        """Give back what :meth:`to_dict` wrote."""
        scalars = {name: Estimate.from_dict(value) for name, value in document["scalars"].items()}
        arrays = {name: decode_array(value) for name, value in document["arrays"].items()}
        notes = tuple(document["notes"])
        return cls(**{**document, "scalars": scalars, "arrays": arrays, "notes": notes})

    def save(self, path: PathLike) -> None:
        """Write the finding as a JSON file."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: PathLike) -> Finding:
        """Read a finding that :meth:`save` wrote."""
        document = read_json(path)
        try:
            return cls.from_dict(document)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"{path} holds no Finding: {error!r}") from error


# --- names --------------------------------------------------------------------------------------


def metric_name(analyzer: str, subject: str, stat: str) -> str:
    """Return the name of a number in logs, sinks and conditions."""
    return f"geom/{analyzer}/{subject}/{stat}"


def numbers(findings: Iterable[Finding]) -> Iterator[tuple[tuple[str, str, str, int], Estimate]]:
    """Yield every number by analyzer, subject, stat, and how many came before under these."""
    seen: Counter[tuple[str, str, str]] = Counter()
    for finding in findings:
        for stat, estimate in finding.scalars.items():
            key = finding.analyzer, finding.subject, stat
            yield (*key, seen[key]), estimate
            seen[key] += 1


def metrics(findings: Iterable[Finding]) -> dict[str, Estimate]:
    """Return every number by its metric name, ``geom/<analyzer>/<layer>/<stat>``.

    Where an analyzer ran twice with different parameters, its second number of one name ends in
    ``#1``, its third in ``#2``.
    """
    return {
        metric_name(*key) + (f"#{repeat}" if repeat else ""): estimate
        for (*key, repeat), estimate in numbers(findings)
    }
