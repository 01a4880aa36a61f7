"""Audit a model, or many checkpoints of one: ``geomprobe audit`` and ``audit-many``."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from geomprobe.cli.exit_codes import COMPLETE, FAILED_CONDITION, PARTIAL
from geomprobe.cli.options import (
    Analyzers,
    Data,
    Exclude,
    FailOn,
    ImageSize,
    Inputs,
    Layers,
    Layout,
    Loss,
    Minutes,
    Model,
    Pickles,
    Points,
    Pool,
    Trained,
    analyzers_from,
    data_from,
    loss_from,
    size_for,
)
from geomprobe.named_objects import made_by


def audit(
    model: Model,
    data: Data,
    weights: Annotated[
        Path | None, typer.Option(help="A .safetensors file, or a state dict by torch.save.")
    ] = None,
    trust_pickle: Pickles = False,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the report.")] = Path(
        "audit"
    ),
    loss: Loss = None,
    layers: Layers = None,
    exclude: Exclude = None,
    analyzers: Analyzers = None,
    points: Points = 1000,
    pool: Pool = "auto",
    layout: Layout = "auto",
    samples: Inputs = 64,
    n_train: Trained = None,
    trajectory: Annotated[
        Path | None, typer.Option(help="The path of the training: a file of Trajectory.save.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="MODULE:CALLABLE that makes the optimizer of model.parameters()."),
    ] = None,
    optimizer_state: Annotated[
        Path | None,
        typer.Option(help="Its state_dict by torch.save, or a checkpoint that has it."),
    ] = None,
    seed: int = 0,
    budget_minutes: Minutes = None,
    image_size: ImageSize = None,
    fail_on: FailOn = None,
) -> None:
    """Audit a model and write report.html and report.json.

    Importing MODULE runs its code, so name only modules that you trust.
    """
    from geomprobe.auditing import audit as run
    from geomprobe.auditing.conditions import Condition
    from geomprobe.clouds import Trajectory
    from geomprobe.exceptions import FailedAnalysisWarning
    from geomprobe.hooks.optimizers import unwrap_optimizer
    from geomprobe.storage import checksum
    from geomprobe.weights import load_optimizer, load_weights, nan_in

    warnings.simplefilter("ignore", FailedAnalysisWarning)  # the summary ends with what failed
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output names a folder for the reports, and {output} is a file")
    if optimizer_state is not None and optimizer is None:
        raise ValueError("--optimizer-state is loaded into what --optimizer makes: give both")
    conditions = [Condition.parse(text) for text in fail_on or ()]
    size = size_for(data, image_size)
    built = made_by(model)
    fingerprint = None if weights is None else checksum(weights)
    if weights is not None:
        load_weights(built, weights, trust_pickle=trust_pickle)
        if checksum(weights) != fingerprint:
            raise ValueError(f"{weights} changed while it was read")
    else:
        typer.echo(f"no --weights: auditing the model as {model} builds it", err=True)
    if reason := nan_in(built):  # At once: the summary may be minutes away.
        typer.echo(f"geomprobe: {reason}", err=True)
    stepper: Any = None
    if optimizer is not None:
        stepper = unwrap_optimizer(made_by(optimizer, built.parameters()))
    if optimizer_state is not None:
        load_optimizer(stepper, optimizer_state)
    report = run(
        built,
        data_from(data, size),
        loss=loss_from(loss),
        layers=layers or "auto",
        exclude=exclude or (),
        analyzers=analyzers_from(analyzers),
        points=points,
        pool=pool,
        layout=layout,
        samples=samples,
        n_train=n_train,
        trajectory=None if trajectory is None else Trajectory.load(trajectory),
        optimizer=stepper,
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
    raise typer.Exit(_exit_code(said, partial))


def audit_many(
    model: Model,
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Files of weights of that model, as of audit --weights.")
    ],
    data: Data,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the reports, one of each.")
    ] = Path("audits"),
    jobs: Annotated[int | None, typer.Option(help="Audits at a time; -1 for all cores.")] = None,
    trust_pickle: Pickles = False,
    loss: Loss = None,
    layers: Layers = None,
    exclude: Exclude = None,
    analyzers: Analyzers = None,
    points: Points = 1000,
    pool: Pool = "auto",
    layout: Layout = "auto",
    samples: Inputs = 64,
    n_train: Trained = None,
    seed: int = 0,
    budget_minutes: Minutes = None,
    image_size: ImageSize = None,
    fail_on: FailOn = None,
) -> None:
    """Audit many checkpoints of one model in the same way; run it again to go on where it stopped.

    Importing MODULE runs its code, so name only modules that you trust.
    """
    from geomprobe.auditing import audit_many as run
    from geomprobe.auditing.conditions import Condition
    from geomprobe.auditing.data_files import named_data
    from geomprobe.exceptions import FailedAnalysisWarning

    warnings.simplefilter("ignore", FailedAnalysisWarning)  # What failed is listed below.
    conditions = [Condition.parse(text) for text in fail_on or ()]
    size = size_for(data, image_size)
    reports = run(
        checkpoints,
        model,
        data if size is None else functools.partial(named_data, data, size),
        output=output,
        n_jobs=jobs,
        trust_pickle=trust_pickle,
        progress=sys.stderr.isatty(),
        loss=loss_from(loss),
        layers=layers or "auto",
        exclude=exclude or (),
        analyzers=analyzers_from(analyzers),
        points=points,
        pool=pool,
        layout=layout,
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
    said = [line for condition in conditions for line in _violations(condition, reports)]
    raise typer.Exit(_exit_code(said, any(one.partial for one in reports.values())))


def _violations(condition: Any, reports: Mapping[str, Any]) -> list[str]:
    """Return the lines of all reports; one without the number cannot be judged, and counts."""
    from geomprobe.exceptions import LayerSelectionError

    lines, unmatched = [], []
    for name, report in reports.items():
        try:
            found = condition.violations(report.metrics)
        except LayerSelectionError as error:
            unmatched.append(error)
            found = [str(error)]
        lines += [f"{name}: {line}" for line in found]
    if len(unmatched) == len(reports):
        raise unmatched[0]
    return lines


def _exit_code(violations: list[str], partial: bool) -> int:
    for line in violations:
        typer.echo(f"failed: {line}", err=True)
    return FAILED_CONDITION if violations else PARTIAL if partial else COMPLETE
