"""Families of models: ``geomprobe zoo show``, ``run`` and ``score``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from geomprobe.cli.exit_codes import COMPLETE, PARTIAL

zoo = typer.Typer(
    help="Train families of models, and score measures on them.", no_args_is_help=True
)

_File = Annotated[Path, typer.Argument(help="A TOML file: see docs/score_cards.md.")]
_Quick = Annotated[bool, typer.Option("--quick", help="The variant of that name.")]
_Smoke = Annotated[bool, typer.Option("--smoke", help="The variant of that name.")]


def _protocol(file: Path, quick: bool, smoke: bool) -> Any:
    from geomprobe.zoos import ZooProtocol

    if quick and smoke:
        raise ValueError("choose one of --quick and --smoke")
    variant = "quick" if quick else "smoke" if smoke else None
    return ZooProtocol.from_toml(file, variant=variant)


@zoo.command("show")
def show_zoo(file: _File, quick: _Quick = False, smoke: _Smoke = False) -> None:
    """Tell what a zoo's protocol is, and its hash."""
    protocol = _protocol(file, quick, smoke)
    for axis, values in protocol.axes.items():
        typer.echo(f"{axis}: {', '.join(map(str, values))}")
    typer.echo(f"{protocol.name}: {len(protocol.models)} models, {len(protocol.seeds)} a cell")
    typer.echo(f"sha256 {protocol.digest}")


@zoo.command("run")
def run_zoo(
    file: _File,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the records.")],
    quick: _Quick = False,
    smoke: _Smoke = False,
    jobs: Annotated[int | None, typer.Option(help="Models at a time; -1 for all cores.")] = None,
) -> None:
    """Train and measure the models of a zoo; run it again to go on where it stopped.

    Importing the module that the file names runs its code, so name only modules that you trust.
    """
    from geomprobe.zoos import run_zoo as run

    protocol = _protocol(file, quick, smoke)
    folder = run(protocol, output, n_jobs=jobs, progress=sys.stderr.isatty())
    done = len(folder.finished)
    typer.echo(f"{done} of {len(protocol.models)} models in {output}")
    failures = folder.failures()
    for reason, count in failures.items():
        typer.echo(f"{count} without measures: {reason}", err=True)
    raise typer.Exit(COMPLETE if done == len(protocol.models) else PARTIAL)


@zoo.command("score")
def score_zoo(
    folders: Annotated[list[Path], typer.Argument(help="What `zoo run` wrote, one or several.")],
    markdown: Annotated[
        Path | None, typer.Option(help="File for the page; by default it is printed.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="File for the scores that reports show.")
    ] = None,
    target: Annotated[
        str, typer.Option(help="gap, gap_cross_entropy or test_error: what is to be predicted.")
    ] = "gap",
    open_held_out: Annotated[
        bool, typer.Option("--open-held-out", help="Look at held-out gaps; it is recorded.")
    ] = False,
    replicates: Annotated[int, typer.Option(help="Bootstrap resamples and permutations.")] = 1000,
) -> None:
    """Score every measure of zoos against their gaps."""
    from geomprobe.zoos import publish
    from geomprobe.zoos import score_zoo as score

    scored = [
        score(
            folder,
            target=target,
            open_held_out=open_held_out,
            replicates=replicates,
            draws=replicates,
            progress=sys.stderr.isatty(),
        )
        for folder in folders
    ]
    if json is not None:
        typer.echo(str(publish(scored, json)))
    page = "\n".join(one.to_markdown() for one in scored)
    if markdown is None:
        typer.echo(page)
    else:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(page, encoding="utf-8")
        typer.echo(str(markdown))
