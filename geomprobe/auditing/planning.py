"""What analyzers will take, and which of them fit into a budget, before any has begun."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace

from geomprobe.analyzer import Analyzer, analyze
from geomprobe.clouds import CloudSet
from geomprobe.evidence import Evidence
from geomprobe.hooks.quiet import streams_kept

_PARTS = (16, 8)  # Of the evidence: a sixteenth and an eighth are tried.
_FEWEST_POINTS, _FEWEST_SAMPLES = 24, 4
_WARM = 1.0  # Seconds up to which the first trial is made again: it also loads and compiles.
_LARGEST_POWER = 3.0
_FOR_TRIALS = 1 / 4  # Of the budget.


def planned(analyzers: Sequence[Analyzer], evidence: Evidence, *, seconds: float) -> list[float]:
    """Estimate what analyzers will take, in seconds, by trials on small parts of the evidence.

    Parameters
    ----------
    analyzers : sequence of Analyzer
    evidence : Evidence
    seconds : float
        Of the budget. No trial begins after a quarter of them; one that has begun is not stopped.

    Returns
    -------
    list of float
        One an analyzer; NaN where it is not known, for want of time or since a trial failed.
    """
    deadline = time.perf_counter() + seconds * _FOR_TRIALS
    found = []
    for analyzer in analyzers:
        left = deadline - time.perf_counter()
        found.append(estimated_seconds(analyzer, evidence, left) if left > 0 else math.nan)
    return found


def estimated_seconds(analyzer: Analyzer, evidence: Evidence, most: float = math.inf) -> float:
    """Estimate what an analyzer will take from a sixteenth and an eighth of points and samples.

    The two times give the power with which the time grows, at most a cube, and that gives the
    time for the whole. Where so small parts hold less than 24 points and 4 samples, they hold these
    instead, and are taken for what they are. A first trial that takes longer than ``most`` is the
    only one: the whole takes as long at least.

    Returns
    -------
    float
        Seconds; NaN where a trial failed, and for analyzers of a path alone, of which there is no
        part: those that need data too are tried with the whole path on parts of the data.
    """
    if "trajectory" in analyzer.needs and "data" not in analyzer.needs:
        return math.nan  # Of a path there is no small part.
    whole = _part(analyzer, evidence, 1)
    small, large = (_part(analyzer, evidence, part) for part in _PARTS)
    first, failed = _timed(analyzer, small)
    if first > most:
        return math.nan if failed else first
    if first < _WARM:
        first, failed = _timed(analyzer, small)
    second, failed_too = _timed(analyzer, large)
    if failed or failed_too:
        return math.nan
    sizes = [_size(analyzer, one) for one in (small, large, whole)]
    grown, left = sizes[1] / sizes[0], sizes[2] / sizes[1]
    if grown <= 1:
        return second * left
    power = math.log(max(second / max(first, 1e-9), 1.0)) / math.log(grown)
    return float(second * left ** min(power, _LARGEST_POWER))


def _part(analyzer: Analyzer, evidence: Evidence, part: int) -> Evidence:
    """Return the first few points of each cloud, of those that it looks at, and samples."""
    most = getattr(analyzer, "max_points", None)
    clouds = [
        cloud.take(slice(0, _some(min(len(cloud), most or len(cloud)), part, _FEWEST_POINTS)))
        for cloud in evidence.clouds.values()
    ]
    data = evidence.data
    if data is not None:
        data = data.take(slice(0, _some(len(data), part, _FEWEST_SAMPLES)))
    # What analyzers share is of this evidence alone: a part must not leave the whole its own.
    return replace(evidence, clouds=CloudSet(clouds), data=data, _shared={})


def _some(count: int, part: int, fewest: int) -> int:
    return min(count, max(count // part, fewest))


def _size(analyzer: Analyzer, evidence: Evidence) -> float:
    """Return how much there is of what it needs: the geometric mean of all that is counted."""
    sizes = [1]
    if "activations" in analyzer.needs:
        sizes += [len(cloud) for cloud in evidence.clouds.values()]
    if "data" in analyzer.needs and evidence.data is not None:
        sizes.append(len(evidence.data))
    counted = sizes[1:] or sizes
    return math.exp(sum(math.log(max(size, 1)) for size in counted) / len(counted))


def _timed(analyzer: Analyzer, evidence: Evidence) -> tuple[float, bool]:
    """Return the seconds that an analyzer takes, and whether a finding failed."""
    started = time.perf_counter()
    with warnings.catch_warnings(), streams_kept():
        warnings.simplefilter("ignore")
        failed = [finding.failed is not None for finding in analyze(evidence, [analyzer])]
    return time.perf_counter() - started, all(failed)


def left_out(needed: float, left: float, minutes: float) -> str:
    """Return why an analyzer does not begin; empty where it may.

    Parameters
    ----------
    needed, left : float
        Seconds: those it is estimated to take, NaN where that is not known, and those of the budget
        that are left.
    minutes : float
        The budget.
    """
    if left <= 0:
        return f"left out: the {minutes:g} minutes of the budget were over"
    if needed > left:
        return (
            f"left out: about {needed / 60:.2g} minutes are needed, and {left / 60:.2g} of the "
            f"budget of {minutes:g} are left"
        )
    return ""
