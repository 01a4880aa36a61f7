"""How audits of many checkpoints scale: one process, and two workers of joblib, Dask and Ray.

Every engine audits the same checkpoints of a convolutional network on digits, in a process of its
own, in turns. Workers are started, and have audited a checkpoint each, before the clock starts;
Ray's joblib backend starts its own at each call all the same. The reports must be those of one
process, times apart. joblib runs one job in the calling process whatever the engine, so that one
process stands for one job of each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PACKAGES = ("joblib", "distributed", "ray")
ENGINES = ("serial", "loky", "dask", "ray")
ANALYZERS = ("persistent_homology", "representation_dimension", "fisher_information")


@contextmanager
def engine(name: str, jobs: int) -> Iterator[None]:
    """Make an engine of so many local workers that of joblib for a while."""
    import joblib

    if name == "serial":
        with joblib.parallel_config(n_jobs=1):
            yield
    elif name == "loky":
        with joblib.parallel_config("loky", n_jobs=jobs):
            yield
    elif name == "dask":
        from dask.distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster),
            joblib.parallel_config("dask"),
        ):
            yield
    else:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray
        from ray.util.joblib import register_ray

        ray.init(num_cpus=jobs, include_dashboard=False, logging_level="ERROR")
        register_ray()
        try:
            with joblib.parallel_config("ray", n_jobs=jobs):
                yield
        finally:
            ray.shutdown()


def network() -> Any:
    """Return a convolutional network for digits of 8 x 8 pixels."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def digits() -> Any:
    """Return the digits of scikit-learn with their labels."""
    import torch
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    return inputs, torch.tensor(labels)


def save_checkpoints(folder: Path, count: int) -> None:
    """Write so many networks at their random beginning."""
    import torch
    from safetensors.torch import save_file

    for seed in range(count):
        torch.manual_seed(seed)
        save_file(network().state_dict(), folder / f"{seed:02d}.safetensors")


def audited(name: str, jobs: int, folder: Path, points: int) -> dict[str, Any]:
    """Audit the checkpoints of a folder; return seconds, and the findings without their times."""
    from torch.nn.functional import cross_entropy

    import geomprobe as gp

    warnings.simplefilter("ignore")
    checkpoints = sorted(folder.glob("*.safetensors"))
    options = {"loss": cross_entropy, "analyzers": list(ANALYZERS), "points": points}

    def audit(some: list[Path], output: str) -> Any:
        return gp.audit_many(
            some, "scaling:network", "scaling:digits", output=output, progress=False, **options
        )

    with engine(name, jobs), tempfile.TemporaryDirectory() as output:
        audit(checkpoints[:jobs], f"{output}/first")
        started = time.perf_counter()
        reports = audit(checkpoints, f"{output}/all")
        seconds = time.perf_counter() - started
    findings = {
        checkpoint: [{**one.to_dict(), "seconds": None} for one in report.findings]
        for checkpoint, report in reports.items()
    }
    return {"seconds": seconds, "findings": findings}


def in_a_process(name: str, jobs: int, folder: Path, points: int) -> dict[str, Any]:
    """Do that in a process of its own, each worker on one thread."""
    command = [sys.executable, str(HERE / "scaling.py"), "--one", name, str(jobs), str(folder)]
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [*command, str(points)], env=variables, cwd=HERE, capture_output=True, text=True
    )
    if done.returncode:
        return {"failed": done.stderr.strip().rpartition("\n")[2][:200]}
    told: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return told


def main() -> None:
    """Measure, print a table, and write the figures as JSON."""
    from benchmark import Benchmark
    from summaries import summary

    bench = Benchmark("scaling", __doc__, PACKAGES, 1)
    count, points = (3, 50) if bench.quick else (16, 1000)
    bench.result |= {"checkpoints": count, "points": points}
    cases: dict[str, Any] = bench.result["cases"]
    names = bench.chosen({name: name for name in ENGINES})
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoints(Path(folder), count)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for number in range(bench.asked.rounds):
            for name in names if number % 2 else reversed(names):
                runs[name].append(in_a_process(name, 2, Path(folder), points))
    for name, some in runs.items():
        failed = next((one["failed"] for one in some if "failed" in one), "")
        if failed:
            cases[name] = {"failed": failed}
            print(f"{name:<8}{failed}")
            continue
        row: dict[str, Any] = {"seconds": summary([one["seconds"] for one in some])}
        serial = runs.get("serial")
        if serial and "failed" not in serial[0]:
            pairs = zip(serial, some, strict=True)
            row["times_faster"] = summary([one["seconds"] / two["seconds"] for one, two in pairs])
            row["same_findings"] = all(one["findings"] == serial[0]["findings"] for one in some)
        cases[name] = row
        faster = row.get("times_faster", {}).get("median", float("nan"))
        print(f"{name:<8}{row['seconds']['median']:>8.1f} s{faster:>8.2f} times faster")
    bench.write()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        name, jobs, folder, points = sys.argv[2:]
        print(json.dumps(audited(name, int(jobs), Path(folder), int(points))))
    else:
        main()
