"""The command line in a folder of the user's, once in a process of its own."""

import json
import os
import re
import subprocess
import sys
import textwrap
from hashlib import sha256
from importlib.metadata import requires
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import geomprobe.auditing
from geomprobe.auditing import AuditReport
from geomprobe.cli import app, main
from geomprobe.named_objects import load_object

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

def sequences():
    return torch.randn(9, 5, 4), torch.arange(45).view(9, 5) % 3

def mean_over_positions(outputs, targets):
    return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())

from geomprobe.information import FisherInformation, Softmax

fisher = FisherInformation(likelihood=Softmax(axis=-1))

def descent(parameters):
    return torch.optim.SGD(parameters, lr=0.5)

def no_optimizer(parameters):
    return 3
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(USER_CODE))
    (tmp_path / "broken.py").write_text("import a_module_that_does_not_exist")
    return tmp_path


@pytest.fixture
def cli(folder, monkeypatch, capsys):
    """The command line without the seconds that a process takes to import torch."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["geomprobe", *arguments])
        code = 0
        try:
            main()
        except SystemExit as done:
            code = done.code
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield call
    for module in ("mine", "broken"):
        sys.modules.pop(module, None)


QUICK = ("--points", "30", "--samples", "12", "--n-train", "500")


def weights(folder, name, scale=1.0):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    save_file({k: v * scale for k, v in model.state_dict().items()}, folder / name)
    return name


@pytest.mark.long
def test_audit_writes_both_reports_and_compare_reads_them(folder, cli):
    def in_a_process(*arguments):
        command = [sys.executable, "-m", "geomprobe", *arguments]
        variables = {**os.environ, "COLUMNS": "200"}
        return subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300
        )

    for out, scale, run in (("a", 1.0, in_a_process), ("b", 2.0, cli)):
        file = weights(folder, f"{out}.safetensors", scale)
        arguments = ("audit", "mine:build", "--weights", file, "--data", "mine:data", "-o", out)
        done = run(*arguments, *QUICK)
        assert done.returncode == 0, done.stderr
        assert "report.html" in done.stdout
        assert (folder / out / "report.html").stat().st_size > 1000
    a, b = (AuditReport.from_json(folder / out / "report.json") for out in "ab")
    assert a.findings != b.findings
    assert a.facts["weights"] == "a.safetensors"
    assert len(a.facts["sha256"]) == 64
    done = cli("compare", "a", "b/report.json")
    assert done.returncode == 0, done.stderr
    assert "trace" in done.stdout
    done = cli("rank", "a", "b", "a/report.json", "-o", "all.html")
    assert done.returncode == 0, done.stderr
    assert "3 reports side by side" in done.stdout
    assert "3 reports side by side" in (folder / "all.html").read_text()
    assert "two reports or more" in cli("rank", "a").stderr
    assert "name the audits in it, such as a" in cli("rank", ".").stderr
    assert "barrier" not in done.stdout
    done = cli(
        *("compare", "a", "b", "--model", "mine:build", "--data", "mine:data"),
        *("--test", "mine:data", "-o", "two.html"),
    )
    assert done.returncode == 0, done.stderr
    assert "aligned test barrier: " in done.stdout
    assert "Loss on the way" in (folder / "two.html").read_text()
    weights(folder, "a.safetensors", 3.0)
    for options, reason in (((), "takes --data"), (("--data", "mine:data"), "SHA-256 differs")):
        done = cli("compare", "a", "b", "--model", "mine:build", *options)
        assert done.returncode == 2
        assert reason in done.stderr


def test_the_fingerprint_is_of_the_weights_that_were_audited(folder, cli, monkeypatch):
    file = weights(folder, "a.safetensors")
    before = sha256((folder / file).read_bytes()).hexdigest()
    whole = geomprobe.auditing.audit

    def overtaken(*args, **options):
        weights(folder, file, 2.0)
        return whole(*args, **options)

    monkeypatch.setattr("geomprobe.auditing.audit", overtaken)
    arguments = ("--weights", file, "--data", "mine:data", "--analyzers", "persistent_homology")
    assert cli("audit", "mine:build", *arguments, *QUICK).returncode == 0
    assert AuditReport.from_json(folder / "audit" / "report.json").facts["sha256"] == before


def test_weights_that_hold_nan_are_named_and_the_exit_code_is_partial(folder, cli):
    file = weights(folder, "a.safetensors", float("nan"))
    arguments = ("--weights", file, "--data", "mine:data", "--analyzers", "persistent_homology")
    done = cli("audit", "mine:build", *arguments, *QUICK)
    assert done.returncode == 1
    assert "4 of 4 parameters and buffers hold NaN. They are: 0.weight, 0.bias, " in done.stderr
    assert "weights (model): 4 of 4 parameters" in done.stdout


@pytest.mark.long
def test_an_interrupted_audit_is_kept_beside_a_complete_one(folder, cli, monkeypatch):
    def impatient(*args, **options):
        raise KeyboardInterrupt

    arguments = ("--data", "mine:data", "--analyzers", "persistent_homology", *QUICK)
    assert cli("audit", "mine:build", *arguments).returncode == 0
    complete = (folder / "audit" / "report.json").read_bytes()
    monkeypatch.setattr("geomprobe.topology.analyzers.homology.rips_persistence", impatient)
    done = cli("audit", "mine:build", *arguments)
    assert done.returncode == 1, done.stderr
    assert "report.partial.html" in done.stdout
    assert (folder / "audit" / "report.json").read_bytes() == complete
    assert AuditReport.from_json(folder / "audit" / "report.partial.json").facts["interrupted"]


@pytest.mark.long
def test_a_failed_finding_is_said_once_and_makes_the_exit_code_partial(folder, cli):
    arguments = ("audit", "mine:build", "--data", "mine:sequences", *QUICK)
    own_loss = ("--loss", "mine:mean_over_positions")
    done = cli(*arguments, *own_loss, "--analyzers", "fisher_information")
    assert done.returncode == 1, done.stderr
    report = json.loads((folder / "audit" / "report.json").read_text())
    assert "give the analyzers a likelihood" in report["findings"][0]["failed"]
    assert "give the analyzers a likelihood" in done.stdout
    assert "give the analyzers a likelihood" not in done.stderr

    # What the message asks for can be done from the command line too.
    done = cli(*arguments, *own_loss, "--analyzers", "mine:fisher")
    assert done.returncode == 0, done.stdout
    report = AuditReport.from_json(folder / "audit" / "report.json")
    assert report.metrics["geom/fisher_information/model/trace"].value > 0


@pytest.mark.long
def test_conditions_decide_the_exit_code_and_files_serve_as_data(folder, cli):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(50, 4)).astype(np.float32), np.arange(50) % 3
    np.savez(folder / "data.npz", x=x, y=y)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    torch.save(model, folder / "w.pt")
    analyzers = ("--analyzers", "persistent_homology", *QUICK)
    arguments = ("audit", "mine:build", "--data", "data.npz", "--weights", "w.pt", *analyzers)

    done = cli(*arguments, "--trust-pickle", "--fail-on", "geom/*/1/h0_total_persistence < 0")
    assert done.returncode == 0, done.stderr
    condition = "geom/persistent_homology/*/h0_total_persistence >= 0"
    done = cli(*arguments, "--trust-pickle", "--fail-on", condition)
    assert done.returncode == 3
    assert "failed: geom/persistent_homology/2/h0_total_persistence is " in done.stderr
    assert "and must not be >= 0" in done.stderr
    assert (folder / "audit" / "report.html").exists()
    done = cli(*arguments, "--trust-pickle", "--fail-on", "geom/persistent_homology/3/h0 > 0")
    assert done.returncode == 2
    assert "no number matches 'geom/persistent_homology/3/h0'. Near names: " in done.stderr

    save_file({"inputs": torch.from_numpy(x)}, folder / "data.safetensors")
    done = cli(
        *("audit", "mine:build", "--data", "data.safetensors"),
        *(*analyzers, "--budget-minutes", "1e-9"),
    )
    assert done.returncode == 1, done.stderr
    assert "left out: the 1e-09 minutes of the budget were over" in done.stdout


@pytest.mark.long
def test_an_optimizer_is_looked_at_in_the_state_that_a_checkpoint_holds(folder, cli):
    file = weights(folder, "a.safetensors")
    parameters = [torch.zeros(shape) for shape in ((8, 4), (8,), (3, 8), (3,))]
    state = torch.optim.SGD(parameters, lr=0.125).state_dict()
    torch.save({"optimizer": state}, folder / "last.pt")
    arguments = ("audit", "mine:build", "--weights", file, "--data", "mine:data", *QUICK)
    ratios = {}
    for learning_rate, options in ((0.5, ()), (0.125, ("--optimizer-state", "last.pt"))):
        done = cli(*arguments, "--optimizer", "mine:descent", *options)
        assert done.returncode == 0, done.stderr
        metrics = AuditReport.from_json(folder / "audit" / "report.json").metrics
        ratio, sharpness = (
            metrics[f"geom/edge_of_stability/model/{name}"].value
            for name in ("stability_ratio", "sharpness")
        )
        assert ratio == pytest.approx(learning_rate * sharpness / 2, rel=1e-3)
        ratios[learning_rate] = ratio
    assert ratios[0.5] == pytest.approx(4 * ratios[0.125], rel=1e-3)
    for options, said in (
        (("--optimizer-state", "last.pt"), "give both"),
        (("--optimizer", "mine:no_optimizer"), "must have param_groups"),
        (("--optimizer", "mine:descent", "--optimizer-state", file), "state of an optimizer"),
    ):
        done = cli(*arguments, *options)
        assert done.returncode == 2
        assert said in done.stderr


def test_the_shell_completes_commands_and_options(monkeypatch, capsys):
    def completed(words):
        monkeypatch.setenv("_GEOMPROBE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        with pytest.raises(SystemExit):
            app(prog_name="geomprobe")
        return capsys.readouterr().out.split()

    assert completed("geomprobe au") == ["audit", "audit-many"]
    assert completed("geomprobe audit --fail") == ["--fail-on"]


def test_layers_are_listed_with_what_a_batch_gives_and_why_one_is_skipped(folder, cli):
    done = cli("layers", "mine:build")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert rows == [["1", "ReLU", "selected"], ["2", "Linear", "selected"]]
    done = cli("layers", "mine:build", "--data", "mine:data", "--layers", "*", "--exclude", "2")
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert rows[1] == ["0", "Linear", "observed", "50", "x", "8"]
    assert {row[0] for row in rows} == {"(root)", "0", "1"}
    assert cli("layers", "mine:build", "--layers", "fc").returncode == 2


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
        (("mine:build", "--data", "mine:data", "--analyzers", "fischer"), "no analyzer 'fischer'"),
        (("mine:build", "--data", "mine:data", "--analyzers", "mine:build"), "is no analyzer"),
        (("mine:build", "--data", "mine:data", "-o", "w.pt"), "w.pt is a file"),
        (("mine:build", "--data", "w.npz"), "w.npz is no .npz file"),
        (("mine:build", "--data", "mine:data", "--fail-on", "a = 3"), "must read like 'geom/"),
        (("mine:build", "--data", "mine:data", "--budget-minutes", "0"), "must be positive, got 0"),
    ],
)
def test_input_that_cannot_be_used_is_one_line_and_exit_code_2(folder, cli, arguments, message):
    torch.save(torch.nn.Linear(4, 3), folder / "w.pt")
    (folder / "w.npz").write_text("no archive")
    done = cli("audit", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.splitlines()[-1].startswith("geomprobe: ")
    assert not (folder / "audit").exists()


def test_compare_refuses_what_is_no_report(folder, cli):
    (folder / "x.json").write_text("{}")
    done = cli("compare", "x.json", "x.json")
    assert done.returncode == 2
    assert "x.json" in done.stderr


def test_doctor_names_every_package_engine_and_analyzer(cli):
    done = cli("doctor")
    assert done.returncode == 0, done.stdout
    named = {line.split()[1] for line in done.stdout.splitlines()}
    assert named >= {
        re.match(r"[\w-]+", line)[0]
        for line in requires("geomprobe")
        if "extra ==" not in line or "extra == 'fast'" in line or "extra == 'giotto'" in line
    }
    assert named >= {"giotto-ph", "persistent_homology", "effective_dimension"}


def test_near_names_are_suggested(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ValueError, match="did you mean 'build'"):
        load_object("mine:buidl")
    assert load_object("mine:build.__name__") == "build"
