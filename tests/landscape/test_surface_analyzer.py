"""The analyzer of loss slices, alone, in an audit and in a monitor."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import geomprobe as gp
from geomprobe import Evidence, Samples
from geomprobe.auditing.html import render
from geomprobe.auditing.slice_figures import loss_contours
from geomprobe.landscape import (
    LossSurface,
    basin_width,
    loss_slice,
    trajectory_plane,
)

X = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(30) % 3
SMALL = LossSurface(points=5, lines=3, extent=3.0)


def trained(dim=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    recorder = gp.TrajectoryRecorder(model, dim=dim)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for step in range(30):
        recorder.record(step)
        optimizer.zero_grad()
        functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return model, recorder.trajectory


def evidence(dim=None, **options):
    model, trajectory = trained(dim)
    given = {"model": model, "data": Samples(X, Y), "loss": functional.cross_entropy, "seed": 4}
    return Evidence(**{**given, "trajectory": trajectory, **options})


def test_findings_are_those_of_the_functions():
    given = evidence()
    around, along = SMALL(given)
    slice_ = loss_slice(given.model, given.data, given.loss, extent=3.0, points=5, seed=4)
    assert around.scalars["loss"] == slice_.centre
    width = basin_width(given.model, given.data, given.loss, lines=3, extent=3.0, seed=4)
    assert around.scalars["doubling_width"] == width
    assert width.value > 0
    np.testing.assert_array_equal(around.arrays["slice_values"], slice_.values)
    lower = slice_.values - slice_.centre.value < -2 * slice_.stderr
    assert around.scalars["lower_share"].value == lower.mean()
    plane = trajectory_plane(given.trajectory)
    assert along.scalars["explained_variance"] == plane.explained
    assert along.scalars["random_walk_variance"] == plane.random_walk
    assert along.arrays["slice_path"].shape == along.arrays["slice_random_walk"].shape == (30, 2)
    assert {*around.scalars, *along.scalars} == set(LossSurface.readings)


def test_a_projected_trajectory_is_told_of():
    (around,) = SMALL(evidence(dim=8))
    assert "No plane of the trajectory: the trajectory is projected" in around.notes[-1]


def test_without_a_loss_it_fails_and_more_samples_are_thinned():
    (failed,) = SMALL(evidence(loss=None))
    assert "pass loss=" in failed.failed
    thin = LossSurface(points=3, lines=1, max_samples=10)
    around, _ = thin(evidence())
    assert around.notes[0] == "A uniform sample of 10 of 30 inputs."
    assert around.scalars["loss"].n == 10


def test_an_audit_draws_contours_if_asked_and_findings_survive_saving(tmp_path):
    model, _ = trained()
    loss = functional.cross_entropy
    report = gp.audit(model, (X, Y), loss=loss, analyzers=[SMALL], progress=False)
    (finding,) = report.findings
    assert finding.failed is None
    assert "Loss over a plane" in render(report)
    finding.save(tmp_path / "finding.json")
    assert gp.Finding.load(tmp_path / "finding.json") == finding
    assert not gp.load_analyzer("loss_slice").by_default


def test_a_monitor_that_records_every_parameter_shows_the_plane_of_the_path():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    few = LossSurface(points=3, lines=1)
    options = {"loss": functional.cross_entropy, "trajectory": 18, "workers": 0}
    with gp.Monitor(model, (X, Y), analyzers=[few], every="10 steps", **options) as monitor:
        for _ in range(10):
            optimizer.zero_grad()
            functional.cross_entropy(model(X), Y).backward()
            optimizer.step()
            monitor.step()
    metrics = set(monitor.history.to_frame()["metric"])
    assert "geom/loss_slice/model/explained_variance" in metrics


def test_contours_of_a_paraboloid_are_circles():
    x = np.linspace(-1, 1, 41)
    values = x[:, None] ** 2 + x**2
    arrays = {"slice_x": x, "slice_y": x, "slice_values": values}
    (figure,) = loss_contours(gp.Finding("a", "model", arrays=arrays))
    assert "Loss from 0 to 2" in figure.caption
    assert figure.svg.count('class="curve"') >= 10
    assert "random walk" not in figure.caption
    path = {"slice_path": np.zeros((3, 2)), "slice_random_walk": np.ones((3, 2))}
    (with_path,) = loss_contours(gp.Finding("a", "model", arrays=arrays | path))
    assert "Lissajous" in with_path.caption


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"slice_x": np.arange(3.0), "slice_y": np.arange(3.0), "slice_values": np.zeros((3, 2))},
        {
            "slice_x": np.arange(2.0),
            "slice_y": np.arange(2.0),
            "slice_values": np.full((2, 2), np.nan),
        },
    ],
)
def test_what_is_no_slice_is_not_drawn(arrays):
    assert loss_contours(gp.Finding("a", "model", arrays=arrays)) == ()


def test_a_flat_slice_is_drawn():
    flat = {"slice_x": np.arange(3.0), "slice_y": np.arange(3.0), "slice_values": np.ones((3, 3))}
    assert len(loss_contours(gp.Finding("a", "model", arrays=flat))) == 1


@pytest.mark.parametrize(
    "options", [{"points": 1}, {"lines": 0}, {"max_samples": 1}, {"extent": 0.0}]
)
def test_bad_parameters(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LossSurface(**options)
