"""The command line as a user runs it: a process of its own, in a folder of the user's."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import save_file

from geomprobe.auditing import AuditReport
from geomprobe.cli import load_object

USER_CODE = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

def data():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(50, 4, generator=generator), torch.arange(50) % 3

def nothing():
    return []

not_callable = 3
instance = nn.ReLU()

def raises():
    raise RuntimeError("no disk")

def narrow():
    return torch.randn(5, 2)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(USER_CODE))
    (tmp_path / "broken.py").write_text("import a_module_that_does_not_exist")
    return tmp_path


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "geomprobe", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )


QUICK = ("--points", "30", "--samples", "12", "--n-train", "500")


def weights(folder, name, scale=1.0):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    save_file({k: v * scale for k, v in model.state_dict().items()}, folder / name)
    return name


@pytest.mark.long
def test_audit_writes_both_reports_and_compare_reads_them(folder):
    for out, scale in (("a", 1.0), ("b", 2.0)):
        file = weights(folder, f"{out}.safetensors", scale)
        arguments = ("audit", "mine:build", "--weights", file, "--data", "mine:data", "-o", out)
        done = run(folder, *arguments, *QUICK)
        assert done.returncode == 0, done.stderr
        assert "report.html" in done.stdout
        assert (folder / out / "report.html").stat().st_size > 1000
    a, b = (AuditReport.from_json(folder / out / "report.json") for out in "ab")
    assert a.findings != b.findings
    assert a.facts["weights"] == "a.safetensors"
    assert len(a.facts["sha256"]) == 64
    done = run(folder, "compare", "a", "b/report.json")
    assert done.returncode == 0, done.stderr
    assert "trace" in done.stdout


@pytest.mark.long
def test_an_interrupted_audit_is_kept_beside_a_complete_one(folder):
    (folder / "slow.py").write_text(
        "from mine import *\n"
        "def impatient(*args, **kwargs):\n"
        "    raise KeyboardInterrupt\n"
        "import geomprobe.topology.analyzers.homology as analyzer\n"
        "analyzer.rips_persistence = impatient\n"
    )
    arguments = ("--data", "mine:data", "--analyzers", "persistent_homology", *QUICK)
    assert run(folder, "audit", "mine:build", *arguments).returncode == 0
    complete = (folder / "audit" / "report.json").read_bytes()
    done = run(folder, "audit", "slow:build", *arguments)
    assert done.returncode == 1, done.stderr
    assert "report.partial.html" in done.stdout
    assert (folder / "audit" / "report.json").read_bytes() == complete
    assert AuditReport.from_json(folder / "audit" / "report.partial.json").facts["interrupted"]


@pytest.mark.long
def test_a_failed_finding_makes_the_exit_code_partial(folder):
    arguments = ("audit", "mine:build", "--data", "mine:data", "--loss", "mine:build", *QUICK)
    done = run(folder, *arguments, "--analyzers", "fisher_information")
    assert done.returncode == 1, done.stderr
    report = json.loads((folder / "audit" / "report.json").read_text())
    assert report["findings"][0]["failed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine:bild", "--data", "mine:data"), "module 'mine' has no attribute 'bild'"),
        (("absent:build", "--data", "mine:data"), "module 'absent' of 'absent:build' does not"),
        (("broken:build", "--data", "mine:data"), "No module named 'a_module_that_does_not_exist'"),
        (("mine", "--data", "mine:data"), "expected MODULE:NAME"),
        (("mine:not_callable", "--data", "mine:data"), "is a int, expected a callable"),
        (("mine:instance", "--data", "mine:data"), "is a ReLU, expected a callable"),
        (("mine:raises", "--data", "mine:data"), "'mine:raises' raised RuntimeError: no disk"),
        (("mine:build", "--data", "mine:narrow"), "the model raised RuntimeError on a batch of"),
        (("mine:build", "--data", "mine:nothing"), "hold no batches"),
        (("mine:build", "--data", "mine:data", "--layers", "fc"), "no layer matches 'fc'"),
        (("mine:build", "--data", "mine:data", "--weights", "w.pt"), "is a pickle"),
        (("mine:build", "--data", "mine:data", "--weights", "none.safetensors"), "No such file"),
        (("mine:build", "--data", "mine:data", "--loss", "hinge"), "must be one of cross_entropy"),
    ],
)
def test_input_that_cannot_be_used_is_one_line_and_exit_code_2(folder, arguments, message):
    torch.save({"w": torch.zeros(1)}, folder / "w.pt")
    done = run(folder, "audit", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.splitlines()[-1].startswith("geomprobe: ") or "is a pickle" in message
    assert "Traceback" not in done.stderr
    assert not (folder / "audit").exists()


def test_compare_refuses_what_is_no_report(folder):
    (folder / "x.json").write_text("{}")
    done = run(folder, "compare", "x.json", "x.json")
    assert done.returncode == 2
    assert "x.json" in done.stderr


def test_doctor_names_every_package_and_analyzer(folder):
    done = run(folder, "doctor")
    assert done.returncode == 0, done.stdout
    for name in ("torch", "ripser", "giotto-tda", "persistent_homology", "effective_dimension"):
        assert name in done.stdout


def test_near_names_are_suggested(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ValueError, match="did you mean 'build'"):
        load_object("mine:buidl")
    assert load_object("mine:build.__name__") == "build"
