import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from geomprobe.auditing.report import COLUMNS, AuditReport
from geomprobe.exceptions import FileFormatError
from geomprobe.findings import Estimate, Finding


def homology(subject="conv"):
    return Finding(
        "persistent_homology",
        subject,
        scalars={
            "entropy": Estimate(3.21, 0.04, n=256, method="jackknife"),
            "bars": Estimate(12, exact=True, n=256),
            "ratio": Estimate.undefined("no bar is finite"),
        },
        arrays={
            "diagram_h0": np.array([[0, 1.5], [0, math.inf], [0, math.nan]], dtype=np.float32),
            "diagram_h1": np.empty((0, 2)),
            "counts": np.arange(3),
        },
        notes=("2 points left out",),
        seconds=0.25,
    )


FAILURE = Finding("fisher_information", "model", failed="RuntimeError: out of\nmemory")


def report(*findings, **facts):
    return AuditReport(
        findings or (homology(), FAILURE),
        layers=(
            {"name": "conv", "type": "Conv2d", "status": "observed", "reason": None,
             "points": 256, "dimension": 64, "aliases": ["tied"]},
            {"name": "act", "type": "ReLU", "status": "skipped", "reason": "never called",
             "points": None, "dimension": None, "aliases": []},
        ),
        readings={"persistent_homology": {"entropy": "How evenly lifetimes are spread."}},
        facts={"model": "Net", "parameters": 12000, "samples": 500, "seed": 3} | facts,
    )  # fmt: skip


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_json_round_trip_with_nan_and_infinity(tmp_path):
    path = report().to_json(tmp_path / "deep" / "report.json")
    again = AuditReport.from_json(path)
    assert again == report()
    assert again.findings[0].arrays["diagram_h0"].dtype == np.float32
    assert again != report(homology("other"), FAILURE)


def test_json_is_strict(tmp_path):
    path = report(loss=math.nan, ceiling=-math.inf).to_json(tmp_path / "report.json")
    document = json.loads(path.read_text(), parse_constant=refuse)
    assert document["schema_version"] == 1
    assert document["facts"]["loss"] is None


def test_facts_and_layers_become_json_types():
    facts = {"shape": (3, 32), "lr": np.float32(0.5), "loss": math.nan}
    kept = AuditReport((), layers=({"name": "a", "points": np.int64(3)},), facts=facts)
    assert kept.facts == {"shape": [3, 32], "lr": 0.5, "loss": None}
    assert AuditReport.from_dict(json.loads(json.dumps(kept.to_dict()))) == kept


@pytest.mark.parametrize("part", [{"facts": {"device": object()}}, {"layers": ({"type": list},)}])
def test_what_json_cannot_hold_is_refused_at_once(part):
    with pytest.raises(TypeError, match=f"{next(iter(part))} must hold JSON types"):
        AuditReport((), **part)


def without(key):
    document = report().to_dict()
    del document[key]
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "not an audit report; expected a JSON object with kind"),
        ({"schema_version": 1}, "not an audit report"),
        (without("schema_version"), "schema version None, expected 1: repeat the audit"),
        (report().to_dict() | {"schema_version": 2}, "version 2, expected 1: upgrade geomprobe"),
        (report().to_dict() | {"schema_version": "1"}, "version '1', expected 1: repeat"),
        (report().to_dict() | {"schema_version": True}, "version True, expected 1"),
        (without("findings"), "damaged geomprobe audit report, KeyError: 'findings'"),
        (report().to_dict() | {"findings": [{"analyzer": "a"}]}, "damaged"),
        (report().to_dict() | {"findings": 7}, "damaged"),
    ],
)
def test_a_foreign_or_newer_file_is_refused_by_name(tmp_path, document, message):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match=message) as caught:
        AuditReport.from_json(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_json_is_refused(tmp_path):
    path = tmp_path / "report.json"
    path.write_text('{"kind": "geomprobe audit", ')
    with pytest.raises(FileFormatError, match="not a JSON file"):
        AuditReport.from_json(path)


def test_partial_where_a_finding_failed_or_the_audit_was_interrupted():
    assert report().partial
    assert not report(homology()).partial
    assert report(homology(), interrupted=True).partial
    assert not report(homology(), interrupted=False).partial


def test_metric_names_and_how_repeated_ones_are_told_apart():
    names = list(report(homology(), homology(), homology("head")).metrics)
    assert names[0] == "geom/persistent_homology/conv/entropy"
    assert names[3] == "geom/persistent_homology/conv/entropy#1"
    assert names[6] == "geom/persistent_homology/head/entropy"
    assert len(set(names)) == 9


def test_frame_is_long_with_a_row_for_each_number_and_each_failure():
    frame = report().to_frame()
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["stat"]) == ["entropy", "bars", "ratio", ""]
    assert list(frame["stderr"][:2]) == [0.04, 0.0]
    assert frame["value"].isna().tolist() == [False, False, True, True]
    assert frame["failed"].isna().tolist() == [True, True, True, False]
    assert frame["failed"][3] == "RuntimeError: out of\nmemory"
    assert frame["n"].tolist()[:3] == [256, 256, pd.NA]
    assert frame["note"][2] == "no bar is finite"


def test_frames_have_the_same_types_whatever_they_hold():
    full, empty = report().to_frame(), AuditReport(()).to_frame()
    kinds = ["value", "stderr", "n", "exact"]
    assert len(empty) == 0
    assert list(empty.dtypes[kinds]) == list(full.dtypes[kinds])


def test_summary_shows_every_number_with_its_error_and_every_failure():
    lines = str(report()).splitlines()
    assert lines[0] == "geomprobe audit of Net · 12,000 parameters · 500 samples · seed 3"
    assert lines[1] == "1 layer observed, 1 skipped: act"
    rows = [line.split() for line in lines]
    assert ["conv", "entropy", "3.210", "±", "0.040", "256"] in rows
    assert ["conv", "bars", "12", "exact", "256"] in rows
    assert ["conv", "ratio", "undefined", "–", "no", "bar", "is", "finite"] in rows
    assert lines[-1] == "  fisher_information (model): RuntimeError: out of memory"
    assert "interrupted" in report(interrupted=True).summary()


def test_summary_of_nothing_and_of_hostile_names():
    assert AuditReport(()).summary() == "geomprobe audit of a model\nno layer was observed"
    hostile = AuditReport((homology("\x1b[2J\nx\u202e"),), facts={"model": "a\rb"}).summary()
    assert not set(hostile) & set("\x1b\r\u202e")
    assert len(hostile.splitlines()) == len(AuditReport((homology(),)).summary().splitlines())


def test_reading_a_report_loads_neither_pandas_nor_jinja():
    code = (
        "import sys, geomprobe; before = set(sys.modules); "
        "from geomprobe.auditing.report import AuditReport; AuditReport(()).summary(); "
        "new = set(sys.modules) - before; sys.exit(bool(new & {'pandas', 'jinja2', 'matplotlib'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
