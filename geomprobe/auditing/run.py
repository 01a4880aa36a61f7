"""audit: one call from a finished model and its data to a report."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

import geomprobe
from geomprobe.analyzer import Analyzer, analyze, resolve_analyzers, warn_of_failure
from geomprobe.auditing.notation import counted
from geomprobe.auditing.planning import left_out, planned
from geomprobe.auditing.report import AuditReport
from geomprobe.clouds import Trajectory
from geomprobe.evidence import Loss, require_counts, require_loss
from geomprobe.findings import Finding
from geomprobe.hooks.masks import Mask
from geomprobe.hooks.optimizers import unwrap_optimizer
from geomprobe.hooks.quiet import quiet, streams_kept
from geomprobe.hooks.selection import Layers
from geomprobe.progress import without_progress
from geomprobe.sampling.collect import collect
from geomprobe.sampling.probe import Probe
from geomprobe.weights import nan_in


def audit(
    model: nn.Module,
    data: Any,
    *,
    loss: Loss | None = None,
    layers: Layers = "auto",
    exclude: Layers = (),
    analyzers: str | Analyzer | Iterable[str | Analyzer] | None = None,
    points: int = 1000,
    pool: str | Mapping[str, str] = "auto",
    mask: Mask | Mapping[str, Mask] = "auto",
    layout: str = "auto",
    samples: int = 64,
    n_train: int | None = None,
    trajectory: Trajectory | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    others: Mapping[str, nn.Module] | None = None,
    seed: int = 0,
    budget_minutes: float | None = None,
    progress: bool = True,
    strict: bool = False,
) -> AuditReport:
    """Judge a finished model: one pass over data, then each analyzer.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it was: parameters, gradients, buffers, flags and random streams.
    data
        Loader, dataset or tensors; see :func:`~geomprobe.sampling.iterate_batches`.
    loss : callable, optional
        ``loss(outputs, targets)`` as in training. The Fisher information follows from it, so
        without it those analyzers report what they lack.
    layers, exclude, points, pool, mask, layout
        What to observe; see :class:`~geomprobe.Probe`.
    analyzers : names or instances, optional
        Default: every registered analyzer but those that must be asked for, whose ``by_default``
        is false.
    samples : int
        Inputs kept for analyzers that run the model themselves.
    n_train : int, optional
        Number of training samples, at which the effective dimension is evaluated.
    trajectory : Trajectory, optional
        The path of the training, such as ``monitor.trajectory``. The analyzers that need one then
        run by default, and ``loss_slice`` draws its plane.
    optimizer : torch.optim.Optimizer, optional
        That of the model's parameters, in the state that the training left it in. The analyzers
        that need one then run by default.
    others : mapping of str to torch.nn.Module, optional
        Models of the same architecture by name, left as they were; none is named "model", which is
        the audited one. The analyzers of what lies between models then run by default, and speak of
        each by its name.
    seed : int
        The same seed, model and data give the same report.
    budget_minutes : float, optional
        How long the audit may take, from the start. Analyzers are first tried on small parts of
        the evidence, and one that is estimated to take longer than what is left when its turn comes
        is left out: a failed finding says so. ``facts["estimated_seconds"]`` holds the estimates.
    progress : bool
        Show progress bars.
    strict : bool
        Raise what an analyzer raises, or the data after their first batch, or for weights that hold
        NaN, instead of reporting it as a failed finding.

    Returns
    -------
    AuditReport
        After Ctrl-C while analyzers run: with what is finished, and ``facts["interrupted"]`` true.

    Raises
    ------
    ValueError, TypeError, LayerSelectionError
        Bad input, before any analysis.
    """
    from tqdm.auto import tqdm

    require_counts(0, seed=seed)
    require_counts(1, points=points, samples=samples, n_train=n_train)
    if budget_minutes is not None and not budget_minutes > 0:
        raise ValueError(f"budget_minutes must be positive, got {budget_minutes}")
    started = time.perf_counter()
    with streams_kept():
        chosen = resolve_analyzers(analyzers)
    require_loss(loss)
    named = {} if others is None else others
    if not isinstance(named, Mapping) or not all(
        isinstance(other, nn.Module) for other in named.values()
    ):
        raise TypeError(f"others must be models by name, got {others!r}")
    if "model" in named:
        raise ValueError("in findings 'model' is the audited model: give the other another name")
    optimizer = unwrap_optimizer(optimizer)
    if analyzers is None:
        given = {"trajectory": trajectory, "optimizer": optimizer, "others": others or None}
        served = {need for need, what in given.items() if what is not None}
        chosen = [one for one in chosen if getattr(one, "by_default", True) or served & one.needs]
    probe = Probe(
        model,
        layers,
        exclude=exclude,
        points=points,
        pool=pool,
        mask=mask,
        layout=layout,
        seed=seed,
        strict=strict,
    )
    findings: list[Finding] = []
    plan = [math.nan] * len(chosen)
    interrupted = False

    def remaining() -> float:
        return 60 * (budget_minutes or math.inf) + started - time.perf_counter()

    def failed(what: str, reason: str) -> None:
        findings.append(Finding(what, "model", failed=reason))
        warn_of_failure(findings[-1])

    def salvage(reason: str) -> None:
        read = counted(probe.samples_seen, "sample")
        failed("data", f"only {read} could be read, then {reason}")

    if reason := nan_in(probe.model):
        if strict:
            raise ValueError(reason)
        failed("weights", reason)
    bar = tqdm(chosen, desc="analyzing", unit="analyzer", disable=not progress, leave=False)
    with quiet(probe.model), without_progress(not progress), bar:
        evidence = collect(
            probe,
            data,
            loss=loss,
            samples=samples,
            n_train=n_train,
            trajectory=trajectory,
            seed=seed,
            progress=progress,
            salvage=None if strict else salvage,
        )
        evidence = replace(evidence, optimizer=optimizer, others=others or {})
        try:
            if budget_minutes is not None:
                plan = planned(chosen, evidence, seconds=remaining())
            for analyzer, needed in zip(bar, plan, strict=True):
                if reason := left_out(needed, remaining(), budget_minutes or math.inf):
                    findings.append(Finding(analyzer.name, "model", failed=reason))
                    continue
                for finding in analyze(evidence, [analyzer], strict=strict):
                    findings.append(finding)
                    bar.set_postfix_str(f"{finding.analyzer} {finding.subject}")
        except KeyboardInterrupt:
            interrupted = True
    estimated = dict[str, float]()
    for analyzer, needed in zip(chosen, plan, strict=True):
        estimated[analyzer.name] = estimated.get(analyzer.name, 0.0) + needed
    budgeted = {"budget_minutes": budget_minutes, "estimated_seconds": estimated}
    facts = {
        "model": type(probe.model).__name__,
        "parameters": sum(p.numel() for p in probe.model.parameters()),
        "samples": probe.samples_seen,
        "points": points,
        "pool": pool if isinstance(pool, str) else dict(pool),
        "layers": probe.selection.explanation,
        "loss": None if loss is None else getattr(loss, "__name__", type(loss).__name__),
        "n_train": n_train,
        **({} if trajectory is None else {"trajectory": f"{len(trajectory)} points"}),
        **({"others": list(others)} if others else {}),
        "seed": seed,
        "seconds": time.perf_counter() - started,
        **({} if budget_minutes is None else budgeted),
        "interrupted": interrupted,
        "versions": {
            "geomprobe": geomprobe.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "scikit-learn", "ripser")},
        },
    }
    return AuditReport(
        findings=tuple(findings),
        layers=probe.manifest,
        readings={analyzer.name: dict(analyzer.readings) for analyzer in chosen},
        facts=facts,
        caveats={one.name: str(said) for one in chosen if (said := getattr(one, "caveat", ""))},
    )
