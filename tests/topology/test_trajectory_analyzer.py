from dataclasses import replace

import numpy as np
import pytest

import geomprobe as gp
from geomprobe.exceptions import FailedAnalysisWarning
from geomprobe.topology import loss_pseudometric, ph_dimension
from geomprobe.topology.analyzers import TrajectoryTopology


def examine(path, *, meta=None, n_train=None, sample_losses=None, correct=None, **options):
    path = np.asarray(path, dtype=np.float64)
    losses = np.full(len(path), np.nan)
    trajectory = gp.Trajectory(
        path, np.arange(len(path)), losses, meta or {}, sample_losses, correct
    )
    evidence = gp.Evidence(trajectory=trajectory, n_train=n_train)
    (finding,) = gp.analyze(evidence, TrajectoryTopology(**options))
    return finding


def test_a_straight_path_is_its_own_tree():
    steps = np.random.default_rng(0).uniform(0.5, 1.5, 199)
    position = np.concatenate([[0], np.cumsum(steps)])
    finding = examine(position[:, None] * [[3.0, 4.0]], n_train=100)
    scalars = {name: estimate.value for name, estimate in finding.scalars.items()}
    assert scalars["path_length"] == pytest.approx(5 * steps.sum())
    assert scalars["e_alpha"] == pytest.approx(5 * steps.sum())
    assert scalars["tree_to_path"] == pytest.approx(1)
    assert scalars["tree_to_diameter"] == pytest.approx(1)
    assert scalars["ph_dimension"] == pytest.approx(1, abs=0.1)
    # On a line: 1 + sum of tanh(gap/2) (Leinster and Willerton 2013).
    assert scalars["positive_magnitude"] == pytest.approx(1 + np.tanh(10 * 5 * steps / 2).sum())
    assert set(finding.scalars) <= set(TrajectoryTopology.readings)


def test_a_path_that_comes_back_has_a_shorter_tree():
    angles = np.linspace(0, 6 * np.pi, 301)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    scalars = examine(circle).scalars
    assert scalars["tree_to_path"].value == pytest.approx(1 / 3, abs=0.02)
    assert "positive_magnitude" not in scalars


def test_shape_is_told_from_speed():
    path = np.cumsum(np.random.default_rng(0).normal(size=(300, 20)), axis=0)
    slow, fast = examine(path).scalars, examine(100 * path).scalars
    for name in ("ph_dimension", "tree_to_path", "tree_to_diameter", "unit_magnitude"):
        assert fast[name].value == pytest.approx(slow[name].value, rel=1e-6)
    assert fast["e_alpha"].value == pytest.approx(100 * slow["e_alpha"].value)


def test_all_numbers_under_each_distance_of_iterates():
    # Sample j is learned at step 3j: the loss falls from 1 to 0, and the answer turns right.
    learned = np.arange(120)[:, None] >= 3 * np.arange(1, 39)
    path = np.cumsum(np.random.default_rng(0).normal(size=(120, 3)), axis=0)
    finding = examine(path, n_train=100, sample_losses=1.0 - learned, correct=learned)
    scalars = finding.scalars
    plain = {"ph_dimension", "e_alpha", "path_length", "tree_to_path", "tree_to_diameter"}
    plain |= {"positive_magnitude", "unit_magnitude"}
    assert set(scalars) == {
        f"{space}{one}" for space in ("", "loss_", "zero_one_") for one in plain
    }
    assert set(scalars) <= set(TrajectoryTopology.readings)
    for space in ("loss_", "zero_one_"):
        # Both are a walk of 38 equal steps of 1/38 along a line.
        value = {name: scalars[space + name].value for name in plain}
        assert value["path_length"] == pytest.approx(1)
        assert value["e_alpha"] == pytest.approx(1)
        assert value["tree_to_diameter"] == pytest.approx(1)
        # 1 + sum of tanh(gap/2) (Leinster and Willerton 2013).
        assert value["positive_magnitude"] == pytest.approx(1 + 38 * np.tanh(10 / 38 / 2))
        assert value["unit_magnitude"] == pytest.approx(1 + 38 * np.tanh(1 / 38 / 2))
        error = scalars[f"{space}path_length"]
        assert not error.exact
        assert error.stderr == pytest.approx(0, abs=1e-12)  # Each half of them says the same.
        assert error.note == "by 38 samples"
    # They are those of the functions.
    expected = ph_dimension(loss_pseudometric(1.0 - learned), metric="precomputed").estimate
    assert scalars["loss_ph_dimension"] == replace(expected, note="by 38 samples")


def test_the_error_by_samples_is_that_of_drawing_them():
    # Losses that grow steadily: the length is 49 times the mean speed, with the error of a mean.
    speeds = np.random.default_rng(0).gamma(1.0, size=200)
    path = np.arange(50.0)[:, None]
    found = examine(path, sample_losses=path * speeds).scalars["loss_path_length"]
    assert found.value == pytest.approx(49 * speeds.mean())
    assert found.stderr == pytest.approx(49 * speeds.std() / np.sqrt(200), rel=0.4)


def test_distances_that_were_not_recorded_are_named():
    path = np.cumsum(np.random.default_rng(0).normal(size=(60, 3)), axis=0)
    notes = " ".join(examine(path).notes)
    assert "No loss-based distances: the losses of samples were not recorded" in notes
    assert "No 0-1 distances: it was not recorded which samples are classified rightly" in notes
    finding = examine(path, correct=np.ones((60, 9), bool))
    assert "No 0-1 numbers: all iterates do the same to the samples." in finding.notes
    losses = np.abs(path)
    losses[7] = np.nan
    losses[9, 2] = np.inf
    finding = examine(path, sample_losses=losses)
    notes = " ".join(finding.notes)
    assert "leave out 1 iterates without a finite loss, and 1 of 3 samples" in notes
    assert finding.scalars["e_alpha"] == examine(path).scalars["e_alpha"]
    expected = np.abs(np.diff(np.delete(losses, 7, axis=0)[:, :2], axis=0)).mean(axis=1).sum()
    assert finding.scalars["loss_path_length"].value == pytest.approx(expected)
    nothing = examine(path, sample_losses=np.where(np.eye(60, 3) > 0, np.nan, losses + np.nan))
    assert "No loss-based numbers: too few losses are finite." in nothing.notes


def test_what_was_left_out_is_said():
    path = np.cumsum(np.random.default_rng(0).normal(size=(120, 3)), axis=0)
    path[100] = np.nan
    finding = examine(path, points=80, meta={"stride": 5, "projection": 3})
    notes = " ".join(finding.notes)
    assert "The last 80 of 120" in notes
    assert "1 iterates that are not finite" in notes
    assert "Every 5th iterate" in notes
    assert finding.scalars["path_length"].note == "of the projected path"


@pytest.mark.parametrize(
    ("path", "reason"),
    [(np.zeros((50, 3)), "no iterate has moved"), (np.eye(12), "12 finite iterates are too few")],
)
def test_paths_without_a_shape_fail_with_the_reason(path, reason):
    with pytest.warns(FailedAnalysisWarning, match=reason):
        finding = examine(path)
    assert reason in finding.failed


def test_bad_parameters_are_refused():
    with pytest.raises(ValueError, match="points must be at least 40"):
        TrajectoryTopology(points=10)
    with pytest.raises(ValueError, match="alpha must be positive"):
        TrajectoryTopology(alpha=-1)
