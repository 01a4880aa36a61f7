"""Put audits side by side: ``geomprobe compare`` and ``geomprobe rank``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from geomprobe.cli.options import DATA, ImageSize, Minutes, data_from, loss_from, size_for
from geomprobe.named_objects import made_by

Page = Annotated[
    Path | None, typer.Option("-o", "--output", help="HTML file of them side by side.")
]
Factory = Annotated[
    str | None,
    typer.Option(
        help="MODULE:FACTORY of the models: also what lies between them, with the weights that the "
        "reports name, on --data."
    ),
]
BetweenData = Annotated[str | None, typer.Option(help=f"For --model. {DATA}")]
Test = Annotated[str | None, typer.Option(help="For --model: data that were not trained on.")]
BetweenLoss = Annotated[str | None, typer.Option(help="For --model, as for audit.")]


def compare(
    a: Annotated[Path, typer.Argument(help="report.json of one audit, or its folder.")],
    b: Annotated[Path, typer.Argument(help="report.json of another.")],
    model: Factory = None,
    data: BetweenData = None,
    test: Test = None,
    loss: BetweenLoss = None,
    image_size: ImageSize = None,
    budget_minutes: Minutes = None,
    output: Page = None,
) -> None:
    """Compare two audits, number by number.

    Importing MODULE runs its code, so name only modules that you trust.
    """
    from geomprobe.auditing import Checkpoints
    from geomprobe.auditing import compare as run

    size = size_for(data, image_size)
    first, second = _reports((a, b))
    names = str(a), str(b)
    named = {names[0]: first, names[1]: second}
    found = _between(named, model, data, test, loss, size, budget_minutes)
    typer.echo(run(first, second, names=names, between=found).summary())
    if output is not None:
        typer.echo(f"\n{Checkpoints((first, second), names, found).to_html(output)}")


def rank(
    paths: Annotated[
        list[Path], typer.Argument(help="report.json of each audit, or its folder; two or more.")
    ],
    model: Factory = None,
    data: BetweenData = None,
    test: Test = None,
    loss: BetweenLoss = None,
    image_size: ImageSize = None,
    budget_minutes: Minutes = None,
    output: Page = None,
) -> None:
    """Put audits side by side, and rank checkpoints of one family by what has been scored.

    Importing MODULE runs its code, so name only modules that you trust.
    """
    from geomprobe.auditing import Checkpoints

    size = size_for(data, image_size)
    compared = Checkpoints(_reports(paths), tuple(map(str, paths)))
    named = dict(zip(compared.names, compared.reports, strict=True))
    found = _between(named, model, data, test, loss, size, budget_minutes)
    compared = replace(compared, between=found)
    typer.echo(compared.summary())
    if output is not None:
        typer.echo(f"\n{compared.to_html(output)}")


def _reports(paths: Iterable[Path]) -> tuple[Any, ...]:
    """Read reports, each from its file or from the folder of an audit."""
    from geomprobe.auditing import AuditReport

    files = [path / "report.json" if path.is_dir() else path for path in paths]
    for path, file in zip(paths, files, strict=True):
        if not file.is_file():
            inside = sorted(path.glob("*/report.json"))
            hint = f"; name the audits in it, such as {inside[0].parent}" if inside else ""
            raise ValueError(f"there is no report {file}{hint}")
    return tuple(map(AuditReport.from_json, files))


def _between(
    reports: Mapping[str, Any],
    model: str | None,
    data: str | None,
    test: str | None,
    loss: str | None,
    size: tuple[int, int] | None,
    budget_minutes: float | None,
) -> Any:
    """Return what lies between the models of reports; None without their factory."""
    from geomprobe.auditing import between

    if model is None:
        return None
    if data is None:
        raise ValueError("--model looks at what lies between models, and takes --data")
    if len(reports) < 2:
        raise ValueError("what lies between models takes two reports with names of their own")
    return between(
        {name: _weighted(made_by(model), report) for name, report in reports.items()},
        data_from(data, size),
        loss_from(loss),
        test=None if test is None else data_from(test, size),
        budget_minutes=budget_minutes,
        progress=sys.stderr.isatty(),
    )


def _weighted(model: Any, report: Any) -> Any:
    """Return a model with the weights that a report is about."""
    from geomprobe.storage import checksum
    from geomprobe.weights import load_weights

    weights = report.facts.get("weights")
    if weights is None:
        raise ValueError("a report names no weights: audit with --weights to compare models")
    if checksum(weights) != report.facts.get("sha256"):
        raise ValueError(f"{weights} is not the file that was audited: its SHA-256 differs")
    return load_weights(model, weights)
