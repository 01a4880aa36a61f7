"""The command line: ``geomprobe audit``, ``audit-many``, ``compare``, ``rank``, ``zoo``..."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from geomprobe.named_objects import load_object, made_by

COMPLETE, PARTIAL, UNUSABLE, FAILED_CONDITION = 0, 1, 2, 3

_LOSSES = ("cross_entropy", "mse_loss", "binary_cross_entropy_with_logits")

app = typer.Typer(
    help="The geometry of a PyTorch model. Exit codes: 0 all done, 1 done in part (a finding "
    "failed), 2 the input cannot be used, 3 a condition of --fail-on holds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
zoo = typer.Typer(
    help="Train families of models, and score measures on them.", no_args_is_help=True
)
app.add_typer(zoo, name="zoo")


def _loss(spec: str) -> Any:
    from torch.nn import functional

    if spec in _LOSSES:
        return getattr(functional, spec)
    if ":" not in spec:
        raise ValueError(f"loss must be one of {', '.join(_LOSSES)}, or MODULE:NAME, got {spec!r}")
    return load_object(spec)


def _analyzers(spec: str) -> list[Any]:
    names = [name.strip() for name in spec.split(",")]
    if not all(names):
        raise ValueError(f"--analyzers takes names between commas, got {spec!r}")
    return [load_object(name) if ":" in name else name for name in names]


Model = Annotated[str, typer.Argument(help="MODULE:FACTORY, a callable that returns the model.")]
DATA = (
    "MODULE:CALLABLE that returns a loader, dataset, or (inputs, targets); a .npz or .safetensors "
    "file of them; or a folder with a subfolder of images for each class."
)
Layers = Annotated[list[str] | None, typer.Option(help="Name, glob or re:...; may be repeated.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Leave these layers out; may be repeated.")]


Pickles = Annotated[
    bool,
    typer.Option("--trust-pickle", help="Open weights that are a pickle: runs its code."),
]
Loss = Annotated[
    str,
    typer.Option(help=f"{', '.join(_LOSSES)}, or MODULE:CALLABLE of (outputs, targets)."),
]
Analyzers = Annotated[
    str | None,
    typer.Option(help="Names, or MODULE:INSTANCE of one with parameters, between commas."),
]
Points = Annotated[int, typer.Option(help="Points a layer keeps.")]
Inputs = Annotated[int, typer.Option(help="Inputs for Fisher information.")]
Trained = Annotated[int | None, typer.Option(help="Number of training samples.")]
Minutes = Annotated[float | None, typer.Option(help="Plan the audit to fit; say what is left out.")]
ImageSize = Annotated[
    str | None,
    typer.Option(help="HEIGHTxWIDTH, or one for both: cut and scale images of a folder to it."),
]


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not height.isdecimal() or not (width or height).isdecimal() or "0" in (height, width):
        raise ValueError(f"--image-size takes HEIGHTxWIDTH, such as 32 or 48x64, got {text!r}")
    return int(height), int(width or height)


def _size_for(data: str | None, text: str | None) -> tuple[int, int] | None:
    size = _size(text)
    if size is not None and (data is None or not Path(data).is_dir()):
        raise ValueError(f"--image-size is for --data that is a folder of images, got {data}")
    return size


def _data(spec: str, image_size: tuple[int, int] | None) -> Any:
    from geomprobe.auditing.data_files import named_data

    return named_data(spec, image_size)


@app.command()
def audit(
    model: Model,
    data: Annotated[str, typer.Option(help=DATA)],
    weights: Annotated[
        Path | None, typer.Option(help="A .safetensors file; pickles are refused.")
    ] = None,
    trust_pickle: Pickles = False,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the report.")] = Path(
        "audit"
    ),
    loss: Loss = "cross_entropy",
    layers: Layers = None,
    exclude: Exclude = None,
    analyzers: Analyzers = None,
    points: Points = 1000,
    samples: Inputs = 64,
    n_train: Trained = None,
    trajectory: Annotated[
        Path | None, typer.Option(help="The path of the training: a file of Trajectory.save.")
    ] = None,
    seed: int = 0,
    budget_minutes: Minutes = None,
    image_size: ImageSize = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(help="'geom/ANALYZER/LAYER/STAT > 3', with globs; may be repeated."),
    ] = None,
) -> None:
    """Audit a model and write report.html and report.json.

    Importing MODULE runs its code, so name only modules that you trust.
    """
    from geomprobe.auditing import audit as run
    from geomprobe.auditing.conditions import Condition
    from geomprobe.clouds import Trajectory
    from geomprobe.exceptions import FailedAnalysisWarning
    from geomprobe.storage import checksum
    from geomprobe.weights import load_weights

    warnings.simplefilter("ignore", FailedAnalysisWarning)  # the summary ends with what failed
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output names a folder for the reports, and {output} is a file")
    conditions = [Condition.parse(text) for text in fail_on or ()]
    size = _size_for(data, image_size)
    built = made_by(model)
    fingerprint = None if weights is None else checksum(weights)
    if weights is not None:
        load_weights(built, weights, trust_pickle=trust_pickle)
        if checksum(weights) != fingerprint:
            raise ValueError(f"{weights} changed while it was read")
    else:
        typer.echo(f"no --weights: auditing the model as {model} builds it", err=True)
    report = run(
        built,
        _data(data, size),
        loss=_loss(loss),
        layers=layers or "auto",
        exclude=exclude or (),
        analyzers=None if analyzers is None else _analyzers(analyzers),
        points=points,
        samples=samples,
        n_train=n_train,
        trajectory=None if trajectory is None else Trajectory.load(trajectory),
        seed=seed,
        budget_minutes=budget_minutes,
        progress=sys.stderr.isatty(),
    )
    source = {
        "factory": model,
        "weights": None if weights is None else str(weights),
        "sha256": fingerprint,
        "data": data,
    }
    report = replace(report, facts={**report.facts, **source})
    # What is finished never replaces a complete report.
    stem = "report.partial" if report.facts["interrupted"] else "report"
    typer.echo(report.summary() + "\n")
    partial = report.partial
    for write, kind in ((report.to_json, "json"), (report.to_html, "html")):
        try:
            typer.echo(write(output / f"{stem}.{kind}"))
        except OSError as error:
            typer.echo(f"geomprobe: {stem}.{kind} is not written: {error}", err=True)
            partial = True
    said = [line for condition in conditions for line in condition.violations(report.metrics)]
    for line in said:
        typer.echo(f"failed: {line}", err=True)
    code = FAILED_CONDITION if said else PARTIAL if partial else COMPLETE
    raise typer.Exit(code)


@app.command()
def audit_many(
    model: Model,
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Files of weights of that model: .safetensors.")
    ],
    data: Annotated[str, typer.Option(help=DATA)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the reports, one of each.")
    ] = Path("audits"),
    jobs: Annotated[int | None, typer.Option(help="Audits at a time; -1 for all cores.")] = None,
    trust_pickle: Pickles = False,
    loss: Loss = "cross_entropy",
    layers: Layers = None,
    exclude: Exclude = None,
    analyzers: Analyzers = None,
    points: Points = 1000,
    samples: Inputs = 64,
    n_train: Trained = None,
    seed: int = 0,
    budget_minutes: Minutes = None,
    image_size: ImageSize = None,
) -> None:
    """Audit many checkpoints of one model in the same way; run it again to go on where it stopped.

    Importing MODULE runs its code, so name only modules that you trust.
    """
    from geomprobe.auditing import audit_many as run
    from geomprobe.auditing.data_files import named_data
    from geomprobe.exceptions import FailedAnalysisWarning

    warnings.simplefilter("ignore", FailedAnalysisWarning)  # What failed is listed below.
    size = _size_for(data, image_size)
    reports = run(
        checkpoints,
        model,
        data if size is None else functools.partial(named_data, data, size),
        output=output,
        n_jobs=jobs,
        trust_pickle=trust_pickle,
        progress=sys.stderr.isatty(),
        loss=_loss(loss),
        layers=layers or "auto",
        exclude=exclude or (),
        analyzers=None if analyzers is None else _analyzers(analyzers),
        points=points,
        samples=samples,
        n_train=n_train,
        seed=seed,
        budget_minutes=budget_minutes,
    )
    for name, report in reports.items():
        typer.echo(f"{'partial ' if report.partial else 'complete'}  {output / name}")
        for finding in report.findings:
            if finding.failed is not None:
                typer.echo(f"  {finding.analyzer} ({finding.subject}): {finding.failed}", err=True)
    typer.echo(f"\n{output / 'numbers.csv'}")
    raise typer.Exit(PARTIAL if any(one.partial for one in reports.values()) else COMPLETE)


@app.command()
def layers(
    model: Model,
    data: Annotated[str | None, typer.Option(help=f"Show the model a batch of it. {DATA}")] = None,
    layers: Layers = None,
    exclude: Exclude = None,
    image_size: ImageSize = None,
) -> None:
    """List the layers that an audit would observe, and those it would skip, with the reason.

    Importing MODULE runs its code, so name only modules that you trust.
    """
    from geomprobe.auditing.report import table
    from geomprobe.evidence import forward
    from geomprobe.hooks.quiet import quiet
    from geomprobe.sampling import Probe, iterate_batches

    size = _size_for(data, image_size)
    built = made_by(model)
    probe = Probe(built, layers or "auto", exclude=exclude or ())
    if data is not None:
        batch = next(iter(iterate_batches(_data(data, size))))
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


@app.command()
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
    loss: Annotated[str, typer.Option(help="For --model, as for audit.")] = "cross_entropy",
    image_size: ImageSize = None,
) -> None:
    """Compare two audits, number by number.

    Importing MODULE runs its code, so name only modules that you trust.
    """
    from geomprobe.auditing import compare as run

    size = _size_for(data, image_size)
    reports = _reports((a, b))
    options: dict[str, Any] = {}
    if model is not None:
        if data is None:
            raise ValueError("--model looks at the loss between two models, and takes --data")
        pair = tuple(_weighted(made_by(model), report) for report in reports)
        options = {"models": pair, "data": _data(data, size), "loss": _loss(loss)}
    typer.echo(run(*reports, names=(str(a), str(b)), **options).summary())


def _reports(paths: Iterable[Path]) -> tuple[Any, ...]:
    """Read reports, each from its file or from the folder of an audit."""
    from geomprobe.auditing import AuditReport

    return tuple(
        AuditReport.from_json(path / "report.json" if path.is_dir() else path) for path in paths
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


@app.command()
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


@app.command()
def doctor() -> None:
    """Tell what is installed, and what of it works."""
    from geomprobe.doctor import examine

    checks = examine()
    width = max(len(check.name) for check in checks)
    for check in checks:
        typer.echo(f"{check.status:6}  {check.name:{width}}  {check.detail}")
    broken = any(check.status == "broken" for check in checks)
    raise typer.Exit(PARTIAL if broken else COMPLETE)


def main() -> None:
    """Run the command line; what cannot be used is one line on stderr and exit code 2."""
    try:
        app()
    except (ValueError, TypeError, ImportError, OSError, MemoryError) as error:
        typer.echo(f"geomprobe: {error}", err=True)
        sys.exit(UNUSABLE)
