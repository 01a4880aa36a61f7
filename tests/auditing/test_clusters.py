"""Real workers of joblib, Dask and Ray on this machine, one of which is killed in the middle."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import geomprobe as gp
from geomprobe.cli.exit_codes import PARTIAL
from geomprobe.zoos import ZooFolder, ZooProtocol, run_zoo

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

USER_CODE = """
import os, signal
from pathlib import Path

import numpy as np
import torch
from torch import nn

from geomprobe import Estimate, Finding, Samples
HERE = Path(__file__).parent

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

def once(name):
    try:
        (HERE / name).unlink()
    except FileNotFoundError:
        return False
    return True

def data():
    # In the middle: when two audits are done, and others are under way.
    if len(list(HERE.glob("out/*/report.json"))) >= 2 and once("kill an audit"):
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3

class Norms:
    name, needs, readings = "norms", frozenset({"activations"}), {"mean": "Mean distance from 0."}

    def __call__(self, evidence):
        for layer, cloud in evidence.clouds.items():
            mean = Estimate((cloud.points**2).sum(axis=1).mean() ** 0.5, exact=True)
            yield Finding(self.name, layer, {"mean": mean}, {"points": cloud.points})

class Fate:
    name, needs, readings = "fate", frozenset({"model"}), {}

    def __call__(self, evidence):
        mark = evidence.model[2].bias[0].item()
        if mark == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        if mark == 9:
            from resource import RLIMIT_AS, getpagesize, getrlimit, setrlimit

            used = int(Path("/proc/self/statm").read_text().split()[0]) * getpagesize()
            limits = getrlimit(RLIMIT_AS)
            setrlimit(RLIMIT_AS, (used + 2**28, limits[1]))
            try:
                np.ones(2**28)
            finally:
                setrlimit(RLIMIT_AS, limits)
        return ()

norms, fate = Norms(), Fate()

def some(n, seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return Samples(2 * torch.eye(3)[y] + torch.randn(n, 3, generator=generator), y)

def task(*, seed, width):
    from geomprobe.zoos import Task

    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 3))
    return Task(model, some(30, 0), some(300, 1))
"""

SCRIPT = """
import sys
from pathlib import Path

from scaling import engine

if __name__ == "__main__":
    import geomprobe as gp
    from for_clusters import norms
    from geomprobe.zoos import ZooProtocol, run_zoo

    checkpoints = sorted(Path("weights").glob("*.safetensors"))
    with engine(sys.argv[1], 2):
        gp.audit_many(
            checkpoints, "for_clusters:build", "for_clusters:data", output="out",
            analyzers=norms, points=30, progress=False,
        )
        if sys.argv[1] != "loky":
            run_zoo(ZooProtocol.from_toml("zoo.toml"), "zoo")
"""

ZOO = """
name = "small"
build = "for_clusters:task"
seeds = [0]
stop = { cross_entropy = 0.2 }
groups = ["hyperparameters", "outputs"]
fixed = { batch_size = 10 }

[axes]
lr = [0.1, 0.2]
width = [16, 32]
"""


def without_times(document):
    document["facts"].pop("seconds", None)
    for finding in document["findings"]:
        finding.pop("seconds")
    return document


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("clusters")
    (home / "for_clusters.py").write_text(USER_CODE)
    (home / "script.py").write_text(SCRIPT)
    (home / "zoo.toml").write_text(ZOO)
    (home / "weights").mkdir()
    for seed in range(6):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        save_file(model.state_dict(), home / "weights" / f"epoch-{seed}.safetensors")
    return home


@pytest.fixture(scope="module")
def expected(folder):
    """The reports and the zoo of one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        from for_clusters import norms

        reports = gp.audit_many(
            sorted((folder / "weights").glob("*")),
            "for_clusters:build",
            "for_clusters:data",
            output=folder / "serial",
            analyzers=norms,
            points=30,
            progress=False,
        )
        zoo = run_zoo(ZooProtocol.from_toml("zoo.toml"), folder / "serial-zoo")
    sys.modules.pop("for_clusters", None)
    return {name: without_times(report.to_dict()) for name, report in reports.items()}, zoo


@pytest.mark.long
@pytest.mark.parametrize(
    ("engine", "package"), [("loky", "joblib"), ("dask", "distributed"), ("ray", "ray")]
)
def test_an_engine_that_loses_workers_gives_what_one_process_gives(
    folder, expected, engine, package
):
    pytest.importorskip(package)
    for name in ("out", "zoo"):
        if (folder / name).exists():
            (folder / name).rename(folder / f"{name} before {engine}")
    (folder / "kill an audit").touch()
    path = os.pathsep.join([str(folder), str(BENCHMARKS)])
    done = subprocess.run(
        [sys.executable, "script.py", engine],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (folder / "kill an audit").exists()  # It was killed.
    reports, zoo = expected
    assert len(reports) == 6
    for name, report in reports.items():
        found = gp.AuditReport.from_json(folder / "out" / name / "report.json")
        assert without_times(found.to_dict()) == report
    if engine == "loky":
        return  # Zoos by processes: test_zoos.py.
    one, other = zoo.measures(), ZooFolder(folder / "zoo").measures()
    kept = [column for column in one if not column.startswith("seconds.")]
    pd.testing.assert_frame_equal(one[kept], other[kept])
    pd.testing.assert_frame_equal(zoo.gaps(), ZooFolder(folder / "zoo").gaps())


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="no other system keeps to RLIMIT_AS")
def test_checkpoints_that_workers_do_not_survive_fail_alone_and_the_exit_code_says_partial(folder):
    """One kills its worker at every try; another takes more memory than its worker may have."""
    (folder / "kill an audit").unlink(missing_ok=True)
    for name, mark in {"first": 0, "killed": 8, "hungry": 9, "last": 0}.items():
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        nn.init.constant_(model[2].bias, mark)
        save_file(model.state_dict(), folder / f"{name}.safetensors")
    files = [f"{name}.safetensors" for name in ("first", "killed", "hungry", "last")]
    command = ["audit-many", "for_clusters:build", *files, "--data", "for_clusters:data"]
    options = ["--analyzers", "for_clusters:fate,for_clusters:norms", "--jobs", "2", "-o", "fates"]
    done = subprocess.run(
        [sys.executable, "-m", "geomprobe", *command, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == PARTIAL, done.stderr[-3000:]
    assert done.stdout.splitlines()[:4] == [
        "complete  fates/first",
        "partial   fates/killed",
        "partial   fates/hungry",
        "complete  fates/last",
    ]
    assert "  audit (model): its worker was lost: TerminatedWorkerError" in done.stderr
    assert "  fate (model): MemoryError" in done.stderr
    table = pd.read_csv(folder / "fates" / "numbers.csv", dtype={"subject": str})
    analyzers = {name: list(rows["analyzer"]) for name, rows in table.groupby("checkpoint")}
    norms = ["norms"] * len(analyzers["first"])
    assert analyzers == {
        "first": norms,
        "killed": ["audit"],
        "hungry": ["fate", *norms],
        "last": norms,
    }
    assert norms
