"""Look before an audit: ``geomprobe layers`` and ``geomprobe doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from geomprobe.cli.exit_codes import COMPLETE, PARTIAL
from geomprobe.cli.options import (
    DATA,
    Exclude,
    ImageSize,
    Layers,
    Layout,
    Model,
    Pool,
    data_from,
    size_for,
)
from geomprobe.named_objects import made_by


def layers(
    model: Model,
    data: Annotated[str | None, typer.Option(help=f"Show the model a batch of it. {DATA}")] = None,
    layers: Layers = None,
    exclude: Exclude = None,
    pool: Pool = "auto",
    layout: Layout = "auto",
    image_size: ImageSize = None,
) -> None:
    """List the layers that an audit would observe, and those it would skip, with the reason.

    Importing MODULE runs its code, so name only modules that you trust.
    """
    from geomprobe.auditing.report import table
    from geomprobe.evidence import forward
    from geomprobe.hooks.quiet import quiet
    from geomprobe.sampling import Probe, iterate_batches

    size = size_for(data, image_size)
    built = made_by(model)
    probe = Probe(built, layers or "auto", exclude=exclude or (), pool=pool, layout=layout)
    if data is not None:
        batch = next(iter(iterate_batches(data_from(data, size))))
        with quiet(probe.model), probe:
            forward(probe.model, batch.inputs)
    rows = [
        (
            row["name"],
            row["type"],
            "selected" if row["status"] == "waiting" else row["status"],
            f"{row['points']} x {row['dimension']}" if row["points"] else "",
            ", ".join(row["aliases"]),
            row["reason"],
        )
        for row in probe.manifest
    ]
    header = ("layer", "type", "status", "points", "also called", "reason")
    typer.echo("\n".join([probe.selection.explanation, *table([header, *rows])]))


def doctor() -> None:
    """Tell what is installed, and what of it works."""
    from geomprobe.doctor import examine

    checks = examine()
    width = max(len(check.name) for check in checks)
    for check in checks:
        typer.echo(f"{check.status:6}  {check.name:{width}}  {check.detail}")
    broken = any(check.status == "broken" for check in checks)
    raise typer.Exit(PARTIAL if broken else COMPLETE)
