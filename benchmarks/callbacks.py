"""What a Monitor costs a training, in a plain loop and in five frameworks.

A training is timed by the framework's own call, without a monitor and with one that only counts
steps, in turns in one process, for processes differ by more than the bar. The bar is 1.03, what
the default budget promises. Counting must keep it. Observing must in the long run: the first
observation is always made, and so the training must be long enough for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
THREADS, EPOCHS, BAR = 1, 5, 1.03
FRAMEWORKS = {
    "plain loop": ("plain_loop", "torch"),
    "Lightning": ("lightning", "lightning"),
    "Hugging Face Trainer": ("hugging_face", "transformers"),
    "skorch": ("skorch", "skorch"),
    "Ignite": ("ignite", "pytorch-ignite"),
    "Keras": ("keras", "keras"),
}


def measured(name: str, epochs: int, rounds: int) -> dict[str, Any]:
    """Return the figures of a framework; why there are none, where it fails."""
    from summaries import summary

    command = [sys.executable, str(HERE / "trainings.py"), name, str(epochs), str(rounds)]
    limits = {"OMP_NUM_THREADS": str(THREADS), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env={**os.environ, **limits}, capture_output=True, text=True)
    if done.returncode:
        return {"failed": done.stderr.strip().rpartition("\n")[2][:200]}
    told = json.loads(done.stdout.strip().rpartition("\n")[2])
    seconds = told.pop("seconds")
    pairs = list(zip(seconds["counted"], seconds["plain"], strict=True))
    on_the_clock, of_the_processor = (
        summary([counted[i] / plain[i] for counted, plain in pairs]) for i in (0, 1)
    )
    return {
        "seconds": {kind: summary([one[0] for one in those]) for kind, those in seconds.items()},
        "ratio_counted": on_the_clock,
        "ratio_counted_of_the_processor": of_the_processor,
        "within_the_bar_from": told["observing"] / (BAR - 1),
        **told,  # A difference of 0: a training that is watched is the same training bit for bit.
    }


def show(title: str, row: Mapping[str, Any]) -> None:
    """Print the figures of a framework."""
    if "failed" in row:
        print(f"  {title:22}{row['failed']}", flush=True)
        return
    ratios = (row["ratio_counted"], row["ratio_counted_of_the_processor"])
    told = "".join(f"{r['median']:>9.3f} ({r['low']:.3f}, {r['high']:.3f})" for r in ratios)
    print(
        f"  {title:22}{row['seconds']['plain']['median']:>8.2f} s{told}"
        f"{row['account_of_counting']:>9.2%}{row['observing']:>10.2f} s"
        f"{row['observations']:>6}{row['within_the_bar_from']:>14.0f} s"
        f"{row['difference']:>12.1e}",
        flush=True,
    )


def main() -> None:
    """Measure, print a table, and write the figures as JSON."""
    from benchmark import Benchmark

    packages = [package for _, package in FRAMEWORKS.values() if package != "torch"]
    bench = Benchmark("callbacks", __doc__, packages, THREADS)
    epochs = 1 if bench.quick else EPOCHS
    bench.result |= {"epochs": epochs, "bar": BAR}
    head = "x counted (interval)     of the processor     account  observing   of"
    print(f"{'plain':>34}  {head}  in the bar from  difference")
    for title, (name, _) in bench.chosen(FRAMEWORKS).items():
        bench.result["cases"][title] = measured(name, epochs, bench.asked.rounds)
        show(title, bench.result["cases"][title])
    bench.write()


if __name__ == "__main__":
    main()
