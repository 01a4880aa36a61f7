import copy
import math

import pytest
import torch
from torch import nn

from geomprobe.auditing import between
from geomprobe.auditing.comparison import compare
from geomprobe.auditing.report import AuditReport
from geomprobe.findings import Estimate, Finding
from geomprobe.landscape.analyzers import LineBetween


def report(scalars, subject="conv", failed=None, facts=None):
    return AuditReport((Finding("homology", subject, scalars, failed=failed),), facts=facts or {})


def only(a, b):
    (difference,) = compare(report({"x": a}), report({"x": b})).differences
    return difference


def line(a, b, data, loss):
    analyzers = [LineBetween(points=5)]
    return between({"a": a, "b": b}, data, loss, analyzers=analyzers, progress=False)


def test_z_is_the_difference_in_standard_errors_of_independent_numbers():
    # 3-4-5 triangle: sqrt(3² + 4²) = 5, so 10 ± 3 and 14 ± 4 are 4 / 5 standard errors apart.
    difference = only(Estimate(10, 3), Estimate(14, 4))
    assert (difference.value, difference.stderr, difference.z) == (4, 5, 0.8)
    assert only(Estimate(14, 4), Estimate(10, 3)).z == -0.8
    assert only(Estimate(1, exact=True), Estimate(3, 0.5)).z == 4


@pytest.mark.parametrize(
    ("a", "b", "z"),
    [
        (Estimate(2, exact=True), Estimate(2, exact=True), 0),
        (Estimate(2, exact=True), Estimate(3, exact=True), math.inf),
        (Estimate(3, exact=True), Estimate(2, exact=True), -math.inf),
        (Estimate(3, 0.1), Estimate(2), math.nan),
        (Estimate(3, 0.1), Estimate.undefined("no bar"), math.nan),
        (Estimate(math.inf, exact=True), Estimate(math.inf, exact=True), math.nan),
        (Estimate(math.nan, exact=True, note="x"), Estimate(2, exact=True), math.nan),
        (Estimate(0, 1e200), Estimate(1e200, 1e200), math.sqrt(0.5)),
    ],
)
def test_z_without_errors_or_values(a, b, z):
    assert only(a, b).z == pytest.approx(z, nan_ok=True)


def test_the_largest_difference_comes_first_and_nan_last():
    a = {name: Estimate(0, 1) for name in "pqrs"} | {"t": Estimate(0)}
    b = {name: Estimate(v, 1) for name, v in zip("pqrs", (1, -5, 3, 0), strict=True)}
    ordered = compare(report({"t": Estimate(0), **a}), report({**b, "t": Estimate(9)})).differences
    assert [difference.stat for difference in ordered] == ["q", "r", "p", "s", "t"]


def test_what_only_one_report_holds_is_listed_with_the_failures():
    failing = report({"x": Estimate(1, 1)}, failed="MemoryError: too large")
    comparison = compare(
        report({"x": Estimate(1, 1), "y": Estimate(2, 1)}), failing, names=("old", "new")
    )
    assert comparison.only_in_a == ("geom/homology/conv/y",)
    assert comparison.only_in_b == ()
    assert comparison.failed == ("geom/homology/conv in new: MemoryError: too large",)
    lines = comparison.summary().splitlines()
    assert lines[0] == "comparison of a = old with b = new"
    assert "only in old: 1 number" in lines
    assert "  geom/homology/conv in new: MemoryError: too large" in lines


def test_layers_are_matched_by_name_and_repeated_analyses_in_order():
    twice = AuditReport(
        tuple(Finding("homology", "conv", {"x": Estimate(value, 1)}) for value in (1, 10))
    )
    again = AuditReport(
        tuple(Finding("homology", "conv", {"x": Estimate(value, 1)}) for value in (2, 13))
    )
    values = sorted(difference.value for difference in compare(twice, again).differences)
    assert values == [1, 3]
    alone = compare(twice, report({"x": Estimate(1, 1)}, subject="head"))
    assert alone.differences == ()
    assert alone.only_in_a == ("geom/homology/conv/x", "geom/homology/conv/x#1")
    assert "no number is in both reports" in alone.summary()


def test_facts_and_methods_that_differ_are_said():
    a = report({"x": Estimate(1, 1, method="exact trace")}, facts={"seed": 0, "model": "Net"})
    b = report({"x": Estimate(1, 1, method="Hutchinson")}, facts={"seed": 1, "model": "Net"})
    comparison = compare(a, b)
    assert comparison.facts == {"seed": (0, 1)}
    assert comparison.differences[0].note == "methods differ: exact trace / Hutchinson"
    assert "  seed: 0 / 1" in comparison.summary().splitlines()


def test_summary_states_the_difference_its_error_and_what_z_assumes():
    text = str(compare(report({"x": Estimate(10, 3)}), report({"x": Estimate(14, 4)})))
    row = next(line for line in text.splitlines() if line.startswith("  homology"))
    assert row.split() == ["homology", "conv", "x", "10.0", "14.0", "4.0", "±", "5.0", "0.80"]
    assert "takes the two reports as independent" in " ".join(text.split())


def test_frame_has_the_order_and_the_numbers_of_the_comparison():
    a = report({"x": Estimate(1, 3), "y": Estimate(2, 3), "w": Estimate.undefined("no bar")})
    b = report({"x": Estimate(1, 4), "y": Estimate(12, 4), "w": Estimate(1, 1)})
    frame = compare(a, b).to_frame()
    assert list(frame["stat"]) == ["y", "x", "w"]
    assert frame.loc[0, ["a", "b", "difference", "stderr", "z"]].tolist() == [2, 12, 10, 5, 2]
    assert frame["note"][2] == "a undefined: no bar"
    empty = compare(report({}), report({})).to_frame()
    assert list(empty.columns) == list(frame.columns)
    assert list(empty.dtypes[3:8]) == list(frame.dtypes[3:8])


def test_hostile_names_stay_on_their_line():
    hostile = report({"x\n\x1b[2J": Estimate(1, 1)}, subject="a\rb", facts={"model": "x\x07"})
    text = compare(hostile, hostile, names=("a\nb", "c")).summary()
    assert not set(text) & set("\r\x1b\x07")
    assert len([line for line in text.splitlines() if "homology" in line]) == 1


def test_only_reports_can_be_compared():
    with pytest.raises(TypeError, match="b must be an AuditReport, got str"):
        compare(AuditReport(()), "report.json")


def test_a_permuted_copy_is_apart_until_its_units_are_matched():
    torch.manual_seed(0)
    a = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        for parameter in a.parameters():
            parameter.mul_(3)
    b, order = copy.deepcopy(a), torch.randperm(16)
    with torch.no_grad():
        b[0].weight.copy_(a[0].weight[order])
        b[0].bias.copy_(a[0].bias[order])
        b[2].weight.copy_(a[2].weight[:, order])
    x = torch.randn(80, 4)
    loss = nn.functional.cross_entropy
    found = compare(report({}), report({}), between=line(a, b, (x, a(x).argmax(dim=1)), loss))
    told = found.between.findings[0].scalars
    assert told["barrier"].value > 0.1
    assert told["aligned_barrier"].value == pytest.approx(0, abs=1e-6)
    assert told["distance"].value > 1
    assert told["aligned_distance"].value == pytest.approx(0, abs=1e-6)
    assert "  aligned distance: 0 (exact)" in found.summary().splitlines()


def test_models_whose_units_cannot_be_matched_have_the_straight_line():
    a, b = nn.Linear(4, 3), nn.Linear(4, 3)
    for model in (a, b):
        model.register_buffer("limit", torch.tensor(math.inf))
    found = line(a, b, (torch.randn(6, 4), torch.zeros(6).long()), nn.CrossEntropyLoss())
    told = found.findings[0].scalars
    assert set(told) == {"barrier", "aligned_barrier"}
    assert "units cannot be matched" in told["aligned_barrier"].note
