"""What lies between the models of two checkpoints or more, as a report of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from geomprobe.analyzer import Analyzer
from geomprobe.auditing.notation import spaced
from geomprobe.auditing.report import AuditReport, listed
from geomprobe.auditing.run import audit
from geomprobe.evidence import Loss, require_counts
from geomprobe.hooks.names import ROOT
from geomprobe.landscape.analyzers import BarriersBetween, CurveBetween, LineBetween
from geomprobe.sampling.collect import sample_of


def between(
    models: Mapping[str, nn.Module],
    data: Any,
    loss: Loss | None = None,
    *,
    test: Any = None,
    analyzers: str | Analyzer | Iterable[str | Analyzer] | None = None,
    samples: int = 512,
    seed: int = 0,
    budget_minutes: float | None = None,
    progress: bool = True,
) -> AuditReport:
    """Look at what lies between the first of some models and the others.

    Parameters
    ----------
    models : mapping of str to torch.nn.Module
        Two or more of one architecture by name, left as they were. One that is of another
        architecture is a failed finding that says how it differs. One after the first that is named
        "model" is called "model (other)" in findings, where "model" is of all together.
    data
        As for :func:`~geomprobe.audit`, with targets: those of the training, or like them.
    loss : callable, optional
        As in training: the mean over the samples of a batch. Without it there are distances alone.
    test
        Data that were not trained on, for second barriers.
    analyzers : names or instances, optional
        Default: :class:`~geomprobe.landscape.analyzers.LineBetween`, of three models or more
        :class:`~geomprobe.landscape.analyzers.BarriersBetween`, and, which takes longest,
        :class:`~geomprobe.landscape.analyzers.CurveBetween`.
    samples : int
        Of more, so many are drawn at random, of both.
    seed : int
    budget_minutes : float, optional
        As for :func:`~geomprobe.audit`: what would take longer is left out, and says so.
    progress : bool

    Returns
    -------
    AuditReport
        What an audit of the first with ``others=`` and these analyzers finds.

    Raises
    ------
    ValueError
        Fewer than two models, no data, or fewer than two samples.
    """
    if len(models) < 2 or data is None:
        raise ValueError(
            f"what lies between models takes two or more, and data: got {len(models)} models and "
            f"{'no data' if data is None else 'data'}"
        )
    require_counts(2, samples=samples)
    (title, first), *others = models.items()
    own = "model"
    while own in models:
        own += " (other)"
    if analyzers is None:
        kept = None if test is None else sample_of(test, first, samples, seed=seed)
        analyzers = [
            LineBetween(test=kept, max_samples=samples),
            BarriersBetween(max_samples=samples, first=title),
            CurveBetween(test=kept, max_samples=samples),
        ]
    return audit(
        first,
        data,
        loss=loss,
        others={own if name == "model" else name: other for name, other in others},
        layers=ROOT,
        analyzers=analyzers,
        points=1,
        samples=samples,
        seed=seed,
        budget_minutes=budget_minutes,
        progress=progress,
    )


def between_summary(found: AuditReport) -> list[str]:
    """Return the numbers as lines for the terminal."""
    several = len({finding.subject for finding in found.findings} - {"model"}) > 1
    lines = []
    for finding in found.findings:
        whose = f"{finding.subject}, " if several else ""
        numbers = finding.scalars.items()
        lines += [listed(f"{whose}{spaced(stat)}: {estimate}") for stat, estimate in numbers]
        if finding.failed is not None:
            lines.append(listed(f"{whose}{spaced(finding.analyzer)} failed: {finding.failed}"))
        lines += [listed(f"{whose}{note}") for note in finding.notes]
    return lines
