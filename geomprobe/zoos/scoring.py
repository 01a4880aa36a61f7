"""Scores of a zoo: its measures against its gaps, and the page that shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import geomprobe
from geomprobe.diagnostics import ModelZoo, ScoreTable, scorecard
from geomprobe.diagnostics.combinations import COMBINATIONS
from geomprobe.diagnostics.measures import BASELINES, MEASURES
from geomprobe.storage import PathLike, read_json, write_json
from geomprobe.zoos.protocol import ZooProtocol
from geomprobe.zoos.records import ZooFolder, cell

if TYPE_CHECKING:
    import pandas as pd

TARGETS = ("gap", "gap_cross_entropy", "test_error")
_OPENINGS = "openings.json"


@dataclass(frozen=True)
class ZooScores:
    """The score cards of a zoo; made by :func:`score_zoo`.

    Parameters
    ----------
    protocol : ZooProtocol
    target : str
        What measures were to predict.
    tables : mapping of str to ScoreTable
        ``"all"``, and one for each level of label noise, such as ``"label_noise = 0.1"``.
    left_out : DataFrame
        By axis and value: how many models there were, and how many did not converge or failed.
    seconds : mapping of str to float
        Median seconds a model, of training and of each group of measures.
    openings : int
        How many sets of measures the gaps of a held-out zoo have been looked at for.
    """

    protocol: ZooProtocol
    target: str
    tables: Mapping[str, ScoreTable]
    left_out: pd.DataFrame
    seconds: Mapping[str, float]
    openings: int

    def to_markdown(self) -> str:
        """Return the scores as a page."""
        parts = [f"# Zoo {self.protocol.name}", self._facts()]
        for name, table in self.tables.items():
            parts += [f"## Models: {name}", _beside(table), _cards(table)]
        parts += ["## Models left out", _markdown(self.left_out)]
        seconds = [f"{name} {value:.2g}" for name, value in self.seconds.items()]
        parts += ["## Cost", f"Median seconds a model: {', '.join(seconds)}."]
        return "\n\n".join(parts) + "\n"

    def _facts(self) -> str:
        axes = "; ".join(
            f"{axis}: {', '.join(map(str, values))}" for axis, values in self.protocol.axes.items()
        )
        held = f" Held out; opened {self.openings} times." if self.protocol.held_out else ""
        return (
            f"Axes: {axes}. Seeds of each cell: {len(self.protocol.seeds)}. Protocol "
            f"`{self.protocol.digest[:16]}`.{held} Predicted is `{self.target}`. "
            "The sign of every measure was declared beforehand, and is in the table: `-` where "
            "smaller numbers are expected of models with larger gaps. Baselines are in italics."
        )


def score_zoo(
    folder: PathLike,
    *,
    target: str = "gap",
    open_held_out: bool = False,
    replicates: int = 1000,
    draws: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> ZooScores:
    """Score every measure of a zoo that was run.

    Parameters
    ----------
    folder : path
        Of :func:`run_zoo`.
    target : {"gap", "gap_cross_entropy", "test_error"}
        What measures are to predict: test error less training error, the same of the
        cross-entropy, which the scale of the outputs rules, or the test error.
    open_held_out : bool
        Look at the gaps of a held-out zoo. The time, the version and a hash of the measures are
        kept in ``openings.json``, once for each set of measures.
    replicates, draws, seed, progress
        See :func:`~geomprobe.diagnostics.scorecard`.

    Returns
    -------
    ZooScores
        Of the models that converged.

    Raises
    ------
    ValueError
        Another target, no zoo is there, too few models converged, the signs of measures have
        changed since it was run, or it is held out and ``open_held_out`` was not said.
    """
    if target not in TARGETS:
        raise ValueError(f"target must be one of {TARGETS}, got {target!r}")
    home = ZooFolder(Path(folder))
    protocol = home.protocol
    home.require_unchanged(protocol)
    measures = home.measures()
    openings = 0
    if protocol.held_out:
        if not open_held_out:
            raise ValueError(
                f"zoo {protocol.name} is held out: to look at its gaps say so, by --open-held-out "
                "or open_held_out=True, once a release; it will be recorded"
            )
        openings = _record_opening(home, measures)
    rows = measures.merge(home.gaps(), on="number", how="left")
    zoo, kept = _converged(protocol, rows, target)
    tables = {}
    for label, part in _parts(zoo, kept).items():
        tables[label] = scorecard(
            part,
            baselines=[name for name in BASELINES if name in zoo.diagnostics],
            n_test=None if target == "gap_cross_entropy" else int(kept["test_samples"].iloc[0]),
            replicates=replicates,
            draws=draws,
            seed=seed,
            progress=progress,
        )
    seconds = {
        column.removeprefix("seconds."): float(kept[column].median())
        for column in map(str, kept)
        if column.startswith("seconds.")
    }
    return ZooScores(protocol, target, tables, _left_out(protocol, rows), seconds, openings)


def model_zoo(folder: PathLike, *, target: str = "gap") -> ModelZoo:
    """Return the models of a zoo that converged, with measures whose signs are applied.

    Parameters
    ----------
    folder : path
        Of :func:`run_zoo`.
    target : {"gap", "gap_cross_entropy", "test_error"}

    Raises
    ------
    ValueError
        No zoo is there, it is held out, or no model converged.
    """
    home = ZooFolder(Path(folder))
    if home.protocol.held_out:
        raise ValueError(f"zoo {home.protocol.name} is held out: score it by score_zoo")
    rows = home.measures().merge(home.gaps(), on="number", how="left")
    return _converged(home.protocol, rows, target)[0]


def _converged(
    protocol: ZooProtocol, rows: pd.DataFrame, target: str
) -> tuple[ModelZoo, pd.DataFrame]:
    """Return the zoo of the models that converged, and their rows; signs are applied in both."""
    kept = rows[rows["failed"] == ""]
    if not len(kept):
        most = rows["failed"].value_counts().index[0]
        raise ValueError(
            f"none of {len(rows)} models of zoo {protocol.name} has measures; most often: {most}"
        )
    for one in COMBINATIONS:  # Of records that are older than the combination.
        if {*one.parts} <= {*kept}:
            made = one.of_table(kept)
            known = kept[one.name].fillna(made) if one.name in kept else made
            kept = kept.assign(**{one.name: known})
    axes = [axis for axis in protocol.axes if kept[_column(axis)].nunique() > 1]
    names = [name for name in MEASURES if name in kept]
    for name in names:
        kept = kept.assign(**{name: MEASURES[name].sign * kept[name].astype(float)})
    zoo = ModelZoo.from_frame(
        kept,
        axes=[_column(axis) for axis in axes],
        gap=target,
        diagnostics=names,
        halves=("gap_half_1", "gap_half_2") if target == "gap" else None,
    )
    return replace(zoo, axes=tuple(axes)), kept


def _column(axis: str) -> str:
    return f"settings.{axis}"


def _parts(zoo: ModelZoo, kept: pd.DataFrame) -> dict[str, ModelZoo]:
    """Return the whole zoo, and what is left of it at each level of label noise."""
    parts = {"all": zoo}
    if "label_noise" in zoo.axes:
        for level in sorted(kept[_column("label_noise")].unique()):
            try:
                part = zoo.where((kept[_column("label_noise")] == level).to_numpy())
            except ValueError:
                continue  # Too few of its models converged.
            parts[f"label_noise = {level:g}"] = part
    return parts


def _left_out(protocol: ZooProtocol, rows: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    counts = []
    for axis, values in protocol.axes.items():
        for value in values:
            here = rows[rows[_column(axis)] == cell(value)]
            out = int((here["failed"] != "").sum())
            counts.append({"axis": axis, "value": str(value), "models": len(here), "left out": out})
    table: pd.DataFrame = pd.DataFrame(counts)
    return table


def _record_opening(home: ZooFolder, measures: pd.DataFrame) -> int:
    path = home.path / _OPENINGS
    openings = read_json(path) if path.exists() else []
    looked_at = measures.to_csv(index=False) + repr(COMBINATIONS)
    digest = sha256(looked_at.encode()).hexdigest()
    # The same measures again show nothing new.
    if digest not in [opening["measures"] for opening in openings]:
        when = datetime.now(timezone.utc).isoformat(timespec="seconds")
        openings.append({"when": when, "version": geomprobe.__version__, "measures": digest})
        write_json(path, openings)
    return len(openings)


def _beside(table: ScoreTable) -> str:
    chance = "; ".join(
        f"{name} {low:+.2f} to {high:+.2f}" for name, (low, high) in table.chance.items()
    )
    oracles = ", ".join(f"{sigma:g}: {psi:+.2f}" for sigma, psi in table.oracles.items())
    return (
        f"{table.n_models} models in {table.n_cells} cells. Independent noise: {chance}. Psi of "
        f"the gap with noise on it: {oracles}; of one half of the test set for the other: "
        f"{table.ceiling:+.2f}."
    )


def _cards(table: ScoreTable) -> str:
    rows: list[list[object]] = []
    ordered = sorted(
        table.values(), key=lambda card: -math.inf if math.isnan(card.psi.value) else card.psi.value
    )
    for card in reversed(ordered):
        name = f"*{card.name}*" if card.name in BASELINES else f"**{card.name}**"
        rows.append(
            [
                name,
                "-" if MEASURES[card.name].sign < 0 else "+",
                card.psi,
                card.partial,
                f"{card.tau.value:+.2f}",
                f"{card.information.value:.2f}",
                f"{card.worst_sign_error:.2f}",
                f"{card.within_cells:+.2f}",
                f"{card.reliability:.2f}",
                f"{card.adjusted_p:.3f}",
                f"{card.failed:.0%}",
                f"{card.verdict}: {card.reason}" if card.reason else card.verdict,
            ]
        )
    head = (
        *("measure", "sign", "psi", "partial", "tau", "information", "worst sign error"),
        *("within cells", "reliability", "adjusted p", "no number", "verdict"),
    )
    return _table(head, rows)


def _markdown(frame: pd.DataFrame) -> str:
    return _table(tuple(frame.columns), frame.to_numpy().tolist())


def _table(head: tuple[str, ...], rows: list[list[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
