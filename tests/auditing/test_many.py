"""Audits of many checkpoints in one process: names, folders, resuming, and what fails."""

import sys
import textwrap
from functools import wraps

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import geomprobe as gp
from geomprobe.auditing import many
from geomprobe.auditing.checkpoint_names import short_names
from geomprobe.exceptions import FailedAnalysisWarning

QUICK = {"analyzers": "persistent_homology", "points": 30, "samples": 12, "progress": False}
X, Y = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3


def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def weights(tmp_path):
    """Three checkpoints of one model."""
    paths = []
    for seed in range(3):
        torch.manual_seed(seed)
        paths.append(tmp_path / f"epoch-{seed}.safetensors")
        save_file(build().state_dict(), paths[-1])
    return paths


def without_times(report):
    document = report.to_dict()
    document["facts"].pop("seconds", None)
    for finding in document["findings"]:
        finding.pop("seconds")
    return document


def test_each_is_what_audit_gives_and_all_numbers_are_in_one_table(tmp_path, weights):
    reports = gp.audit_many(weights, build, (X, Y), output=tmp_path / "out", **QUICK)
    assert list(reports) == ["epoch-0", "epoch-1", "epoch-2"]
    model = gp.auditing.load_weights(build(), weights[1])
    alone = gp.audit(model, (X, Y), **QUICK)
    for one, other in zip(reports["epoch-1"].findings, alone.findings, strict=True):
        assert one.scalars == other.scalars
    table = pd.read_csv(tmp_path / "out" / "numbers.csv", dtype={"subject": str})
    assert len(table) == sum(len(report.to_frame()) for report in reports.values())
    found = table[(table["checkpoint"] == "epoch-1") & (table["stat"] == "h0_total_persistence")]
    total = alone.metrics["geom/persistent_homology/2/h0_total_persistence"]
    assert found.set_index("subject")["value"]["2"] == pytest.approx(total.value)
    assert (tmp_path / "out" / "epoch-2" / "report.html").exists()


def test_it_goes_on_where_it_stopped_and_repeats_what_has_changed(tmp_path, weights, monkeypatch):
    audited = []

    @wraps(many.audit)
    def counted(model, data, **options):
        if len(audited) == 1 and not gone_on:
            raise KeyboardInterrupt
        audited.append(model[0].weight[0, 0].item())
        return audit(model, data, **options)

    audit, gone_on = many.audit, False
    monkeypatch.setattr(many, "audit", counted)
    arguments = {"output": tmp_path / "out", **QUICK}
    with pytest.warns(FailedAnalysisWarning, match="of 3 audits 2 are partial: epoch-1, epoch-2"):
        reports = gp.audit_many(weights, build, (X, Y), **arguments)
    assert "interrupted before its turn" in reports["epoch-2"].findings[0].failed
    gone_on = True
    first = gp.audit_many(weights, build, (X, Y), **arguments)
    assert len(audited) == 3
    assert {name: without_times(one) for name, one in first.items()} == {
        name: without_times(one)
        for name, one in gp.audit_many(weights, build, (X, Y), **arguments).items()
    }
    assert len(audited) == 3
    torch.manual_seed(9)
    save_file(build().state_dict(), weights[1])  # Another checkpoint of that name.
    gp.audit_many(weights, build, (X, Y), **arguments)
    assert len(audited) == 4
    gp.audit_many(weights, build, (X + 1, Y), **arguments)
    assert len(audited) == 7
    gp.audit_many(weights, build, (X + 1, Y), **{**arguments, "points": 20})
    assert len(audited) == 10


def test_names_are_the_shortest_that_differ(tmp_path):
    path = tmp_path.joinpath
    assert short_names([path("a.pt"), path("b.pt")]) == ["a", "b"]
    runs = [path(run, "last", "model.pt") for run in ("one", "two")]
    assert short_names(runs) == ["one", "two"]
    deep = [path("x", "model.pt"), path("x", "y", "model.pt")]
    assert short_names(deep) == ["model", "y-model"]


class Raising:
    """A loader that raises after so many batches."""

    def __init__(self, after):
        self.after = after

    def __iter__(self):
        for _ in range(self.after):
            yield X, Y
        raise OSError(5, "the disk of the data is gone")


def test_what_fails_is_a_finding_and_the_others_go_on(tmp_path, weights):
    torch.save(build(), weights[1])
    arguments = {"output": tmp_path / "out", **QUICK}
    with pytest.warns(FailedAnalysisWarning, match="1 are partial: epoch-1"):
        reports = gp.audit_many(weights, build, (X, Y), **arguments)
    [failed] = reports["epoch-1"].findings
    assert (failed.analyzer, failed.subject) == ("audit", "model")
    assert "is a pickle" in failed.failed
    assert [report.partial for report in reports.values()] == [False, True, False]
    page = (tmp_path / "out" / "epoch-1" / "report.html").read_text()
    assert "is a pickle" in page
    save_file(build().state_dict(), weights[1])
    assert not gp.audit_many(weights, build, (X, Y), **arguments)["epoch-1"].partial


def test_data_that_raise_half_way_leave_what_came_before(tmp_path, weights):
    data = Raising(after=2)
    with pytest.warns(FailedAnalysisWarning):
        reports = gp.audit_many(weights[:1], build, data, output=tmp_path / "out", **QUICK)
    first, *others = reports["epoch-0"].findings
    assert "only 120 samples could be read, then OSError: [Errno 5]" in first.failed
    assert others
    assert not any(finding.failed for finding in others)
    with pytest.warns(FailedAnalysisWarning):
        reports = gp.audit_many(
            weights[:1], build, Raising(after=0), output=tmp_path / "none", **QUICK
        )
    assert [finding.analyzer for finding in reports["epoch-0"].findings] == ["audit"]
    with pytest.raises(OSError, match="is gone"):
        gp.audit(build(), data, strict=True, **QUICK)


def test_a_model_that_gives_nan_fails_with_the_reason(tmp_path, weights):
    state = {name: torch.full_like(one, torch.nan) for name, one in build().state_dict().items()}
    save_file(state, weights[0])
    chosen = ["persistent_homology", "fisher_information"]
    options = {**QUICK, "analyzers": chosen, "loss": nn.functional.cross_entropy}
    with pytest.warns(FailedAnalysisWarning, match="partial: epoch-0"):
        reports = gp.audit_many(weights, build, (X, Y), output=tmp_path / "out", **options)
    failed = {finding.analyzer: finding.failed for finding in reports["epoch-0"].findings}
    assert set(failed) == {"weights", *chosen}
    assert "hold NaN. They are: 0.weight, 0.bias" in failed.pop("weights")
    assert all("finite" in reason for reason in failed.values())
    assert not reports["epoch-1"].partial


class Hungry:
    """An analyzer that takes more memory than its process may have."""

    name, needs, readings = "hungry", frozenset(), {}

    def __call__(self, evidence):
        import resource

        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, limits[1]))
        try:
            np.ones(2**28)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
        yield gp.Finding("hungry", "model")


@pytest.mark.skipif(sys.platform != "linux", reason="no other system keeps to RLIMIT_AS")
def test_memory_that_runs_out_is_a_failed_finding(tmp_path, weights):
    options = {**QUICK, "analyzers": [Hungry(), "persistent_homology"]}
    with pytest.warns(FailedAnalysisWarning):
        reports = gp.audit_many(weights, build, (X, Y), output=tmp_path / "out", **options)
    for report in reports.values():
        first, *others = report.findings
        assert "MemoryError" in first.failed
        assert others
        assert not any(finding.failed for finding in others)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"checkpoints": []}, ValueError, "there are no checkpoints"),
        ({"checkpoints": "a.safetensors"}, TypeError, "must be several paths"),
        ({"checkpoints": {"a/b": "x"}}, ValueError, "not fit for folders"),
        ({"checkpoints": ["none.safetensors"]}, FileNotFoundError, r"there is no .*none\.safe"),
        ({"model": "no_module:build"}, ValueError, "does not import"),
        ({"model": 3}, TypeError, "a callable that makes a model, or a model, got int"),
        ({"data": "no_module:data"}, ValueError, "does not import"),
        ({"data": iter([X])}, TypeError, "is used up by the first"),
        ({"analyzers": "persistent_homolgy"}, ValueError, "Did you mean"),
        ({"layer": "0"}, TypeError, r"takes no \['layer'\]"),
        ({"optimizer": None}, TypeError, r"takes no \['optimizer'\]"),
        ({"checkpoints": {0: "a.safetensors"}}, TypeError, "must be str, got the int 0"),
        ({"data": __file__}, ValueError, r"test_many\.py cannot be read: data are a \.npz"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_audit(tmp_path, weights, change, error, said):
    given = {"checkpoints": weights, "model": build, "data": (X, Y), **QUICK, **change}
    with pytest.raises(error, match=said):
        gp.audit_many(**given, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Counted:
    """An analyzer that is no dataclass."""

    name, needs, readings = "counted", frozenset(), {}

    def __init__(self, most):
        self.most = most

    def __call__(self, evidence):
        yield gp.Finding("counted", "model", {"most": gp.Estimate(self.most, exact=True)})


def test_options_may_be_used_up_by_the_first_who_asks(tmp_path, weights):
    options = {**QUICK, "analyzers": (one for one in [Counted(4)]), "layers": iter(["0"])}
    reports = gp.audit_many(weights[:2], build, (X, Y), output=tmp_path / "out", **options)
    for report in reports.values():
        assert [finding.failed for finding in report.findings] == [None]
        assert report.findings[0].scalars["most"].value == 4


def test_a_checkpoint_that_changes_meanwhile_has_no_report(tmp_path, weights):
    def data():
        if not written:
            written.append(save_file({**build().state_dict()}, weights[0]))
        return X, Y

    written = []
    arguments = {"output": tmp_path / "out", **QUICK}
    with pytest.warns(FailedAnalysisWarning, match="1 are partial: epoch-0"):
        reports = gp.audit_many(weights[:1], build, data, **arguments)
    [failed] = reports["epoch-0"].findings
    assert failed.failed == "the checkpoint changed while it was audited"
    assert not gp.audit_many(weights[:1], build, data, **arguments)["epoch-0"].partial


def test_the_same_from_the_command_line(tmp_path, weights, monkeypatch, capsys):
    from geomprobe.cli import main

    code = """
    import torch
    from torch import nn

    def build():
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def data():
        return torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
    """
    (tmp_path / "for_many.py").write_text(textwrap.dedent(code))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*files):
        options = ("--analyzers", "persistent_homology", "--points", "30", "-o", "out")
        command = ["audit-many", "for_many:build", *files, "--data", "for_many:data", *options]
        monkeypatch.setattr(sys, "argv", ["geomprobe", *command])
        with pytest.raises(SystemExit) as done:
            main()
        return done.value.code

    files = [path.name for path in weights]
    assert call(*files) == 0
    said = capsys.readouterr().out
    assert said.count("complete  out/epoch-") == 3
    assert "out/numbers.csv" in said
    library = gp.audit_many(
        weights, build, (X, Y), output=tmp_path / "library", **{**QUICK, "samples": 64}
    )
    command = gp.AuditReport.from_json("out/epoch-2/report.json")
    for one, other in zip(command.findings, library["epoch-2"].findings, strict=True):
        assert one.scalars == other.scalars
    capsys.readouterr()
    metric = "geom/persistent_homology/2/h0_total_persistence"
    totals = {
        name: gp.AuditReport.from_json(f"out/{name}/report.json").metrics[metric].value
        for name in library
    }
    least, _, most = sorted(totals, key=totals.get)
    condition = f"{metric} > {totals[least]!r}"
    assert call(*files, "--fail-on", condition, "--fail-on", f"{metric} > {totals[most]!r}") == 3
    told = capsys.readouterr().err
    assert told.count("failed: epoch-") == 2
    assert f"failed: {least}" not in told
    assert call(*files, "--fail-on", "geom/persistent_homology/2/h7 > 0") == 2
    assert "no number matches" in capsys.readouterr().err

    weights[0].write_bytes(b"")
    assert call(*files, "--fail-on", f"{metric} > {totals[most]!r}") == 3
    assert "failed: epoch-0: no number matches" in capsys.readouterr().err
    assert call(*files) == 1
    told = capsys.readouterr()
    assert "partial   out/epoch-0" in told.out
    assert "audit (model): FileFormatError" in told.err
    assert call("nothing.safetensors") == 2
    sys.modules.pop("for_many", None)
