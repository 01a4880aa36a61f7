"""Run each contender in a process of its own, in turns: seconds, peak memory, and its answer.

A contender is a function ``name(points, **options)`` of a benchmark's module that returns arrays
by name. The module is imported in the process, the function called once on a few points to load and
compile what it needs, and then timed. An attribute ``warm_up`` says how many points that takes.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from memory import peak
from summaries import summary

Array = np.ndarray[Any, Any]
HERE = Path(__file__).resolve().parent


@dataclass
class Runs:
    """What came of the runs of one contender.

    Parameters
    ----------
    seconds : list of float
        Of each round.
    peak_mib : float
        Largest resident memory above that just before the call.
    answer : dict
        What the last run returned.
    failed : str
        Why there is none: it is not installed, has passed the cap, or has failed.
    """

    seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    answer: dict[str, Array] = field(default_factory=dict)
    failed: str = ""


def in_turns(
    module: str,
    contenders: Sequence[str],
    points: Array,
    options: Mapping[str, Any],
    *,
    rounds: int,
    cap: float,
    threads: int,
) -> dict[str, Runs]:
    """Run the contenders one after another, in so many rounds.

    One that takes longer than ``cap`` seconds, or fails, is left out from then on.
    """
    runs = {name: Runs() for name in contenders}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "points.npy"), points)
        for number in range(rounds):
            order = list(contenders) if number % 2 else list(reversed(contenders))
            for name in order:
                if not runs[name].failed:
                    _run(
                        runs[name], folder, [module, name, json.dumps(dict(options))], cap, threads
                    )
    return runs


def _run(runs: Runs, folder: str, task: list[str], cap: float, threads: int) -> None:
    command = [sys.executable, str(HERE / "peers.py"), folder, *task]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    try:
        # Time to import and to warm up comes on top of the cap.
        done = subprocess.run(
            command, env={**os.environ, **limits}, capture_output=True, timeout=cap + 60, text=True
        )
    except subprocess.TimeoutExpired:
        runs.failed = f"over {cap:g} s"
        return
    if done.returncode:
        runs.failed = done.stderr.strip().rpartition("\n")[2][:200] or f"code {done.returncode}"
        return
    told = json.loads(done.stdout.strip().rpartition("\n")[2])
    runs.seconds.append(told["seconds"])
    runs.peak_mib = max(runs.peak_mib, told["peak_mib"])
    with np.load(Path(folder, "answer.npz")) as answer:
        runs.answer = dict(answer)
    if told["seconds"] > cap:
        runs.failed = f"over {cap:g} s"


def table(
    runs: Mapping[str, Runs], ours: str, difference: Callable[[Mapping[str, Array]], float]
) -> dict[str, Any]:
    """Return the figures of a case: seconds, ratio to ours in each round, memory, difference."""
    rows: dict[str, Any] = {}
    for name, one in runs.items():
        row: dict[str, Any] = {"failed": one.failed} if one.failed else {}
        if one.seconds:
            row |= {"seconds": summary(one.seconds), "peak_mib": round(one.peak_mib, 1)}
        if one.seconds and runs[ours].seconds:
            # One that was left out has the first rounds only.
            pairs = zip(one.seconds, runs[ours].seconds, strict=False)
            row["ratio_to_geomprobe"] = summary([theirs / own for theirs, own in pairs])
            if one.answer:  # A floor has none.
                row["difference"] = difference(one.answer)
        rows[name] = row
    return rows


def in_words(ratio: Mapping[str, float]) -> str:
    """Write a ratio as its median, least and most."""
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}, {ratio['max']:.2f})"


def show(title: str, rows: Mapping[str, Any]) -> None:
    """Print the figures of a case."""
    print(f"\n{title}")
    print(f"  {'':<34}{'seconds':>10}{'x geomprobe (least, most)':>32}{'MiB':>9}{'difference':>13}")
    for name, row in rows.items():
        if "seconds" not in row:
            print(f"  {name:<34}{row['failed']}")
            continue
        ratio, difference = row.get("ratio_to_geomprobe"), row.get("difference", math.nan)
        spread = in_words(ratio) if ratio else ""
        print(
            f"  {name:<34}{row['seconds']['median']:>10.3f}{spread:>32}"
            f"{row['peak_mib']:>9.0f}{difference:>13.1e}  {row.get('failed', '')}"
        )


def _child(folder: str, module: str, name: str, options: str) -> None:
    function = getattr(importlib.import_module(module), name)
    points, settings = np.load(Path(folder, "points.npy")), json.loads(options)
    function(points[: getattr(function, "warm_up", 60)], **settings)
    gc.collect()
    before = peak()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # The peak so far is forgotten.
        before = peak()
    started = time.perf_counter()
    answer = function(points, **settings)
    seconds = time.perf_counter() - started
    peak_mib = peak() - before
    np.savez(Path(folder, "answer.npz"), **answer)
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib}))


if __name__ == "__main__":
    _child(*sys.argv[1:])
