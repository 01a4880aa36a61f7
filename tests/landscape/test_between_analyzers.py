"""The analyzers of what lies between models, alone, in an audit and on the page of a comparison."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import geomprobe as gp
from geomprobe import Evidence, Samples
from geomprobe.auditing import Checkpoints, between
from geomprobe.auditing.checkpoint_page import render as render_comparison
from geomprobe.auditing.html import render
from geomprobe.auditing.path_figures import path_figures
from geomprobe.landscape import connectivity_matrix, linear_barrier, random_equivalent
from geomprobe.landscape.analyzers import BarriersBetween, CurveBetween, LineBetween
from tests.landscape.symmetric_networks import data, mlp, network
from tests.landscape.test_connectivity import ONES, Circle

LINE = LineBetween(points=5)


def pair(name="mlp", **options):
    """A network beside one that is the same function, on its own answers."""
    model, samples = network(name).eval(), data(name)
    samples = Samples(samples.inputs, model(samples.inputs).argmax(1))
    other = random_equivalent(model, samples, **options)
    return {"model": model, "data": samples, "loss": F.cross_entropy, "others": {"b": other}}


def test_of_a_permuted_and_rescaled_copy_nothing_is_left_once_symmetries_are_taken_out():
    given = pair(rescale=0)
    (found,) = LineBetween(points=5, test=given["data"])(Evidence(**given))
    assert (found.subject, found.failed) == ("b", None)
    values = {stat: estimate.value for stat, estimate in found.scalars.items()}
    assert set(values) == set(LineBetween.readings)
    assert values["aligned_barrier"] < 1e-6 < values["barrier"] == values["test_barrier"]
    assert values["aligned_distance"] == values["aligned_test_barrier"] == 0 < values["distance"]
    assert values["moved_units"] > 0
    straight = linear_barrier(
        given["model"], given["others"]["b"], given["data"], given["loss"], points=5
    )
    assert found.scalars["barrier"].value == straight.barrier.value
    np.testing.assert_array_equal(found.arrays["path_straight"], straight.train.mean)
    (scaled,) = LINE(Evidence(**pair(rescale=1.0)))
    assert scaled.scalars["aligned_distance"].value > 1
    assert scaled.scalars["symmetry_distance"].value == pytest.approx(0, abs=1e-5)


def test_the_curve_between_minima_on_a_circle_keeps_to_it_and_the_line_does_not():
    ends = {"model": Circle(20, 0), "others": {"b": Circle(20, math.pi / 2)}}
    evidence = Evidence(**ends, data=ONES, loss=F.mse_loss)
    (found,) = CurveBetween(steps=80, test=ONES)(evidence)
    assert found.scalars["curve_barrier"].value < 1e-4
    assert found.scalars["curve_test_barrier"].value < 1e-4
    # A quarter of a circle over its chord, and sin^4 of half the angle.
    assert found.scalars["stretch"].value == pytest.approx(math.pi / 4 * 2**0.5, rel=0.01)
    assert found.arrays["path_straight"].max() == pytest.approx(1 / 4)
    assert set(found.scalars) == set(CurveBetween.readings)


def test_of_three_models_there_is_a_matrix_and_of_two_none():
    given = pair(rescale=0)
    assert list(BarriersBetween()(Evidence(**given))) == []
    given["others"]["c"] = network("mlp", seed=2)
    (found,) = BarriersBetween(points=5, first="a")(Evidence(**given))
    models = [given["model"], *given["others"].values()]
    by_hand = connectivity_matrix(models, given["data"], given["loss"], points=5, reset_bn=True)
    np.testing.assert_array_equal(found.arrays["barriers"], by_hand.barriers)
    np.testing.assert_array_equal(found.arrays["aligned_barriers"], by_hand.aligned)
    above = by_hand.barriers[[0, 0, 1], [1, 2, 2]]
    assert found.scalars["mean_barrier"].value == pytest.approx(above.mean())
    assert found.scalars["loss_spread"] == by_hand.spread
    assert found.notes[0] == "Rows and columns: 1. a; 2. b; 3. c."
    (figure,) = path_figures(found)
    assert figure.kind == "barriers"
    assert figure.svg.count("<text") >= 6 + 3 + 3


class Summed(nn.Module):
    """A network whose hidden units go through running sums, of which there is no rule."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.cumsum(self.first(x), 1))


def test_units_without_a_rule_are_named_and_the_line_is_told():
    samples = data("mlp")
    torch.manual_seed(0)
    given = {"model": Summed(), "others": {"b": Summed()}, "data": samples}
    (found,) = LINE(Evidence(**given, loss=F.cross_entropy))
    assert "first.weight[0] keeps its order: goes through cumsum" in " ".join(found.notes)
    assert "No units are interchangeable" in found.notes[-1]
    assert found.scalars["barrier"].value == found.scalars["aligned_barrier"].value


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loss": None}, "pass loss="),
        ({"data": Samples(data("mlp").inputs)}, "no targets"),
        ({"loss": lambda y, t: F.cross_entropy(y, t, reduction="sum")}, "not the mean"),
    ],
)
def test_without_a_loss_there_are_distances_and_the_reason(change, reason):
    evidence = Evidence(**(pair() | change))
    (line,) = LINE(evidence)
    assert line.scalars["distance"].value > 1
    assert math.isnan(line.scalars["aligned_barrier"].value)
    assert reason in line.scalars["barrier"].note
    assert reason in next(CurveBetween(steps=1)(evidence)).failed


def test_another_architecture_is_a_failed_finding_and_the_others_are_looked_at():
    given = pair()
    given["others"] = {"wide": mlp((6, 9, 7, 3)), **given["others"]}
    evidence = Evidence(**given)
    wide, same = LINE(evidence)
    assert "'0.weight' has shape (8, 6) in the model and (9, 6) in wide" in wide.failed
    assert same.failed is None
    curves = list(CurveBetween(steps=1, points=3)(evidence))
    assert [one.failed is None for one in curves] == [False, True]
    (matrix,) = BarriersBetween(points=3)(evidence)
    assert "one architecture" in matrix.failed


def test_an_audit_beside_others_tells_of_them_and_the_models_stay_as_they_are():
    given = pair("cnn")
    models = [given["model"], *given["others"].values()]
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in models]
    stream = torch.get_rng_state()
    asked = {"loss": given["loss"], "others": given["others"], "progress": False, "points": 5}
    asked["analyzers"] = [LINE, CurveBetween(steps=2, points=5)]
    samples = given["data"].inputs, given["data"].targets
    report = gp.audit(given["model"], samples, **asked)
    assert [finding.failed for finding in report.findings] == [None, None]
    assert report.metrics["geom/mode_connectivity/b/aligned_distance"].value < 1e3
    page = render(report)
    assert page.count("Loss on the way") >= 2
    assert "does not say" in page
    assert "across the layers" not in page
    assert torch.equal(stream, torch.get_rng_state())
    for model, was in zip(models, before, strict=True):
        assert all(torch.equal(value, was[name]) for name, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())
    asked["analyzers"] = LINE
    short = gp.audit(given["model"], samples, **asked, budget_minutes=1e-9)
    assert "budget" in short.findings[0].failed
    with pytest.raises(TypeError, match="others must be models"):
        gp.audit(given["model"], samples, others={"b": "b.safetensors"})


def test_the_page_of_a_comparison_shows_what_lies_between_three_checkpoints():
    given = pair(rescale=0)
    models = {"a": given["model"], **given["others"], "<c>": network("mlp", seed=2)}
    samples = given["data"].inputs, given["data"].targets
    asked = [LINE, BarriersBetween(points=5), CurveBetween(steps=2, points=5)]
    found = between(models, samples, given["loss"], analyzers=asked, progress=False)
    assert [finding.failed for finding in found.findings] == [None] * 5
    reports = [gp.AuditReport((), facts={"seed": seed}) for seed in range(3)]
    page = render_comparison(Checkpoints(reports, tuple(models), found))
    for text in ("To <code>b</code>", "To <code>&lt;c&gt;</code>", "Every two of them"):
        assert text in page
    assert page.count("<svg") == 5
    assert "<c>" not in page
    summary = Checkpoints(reports, tuple(models), found).summary()
    assert "  b, aligned distance: 0 (exact)" in summary.splitlines()
    with pytest.raises(ValueError, match="two or more"):
        between({"a": given["model"]}, samples)
    with pytest.raises(ValueError, match="got 3 models and no data"):
        between(models, None)


class Broken(nn.Sequential):
    def forward(self, x):
        raise RuntimeError("of another device")


def test_an_other_model_that_cannot_be_looked_at_is_a_failed_finding_of_its_own():
    given = pair()
    double = copy.deepcopy(given["model"]).double()
    given["others"] = {"a": double, "b": Broken(*network("mlp")), "c": given["others"]["b"]}
    for analyzer in (LineBetween(points=3), CurveBetween(steps=1, points=3)):
        a, b, c = analyzer(Evidence(**given))
        assert "'0.weight' is torch.float32 in " in a.failed
        assert "of another device" in (b.failed or b.scalars["barrier"].note)
        assert (a.subject, b.subject, c.subject, c.failed) == ("a", "b", "c", None)


def test_names_of_models_and_samples_reach_the_analyzers(monkeypatch):
    import geomprobe.auditing.between_models as module

    first, inputs = network("mlp"), torch.randn(4, 6)
    monkeypatch.setattr(module, "audit", lambda *_, **given: given)
    given = between({"x": first, "model": first, "y": first}, inputs, samples=600)
    assert list(given["others"]) == ["model (other)", "y"]
    assert [analyzer.max_samples for analyzer in given["analyzers"]] == [600] * 3
    assert given["analyzers"][1].first == "x"
    monkeypatch.undo()
    with pytest.raises(ValueError, match="'model' is the audited model"):
        gp.audit(first, inputs, others={"model": first})
    with pytest.raises(TypeError, match="others must be models"):
        gp.audit(first, inputs, others=[first])


@pytest.mark.parametrize(
    ("analyzer", "options"),
    [(LineBetween, {"points": 2}), (CurveBetween, {"steps": 0}), (BarriersBetween, {"points": 2})],
)
def test_bad_parameters(analyzer, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        analyzer(**options)
    with pytest.raises(TypeError, match="points must be a whole number"):
        analyzer(points=5.5)
