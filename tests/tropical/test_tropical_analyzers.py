"""The analyzers of regions around data, alone, in audits and in monitors."""

import copy
import pickle
import re

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe import Evidence, Samples
from geomprobe.auditing.html import render
from geomprobe.auditing.region_figures import wall_distances
from geomprobe.evidence import Earlier
from geomprobe.tropical import (
    RegionCrossings,
    RegionDensity,
    activation_patterns,
    boundary_distance,
    local_complexity,
    region_crossings,
)


def small(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(4, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3)
        )


X = torch.randn(40, 4, generator=torch.Generator().manual_seed(5))
Y = torch.arange(40) % 3


def evidence(**options):
    return Evidence(**{"model": small(), "data": Samples(X, Y), "seed": 3, **options})


def test_density_is_that_of_the_functions():
    given = evidence()
    model, data = given.model, given.data
    whole, *layers = RegionDensity()(given)
    patterns = activation_patterns(model, data)
    near, walls = local_complexity(model, data, seed=3), boundary_distance(model, data)
    assert whole.scalars == {
        "local_complexity": near.total,
        "pattern_entropy": patterns.entropy(),
        "distinct_patterns": gp.Estimate(patterns.n_patterns, n=40, exact=True),
        "unit_entropy": patterns.unit_entropy(),
        "dead_units": patterns.dead_units,
        "boundary_distance": walls.median(),
        "certified_radius": walls.median("certified"),
    }
    assert set(whole.scalars) == set(RegionDensity.readings)
    np.testing.assert_array_equal(whole.arrays["certified_radii"], np.sort(walls.certified))
    assert [one.subject for one in layers] == ["1", "4"]
    assert [one.scalars["local_complexity"] for one in layers] == [*near.by_bend().values()]
    assert "radius" in whole.notes[-1]


def test_crossings_are_those_since_the_state_before():
    before, after = small(1), small(2)
    given = evidence(model=after, earlier=Earlier(before.state_dict(), 10), step=30)
    found = region_crossings(before, after, given.data)
    whole, *layers = RegionCrossings()(given)
    assert whole.scalars["units_changed"] == found.crossings
    assert whole.scalars["inputs_moved"] == found.moved
    assert whole.scalars["changed_per_step"].value == found.crossings.value / 20
    assert set(whole.scalars) == set(RegionCrossings.readings)
    assert [one.scalars["share_changed"] for one in layers] == [*found.by_bend().values()]
    by_reference = RegionCrossings(reference=before)
    assert RegionCrossings().looks_back
    assert not by_reference.looks_back
    (whole, *_) = by_reference(evidence(model=after))
    assert whole.scalars["units_changed"] == found.crossings
    assert "changed_per_step" not in whole.scalars


def test_without_an_earlier_state_there_is_nothing_to_compare_with():
    (finding,) = RegionCrossings()(evidence())
    assert "give reference=" in finding.failed


@pytest.mark.parametrize("analyzer", [RegionDensity, RegionCrossings])
def test_more_samples_are_thinned(analyzer):
    options = {"max_samples": 10}
    if analyzer is RegionCrossings:
        options["reference"] = small(1)
    whole, *_ = analyzer(**options)(evidence())
    assert "A uniform sample of 10 of 40 inputs." in whole.notes
    assert {one.n for one in whole.scalars.values()} == {10}


def test_an_audit_runs_them_if_asked():
    analyzers = [RegionDensity(), RegionCrossings(reference=small(1))]
    report = gp.audit(small(), (X, Y), analyzers=analyzers, progress=False)
    assert [one.failed for one in report.findings] == [None] * 6
    page = render(report)
    assert "Distance from the walls" in page
    assert "certified" in page
    for name in ("region_density", "region_crossings"):
        assert name in gp.registered_analyzers()
        assert not gp.load_analyzer(name).by_default


def test_the_figure_of_distances_leaves_out_what_has_no_logarithm():
    def figure(*values):
        arrays = dict.fromkeys(("boundary_distances", "certified_radii"), np.array(values))
        return wall_distances(gp.Finding("a", "model", arrays=arrays))

    assert figure(np.inf, np.inf) == figure(0.0) == wall_distances(gp.Finding("a", "model")) == ()
    (found,) = figure(0.0, 0.5, 2.0, np.inf)
    assert found.caption.startswith("Of 4 inputs: distance from the nearest wall")
    assert found.caption.count("median 1.250") == 2
    part = {"boundary_distances": np.array([0.5, 2.0])}
    assert "proved" not in wall_distances(gp.Finding("a", "model", arrays=part))[0].caption


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh()), r"applies tanh.*effective_degree.*any network"),
        (nn.Linear(4, 3), "nothing in the model bends"),
    ],
)
def test_a_model_without_regions_is_told_the_reason(model, reason):
    analyzers = [RegionDensity(), RegionCrossings(reference=model)]
    for analyzer in analyzers:
        (finding,) = gp.analyze(evidence(model=model), analyzer, strict=True)
        assert set(finding.scalars) == set(analyzer.readings)
        for one in finding.scalars.values():
            assert np.isnan(one.value)
            assert re.search(reason, one.note)


def trained(monitor, model, steps, optimizer):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
        monitor.step()


def watched(model, **options):
    return gp.Monitor(
        model,
        (X, Y),
        every="2 steps",
        budget=None,
        analyzers=[RegionCrossings(), RegionDensity(wall_directions=2)],
        **options,
    )


def test_a_monitor_follows_the_training_through_the_complex():
    model, states = small(), [copy.deepcopy(small())]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with watched(model, workers=0) as monitor:
        for _ in range(2):
            trained(monitor, model, 2, optimizer)
            states.append(copy.deepcopy(model))
    records = monitor.history
    assert [record.step for record in records] == [2, 4]
    for record, before, after in zip(records, states, states[1:], strict=False):
        assert not any(finding.failed for finding in record.findings)
        crossings = record.findings[0].scalars
        found = region_crossings(before, after, Samples(X))
        assert crossings["units_changed"] == found.crossings
        assert crossings["changed_per_step"].value == found.crossings.value / 2
        names = {finding.analyzer for finding in record.findings}
        assert names == {"region_crossings", "region_density"}


def test_a_worker_gets_all_that_is_needed():
    given = evidence(earlier=Earlier(small(1).state_dict(), 1), step=2)
    analyzers = [RegionCrossings(), RegionCrossings(reference=small(1))]
    sent, received = pickle.loads(cloudpickle.dumps((given, analyzers)))
    for analyzer, own in zip(received, analyzers, strict=True):
        assert [one.scalars for one in analyzer(sent)] == [one.scalars for one in own(given)]


def test_a_resumed_monitor_goes_on_from_the_state_before():
    def run(interrupted):
        torch.manual_seed(0)
        model = small()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        monitor = watched(model, workers=0)
        trained(monitor, model, 3, optimizer)
        if interrupted:
            state = monitor.state_dict()
            monitor = watched(model, workers=0)
            monitor.load_state_dict(state)
        trained(monitor, model, 1, optimizer)
        return [finding.scalars for finding in monitor.history[-1].findings]

    assert run(True) == run(False)


def test_only_who_looks_back_has_the_model_copied():
    monitor = gp.Monitor(small(), (X, Y), analyzers=RegionCrossings(reference=small()))
    assert monitor.state_dict()["earlier"] is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RegionDensity(directions=0), "directions must be at least 1"),
        (lambda: RegionDensity(radius=-1.0), "radius must be positive"),
        (lambda: RegionCrossings(max_samples=0), "max_samples must be at least 1"),
    ],
)
def test_bad_parameters_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
