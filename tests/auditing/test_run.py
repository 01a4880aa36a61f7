import copy

import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.exceptions import FailedAnalysisWarning, LayerSelectionError

X, Y = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def quick(model, data=(X, Y), **options):
    defaults = {"loss": nn.functional.cross_entropy, "points": 30, "samples": 12, "n_train": 500}
    return gp.audit(model, data, **{**defaults, "progress": False, **options})


def test_every_registered_analyzer_reports_and_nothing_fails():
    report = quick(network())
    subjects = {(f.analyzer, f.subject) for f in report.findings}
    assert subjects == {
        ("persistent_homology", "2"),
        ("persistent_homology", "3"),
        ("fisher_information", "model"),
        ("effective_dimension", "model"),
    }
    assert not report.partial
    assert report.facts["samples"] == 60
    assert report.facts["parameters"] == sum(p.numel() for p in network().parameters())
    assert [row["name"] for row in report.layers] == ["2", "3"]


def test_a_path_that_is_given_is_looked_at_and_drawn(tmp_path):
    walk = np.random.default_rng(0).normal(size=(300, 4)).cumsum(axis=0)
    path = gp.Trajectory(walk, np.arange(300), np.zeros(300))
    report = quick(network(), trajectory=path)
    assert {"training_path", "trajectory_topology", "natural_path"} <= {
        f.analyzer for f in report.findings
    }
    assert report.facts["trajectory"] == "300 points"
    page = report.to_html(tmp_path / "report.html").read_text()
    for title in ("Principal directions of the path", "Distance against time"):
        assert title in page


def test_every_number_has_a_reading_and_an_error_bar_or_a_reason():
    report = quick(network())
    for finding in report.findings:
        for stat, estimate in finding.scalars.items():
            assert report.readings[finding.analyzer][stat].endswith("."), stat
            assert estimate.exact or estimate.stderr >= 0 or estimate.note, (stat, estimate)
            assert estimate.method or estimate.note, stat


def test_the_same_seed_gives_the_same_report():
    a, b = quick(network()), quick(network())
    for x, y in zip(a.findings, b.findings, strict=True):
        assert x.scalars == y.scalars
        assert x.arrays.keys() == y.arrays.keys()


def test_the_model_is_left_as_it_was():
    model = network().train()
    before, stream = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    quick(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(stream, torch.random.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_parameters_is_audited_for_its_topology_alone():
    with pytest.warns(FailedAnalysisWarning):
        report = quick(nn.Sequential(nn.ReLU(), nn.Tanh()))
    assert report.partial
    failed = {f.analyzer: f.failed for f in report.findings if f.failed}
    assert set(failed) == {"fisher_information", "effective_dimension"}
    assert all("parameters" in reason for reason in failed.values())


def test_nan_activations_are_counted_and_left_out():
    x = X.clone()
    x[7] = float("nan")
    report = quick(network(), (x, Y), analyzers="persistent_homology", points=60)
    for finding in report.findings:
        assert finding.failed is None
        assert finding.scalars["points_excluded"].value == 1
        assert any("1" in note and "finite" in note for note in finding.notes)


def test_a_batch_of_one_gives_reasons_not_numbers():
    with pytest.warns(FailedAnalysisWarning, match="1 finite points are too few"):
        report = quick(network(), (X[:1], Y[:1]), analyzers="persistent_homology")
    assert all(f.failed for f in report.findings)


def test_integer_outputs_are_a_failed_finding_that_says_so():
    class Argmax(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(x).argmax(dim=1)

    with pytest.warns(FailedAnalysisWarning, match="int64"):
        report = quick(Argmax(), analyzers="fisher_information")
    assert "int64" in report.findings[0].failed


def test_bad_input_is_refused_before_any_analysis():
    with pytest.raises(LayerSelectionError, match="no layer matches 'fc9'"):
        quick(network(), layers="fc9")
    with pytest.raises(ValueError, match="hold no batches"):
        quick(network(), [])
    with pytest.raises(ValueError, match=r"no analyzer 'fischer_information'.*Did you mean"):
        quick(network(), analyzers="fischer_information")
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module"):
        quick("model.pt")


def test_without_a_loss_what_needs_one_says_what_to_pass():
    with pytest.warns(FailedAnalysisWarning, match="pass loss="):
        report = quick(network(), loss=None, analyzers=["fisher_information"])
    assert "loss" in report.findings[0].failed


def test_an_interrupt_returns_what_is_finished():
    class Impatient:
        name = "impatient"
        needs = frozenset({"activations"})
        readings = {}

        def __call__(self, evidence):
            yield gp.Finding("impatient", "2", {"one": gp.Estimate(1, exact=True)})
            raise KeyboardInterrupt

    report = quick(network(), analyzers=[Impatient(), "fisher_information"])
    assert [f.analyzer for f in report.findings] == ["impatient"]
    assert report.facts["interrupted"]
    assert report.partial


@pytest.mark.parametrize(
    "wrong", [dict(seed=-1), dict(samples=0), dict(n_train=0)], ids=lambda wrong: str([*wrong])
)
def test_numbers_out_of_range_are_refused_before_any_work(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        gp.audit(nn.Linear(4, 3), torch.zeros(8, 4), **wrong)


class Sleeper:
    """Takes a time in proportion to a power of the number of points, by a clock that it owns."""

    needs = frozenset({"activations"})
    readings = {}

    def __init__(self, name, power, unit, clock):
        self.name, self.power, self.unit, self.clock = name, power, unit, clock
        self.seen = []

    def __call__(self, evidence):
        (points,) = {len(cloud) for cloud in evidence.clouds.values()}
        self.seen.append(points)
        self.clock.now += self.unit * points**self.power
        yield gp.Finding(self.name, "model", {"points": gp.Estimate(points, exact=True)})


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr("geomprobe.auditing.planning.time", fake)
    monkeypatch.setattr("geomprobe.auditing.run.time", fake)
    return fake


def many(n=800):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 3


@pytest.mark.parametrize(("power", "points"), [(1, 800), (2, 800), (3, 800), (2, 400), (0, 800)])
def test_what_an_analyzer_takes_is_foretold_from_small_parts(clock, power, points):
    one = Sleeper("one", power, 2.0 / 800**power, clock)
    report = quick(network(), many(), analyzers=[one], points=points, budget_minutes=9)
    expected = 2.0 * (points / 800) ** power
    assert report.facts["estimated_seconds"]["one"] == pytest.approx(expected, rel=0.05)
    assert one.seen[-1] == points
    assert max(one.seen[:-1]) == points // 8


def test_a_budget_takes_what_fits_in_the_order_asked_for_and_says_what_it_left_out(clock):
    quadratic = [Sleeper(f"of_{s}_s", 2, s / 800**2, clock) for s in (20, 70, 30, 1)]
    report = quick(network(), many(), analyzers=quadratic, points=800, budget_minutes=1)
    reasons = {finding.analyzer: finding.failed for finding in report.findings}
    assert {name for name, reason in reasons.items() if reason is None} == {
        "of_20_s",
        "of_30_s",
        "of_1_s",
    }
    assert "left out: about 1.2 minutes are needed" in reasons["of_70_s"]
    assert "of the budget of 1 are left" in reasons["of_70_s"]
    assert report.partial
    assert clock.now < 60


def test_an_analyzer_that_takes_longer_than_foretold_costs_the_later_ones_their_turn(clock):
    class Liar(Sleeper):
        def __call__(self, evidence):
            yield from super().__call__(evidence)
            (points,) = {len(cloud) for cloud in evidence.clouds.values()}
            self.clock.now += 100.0 if points == 800 else 0.0

    analyzers = [Liar("liar", 1, 1e-3, clock), Sleeper("next", 1, 1e-3, clock)]
    report = quick(network(), many(), analyzers=analyzers, points=800, budget_minutes=1)
    assert [finding.failed is None for finding in report.findings] == [True, False]
    assert report.findings[1].failed == "left out: the 1 minutes of the budget were over"


def test_trials_leave_everything_as_it_was_and_their_failures_are_no_findings():
    class Picky(Sleeper):
        def __call__(self, evidence):
            torch.rand(3)
            if any(len(cloud) < 100 for cloud in evidence.clouds.values()):
                raise ValueError("too few")
            yield from super().__call__(evidence)

    stream = torch.random.get_rng_state()
    model = network().train()
    report = quick(
        model, many(200), analyzers=[Picky("picky", 1, 0, Clock())], points=200, budget_minutes=5
    )
    assert report.facts["estimated_seconds"] == {"picky": None}
    assert not report.partial
    assert torch.equal(stream, torch.random.get_rng_state())
    assert all(module.training for module in model.modules())


def test_a_budget_changes_no_number():
    """Trials are on parts of the evidence, of which nothing may stay: no Fisher Gram either."""
    names = ["fisher_information", "effective_dimension"]
    plain, budgeted = (
        quick(network(), many(200), analyzers=names, points=100, samples=32, budget_minutes=minutes)
        for minutes in (None, 50)
    )
    assert dict(budgeted.numbers()) == dict(plain.numbers())


def test_real_analyzers_fit_into_a_budget_and_the_plan_is_in_the_facts():
    report = quick(network(), many(200), points=100, samples=32, budget_minutes=5)
    assert not report.partial
    plan = report.facts["estimated_seconds"]
    assert set(plan) == {"persistent_homology", "fisher_information", "effective_dimension"}
    assert all(0 < seconds < 60 for seconds in plan.values())


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"n_train": "600"}, TypeError, "n_train must be a whole number such as 10, got '600'"),
        ({"samples": True}, TypeError, "samples must be a whole number"),
        ({"points": 20.0}, TypeError, "points must be a whole number such as 10, got 20.0"),
        ({"n_train": float("nan")}, TypeError, "n_train must be a whole number"),
        ({"n_train": np.int64(0)}, ValueError, "n_train must be at least 1, got 0"),
    ],
)
def test_what_is_no_whole_number_is_refused_in_words(wrong, error, said):
    with pytest.raises(error, match=said):
        quick(network(), **wrong)
    with pytest.raises(error, match=said):
        gp.Monitor(network(), X, **wrong)


@pytest.mark.filterwarnings("ignore::geomprobe.exceptions.FailedAnalysisWarning")
def test_weights_that_hold_nan_are_named_first_and_the_audit_goes_on():
    model = network()
    with torch.no_grad():
        model[3].weight[0, 1] = float("nan")
    said = "1 of 9 parameters and buffers hold NaN. They are: 3.weight."
    with pytest.warns(FailedAnalysisWarning, match=said):
        report = quick(model, analyzers="persistent_homology")
    first, *others = report.findings
    assert (first.analyzer, first.subject) == ("weights", "model")
    assert "take an earlier checkpoint" in first.failed
    assert [(one.subject, one.failed is None) for one in others] == [("2", True), ("3", False)]
    with pytest.raises(ValueError, match=said):
        quick(model, strict=True)
