"""The JSON Schema of reports: what is written fits it, and what is broken does not."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.auditing.report import SCHEMA_VERSION, AuditReport
from geomprobe.exceptions import FailedAnalysisWarning
from geomprobe.findings import Estimate, Finding
from geomprobe.storage import read_json

jsonschema = pytest.importorskip("jsonschema", reason="the extra 'test' is not installed")


@pytest.fixture(scope="module")
def validator():
    schema = AuditReport.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """A real report as it is on the disk, with a failed finding."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.warns(FailedAnalysisWarning):
        report = gp.audit(
            model,
            (torch.randn(40, 4), torch.arange(40) % 3),
            loss=nn.functional.cross_entropy,
            analyzers=[
                *("persistent_homology", "fisher_information", "effective_dimension"),
                *("representation_dimension", "region_density", "training_path"),
            ],
            points=40,
            samples=12,
            progress=False,
        )
    return read_json(report.to_json(tmp_path_factory.mktemp("audit") / "report.json"))


def test_a_real_report_fits_with_its_failures_nans_and_infinities(validator, document):
    assert {finding["failed"] is None for finding in document["findings"]} == {True, False}
    assert "training_path" in document["caveats"]
    validator.validate(document)
    odd = Finding(
        "odd",
        "layer",
        {
            "exact": Estimate(math.inf, exact=True),
            "unknown": Estimate(-math.inf, math.inf),
            "undefined": Estimate.undefined("no bar"),
        },
        {
            "empty": np.empty((0, 2)),
            "mixed": np.array([1.5, math.nan, math.inf], dtype=np.float32),
            "names": np.array(["a", "bc"]),
            "flags": np.array([True]),
        },
    )
    layers = ({"name": "bare"},)
    validator.validate(AuditReport((odd,), layers, facts={"interrupted": True}).to_dict())
    validator.validate(AuditReport(()).to_dict())


def test_the_schema_and_the_reader_have_one_version(validator, document):
    assert validator.schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert validator.schema["$id"].endswith(f":{SCHEMA_VERSION}")
    assert AuditReport.from_dict(document).to_dict() == document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["kind"], "another"),
        (["schema_version"], 2),
        (["schema_version"], True),
        (["more"], 1),
        (["findings", 0, "failed"], False),
        (["findings", 0, "seconds"], -1),
        (["findings", 0, "remark"], ""),
        (["findings", 0, "arrays", "betti_grid", "shape"], [-1]),
        (["findings", 0, "arrays", "betti_grid", "dtype"], "object"),
        (["findings", 0, "scalars", "h0_entropy", "value"], "NaN"),
        (["findings", 0, "scalars", "h0_entropy", "value"], None),
        (["findings", 0, "scalars", "h0_entropy", "stderr"], -0.5),
        (["findings", 0, "scalars", "h0_entropy", "exact"], True),
        (["layers", 0, "points"], 2.5),
        (["layers", 0, "status"], "seen"),
        (["readings", "persistent_homology"], "read it"),
        (["caveats", "persistent_homology"], None),
    ],
    ids=lambda part: "/".join(map(str, part)) if isinstance(part, list) else repr(part),
)
def test_broken_reports_do_not_fit(validator, document, path, value):
    broken = copy.deepcopy(document)
    *parents, last = path
    inner = broken
    for name in parents:
        inner = inner[name]
    inner[last] = value
    assert not validator.is_valid(broken)


@pytest.mark.parametrize(
    "part", ["kind", "schema_version", "facts", "layers", "readings", "findings"]
)
def test_no_part_may_be_missing(validator, document, part):
    assert not validator.is_valid({name: document[name] for name in document if name != part})
