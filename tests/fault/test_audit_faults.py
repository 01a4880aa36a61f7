"""Sweeps of audits under faults: what is finished stays, and what failed says why."""

import errno
import json
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import geomprobe as gp
from geomprobe import storage
from geomprobe.auditing import many
from geomprobe.findings import Estimate, Finding

pytestmark = pytest.mark.filterwarnings("ignore::geomprobe.exceptions.FailedAnalysisWarning")
SCHEDULES, CHECKPOINTS = 500, 3


class Killed(BaseException):
    """The end of the process: nothing handles it and nothing is put away."""


FAULTS = {
    "analyzer": lambda: RuntimeError("an analyzer broke"),
    "memory": lambda: MemoryError("no memory"),
    "full": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "read-only": lambda: OSError(errno.EROFS, "Read-only file system"),
    "interrupt": KeyboardInterrupt,
    "killed": Killed,
}


def build():
    return nn.Linear(3, 2)


@pytest.fixture
def weights(tmp_path):
    paths = {}
    for seed in range(CHECKPOINTS):
        torch.manual_seed(seed)
        paths[f"c{seed}"] = tmp_path / f"c{seed}.safetensors"
        save_file(build().state_dict(), paths[f"c{seed}"])
    return paths


class Schedule:
    """Raises at some of the points that work passes, chosen by a seed."""

    def __init__(self, monkeypatch):
        self.raised = Counter()
        monkeypatch.setattr(storage.os, "fsync", self.passing(lambda file: None))
        monkeypatch.setattr(storage.os, "replace", self.passing(os.replace))
        rmtree = storage.shutil.rmtree
        monkeypatch.setattr(storage.shutil, "rmtree", lambda *a, **k: self.dead or rmtree(*a, **k))
        monkeypatch.setattr(many, "audit", self.audit)
        monkeypatch.setattr(many, "_write_table", lambda *_: None)
        monkeypatch.setattr(
            gp.AuditReport, "to_html", lambda _, path: storage.write_atomically(path, b"<html>")
        )

    def begin(self, seed, chance):
        self.rng, self.chance, self.dead = random.Random(seed), chance, False

    def point(self):
        if self.rng.random() < self.chance:
            kind = self.rng.choice(sorted(FAULTS))
            self.raised[kind] += 1
            self.dead = kind == "killed"
            raise FAULTS[kind]()

    def passing(self, function):
        def passed(*arguments):
            self.point()
            result = function(*arguments)
            self.point()  # Done, and then the fault.
            return result

        return passed

    def audit(self, model, data, **options):
        """Stand in for an audit: one exact number of the weights."""
        self.point()
        total = Estimate(float(model.weight.detach().sum()), exact=True)
        findings = (Finding("fake", "model", {"sum": total}),)
        facts = {"interrupted": False, "versions": {"geomprobe": gp.__version__}}
        return gp.AuditReport(findings, facts=facts)


def done_in(folder):
    """The finished reports of a folder: their bytes, and which file it is."""
    found = {}
    for path in folder.glob("*/report.json"):
        content = path.read_bytes()
        if json.loads(content)["facts"].get("audited", True):
            found[path.parent.name] = (content, path.stat().st_ino)
    return found


@pytest.mark.long
def test_nothing_that_was_finished_is_lost_under_500_schedules_of_faults(
    tmp_path, weights, monkeypatch
):
    schedule = Schedule(monkeypatch)
    schedule.begin(0, 0.0)
    gp.audit_many(weights, build, None, output=tmp_path / "quiet", progress=False)
    expected = {name: content for name, (content, _) in done_in(tmp_path / "quiet").items()}
    assert len(expected) == CHECKPOINTS
    calls = 0
    for seed in range(SCHEDULES):
        out = tmp_path / f"out{seed}"
        before = {}
        for chance in (0.15, 0.05, 0.0):
            schedule.begin(1000 * seed + int(100 * chance), chance)
            calls += 1
            try:
                reports = gp.audit_many(weights, build, None, output=out, progress=False)
            except Killed:
                reports = None
            after = done_in(out) if out.exists() else {}
            # What was finished is the very file that it was.
            assert before.items() <= after.items()
            assert all(content == expected[name] for name, (content, _) in after.items())
            if reports is not None:
                assert list(reports) == list(weights)
                for name, report in reports.items():
                    assert report.partial != (name in after)
                    assert not report.partial or report.findings[0].failed
            before = after
        assert len(before) == CHECKPOINTS
    assert min(schedule.raised[kind] for kind in FAULTS) > 100, schedule.raised


@contextmanager
def small_disk(folder, size):
    """A file system in memory of so many bytes."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this process cannot mount a file system: {error}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


QUICK = {"analyzers": "persistent_homology", "points": 30, "progress": False}
X = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))


def test_a_disk_that_is_full_keeps_what_fits_and_takes_the_rest_later(tmp_path, weights):
    whole = gp.audit_many(weights, build, X, output=tmp_path / "whole", **QUICK)
    size = sum(path.stat().st_size + 4096 for path in (tmp_path / "whole" / "c0").iterdir())
    disk = tmp_path / "disk"
    with small_disk(disk, 2 * size + 2**14):
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(size // 2))
        reports = gp.audit_many(weights, build, X, output=disk / "out", **QUICK)
        failed = [name for name, report in reports.items() if report.partial]
        assert 0 < len(failed) < CHECKPOINTS
        for name in failed:
            assert "No space left on device" in reports[name].findings[0].failed
        assert set(done_in(disk / "out")) == set(weights) - set(failed)
        kept = done_in(disk / "out")
        subprocess.run(
            ["mount", "-o", f"remount,size={8 * size}", str(disk)], check=True, capture_output=True
        )
        again = gp.audit_many(weights, build, X, output=disk / "out", **QUICK)
        assert kept.items() <= done_in(disk / "out").items()
    for name in weights:
        assert not again[name].partial
        assert again[name].metrics == whole[name].metrics


def test_an_output_that_cannot_be_written_to_is_refused_before_any_audit(
    tmp_path, weights, monkeypatch
):
    monkeypatch.setattr(many._Audit, "__call__", lambda *_: pytest.fail("an audit was made"))
    disk = tmp_path / "disk"
    with small_disk(disk, 2**20):
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, capture_output=True)
        with pytest.raises(OSError, match="Read-only file system"):
            gp.audit_many(weights, build, X, output=disk, **QUICK)


def test_a_report_that_cannot_be_written_is_printed_and_the_exit_code_is_partial(
    tmp_path, monkeypatch, capsys
):
    from geomprobe.cli import main
    from geomprobe.cli.exit_codes import PARTIAL

    code = "import torch\ndef model():\n    return torch.nn.Linear(3, 2)\n"
    code += "def data():\n    return torch.arange(60.0).sin().view(20, 3)\n"
    (tmp_path / "for_faults.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    command = ["audit", "for_faults:model", "--data", "for_faults:data", "-o", "/proc/no/such"]
    monkeypatch.setattr(
        sys, "argv", ["geomprobe", *command, "--analyzers", "persistent_homology", "--layers", "*"]
    )
    with pytest.raises(SystemExit) as done:
        main()
    told = capsys.readouterr()
    assert done.value.code == PARTIAL
    assert "h0_total_persistence" in told.out
    assert "report.json is not written: [Errno" in told.err
    assert "report.html is not written: [Errno" in told.err
    sys.modules.pop("for_faults", None)
