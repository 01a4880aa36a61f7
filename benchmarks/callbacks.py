"""What a Monitor costs a training, in a plain loop and in five frameworks.

Two trainings of the same kind differ by more than the bar. So steps of one training are compared:
a coin says at each whether the monitor, which only counts, is told of it. A step is all that the
framework does from one call of its callback to the next. The bar is 1.03, what the default budget
promises. Counting must keep it. Observing must in the long run: the first observation is always
made, and so the training must be long enough for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
THREADS, EPOCHS, BAR = 1, 20, 1.03
_RESAMPLES = 2000
FRAMEWORKS = {
    "plain loop": ("plain_loop", "torch"),
    "Lightning": ("lightning", "lightning"),
    "Hugging Face Trainer": ("hugging_face", "transformers"),
    "skorch": ("skorch", "skorch"),
    "Ignite": ("ignite", "pytorch-ignite"),
    "Keras": ("keras", "keras"),
}


def measured(name: str, epochs: int) -> dict[str, Any]:
    """Return the figures of a framework; why there are none, where it fails."""
    command = [sys.executable, str(HERE / "trainings.py"), name, str(epochs)]
    limits = {"OMP_NUM_THREADS": str(THREADS), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env={**os.environ, **limits}, capture_output=True, text=True)
    if done.returncode:
        return {"failed": done.stderr.strip().rpartition("\n")[2][:200]}
    told = json.loads(done.stdout.strip().rpartition("\n")[2])
    steps = [np.array(told.pop(kind)) for kind in ("with", "without")]
    rng = np.random.default_rng(0)
    again = [
        np.divide(*(np.median(rng.choice(some, len(some))) for some in steps))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(again, [2.5, 97.5])
    ratio = float(np.divide(*map(np.median, steps)))
    return {
        "epochs": epochs,
        "milliseconds": 1e3 * float(np.median(steps[1])),
        "steps": sum(map(len, steps)),
        "ratio": {"median": ratio, "low": float(low), "high": float(high)},
        "within_the_bar_from": told["observing"] / (BAR - 1),
        **told,  # A difference of 0: a training that is watched is the same training bit for bit.
    }


def show(title: str, row: Mapping[str, Any]) -> None:
    """Print the figures of a framework."""
    if "failed" in row:
        print(f"  {title:22}{row['failed']}", flush=True)
        return
    ratio = row["ratio"]
    print(
        f"  {title:22}{row['milliseconds']:>8.2f} ms{ratio['median']:>10.4f} "
        f"({ratio['low']:.4f}, {ratio['high']:.4f}){row['observing']:>10.2f} s"
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
    bench.result["bar"] = BAR
    head = "x when told (interval)   observing    of  in the bar from  difference"
    print(f"{'a step':>34}  {head}")
    for title, (name, _) in bench.chosen(FRAMEWORKS).items():
        bench.result["cases"][title] = measured(name, epochs)
        show(title, bench.result["cases"][title])
    bench.write()


if __name__ == "__main__":
    main()
