"""Put audits side by side: ``geomprobe compare`` and ``geomprobe rank``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from geomprobe.cli.options import DATA, ImageSize, data_from, loss_from, size_for
from geomprobe.named_objects import made_by


def compare(
    a: Annotated[Path, typer.Argument(help="report.json of one audit, or its folder.")],
    b: Annotated[Path, typer.Argument(help="report.json of another.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="MODULE:FACTORY of both models: also the loss on the line between them, with the "
            "weights that the reports name, on --data."
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help=f"For --model. {DATA}")] = None,
    loss: Annotated[str | None, typer.Option(help="For --model, as for audit.")] = None,
    image_size: ImageSize = None,
) -> None:
    """Compare two audits, number by number.

    Importing MODULE runs its code, so name only modules that you trust.
    """
    from geomprobe.auditing import compare as run

    size = size_for(data, image_size)
    reports = _reports((a, b))
    options: dict[str, Any] = {}
    if model is not None:
        if data is None:
            raise ValueError("--model looks at the loss between two models, and takes --data")
        pair = tuple(_weighted(made_by(model), report) for report in reports)
        options = {"models": pair, "data": data_from(data, size), "loss": loss_from(loss)}
    typer.echo(run(*reports, names=(str(a), str(b)), **options).summary())


def rank(
    paths: Annotated[
        list[Path], typer.Argument(help="report.json of each audit, or its folder; two or more.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="HTML file of them side by side.")
    ] = None,
) -> None:
    """Put audits side by side, and rank checkpoints of one family by what has been scored."""
    from geomprobe.auditing import Checkpoints

    compared = Checkpoints(_reports(paths), tuple(map(str, paths)))
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
