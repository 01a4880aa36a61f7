"""The principal plane of a path, and of a random walk in closed form."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from geomprobe import Samples, Trajectory, TrajectoryRecorder
from geomprobe.landscape import loss_slice, trajectory_plane
from geomprobe.random_walk import walk_variances


def trajectory(points, **meta):
    count = len(points)
    return Trajectory(points, np.arange(count), np.full(count, np.nan), meta)


def test_a_random_walk_has_the_shares_and_the_path_of_its_null():
    """In d dimensions a share spreads by about the root of 2/d."""
    walk = np.random.default_rng(0).normal(size=(40, 20_000)).cumsum(axis=0)
    plane = trajectory_plane(trajectory(walk))
    assert plane.explained.value == pytest.approx(plane.random_walk.value, abs=0.01)
    assert plane.random_walk.value == pytest.approx(walk_variances(40)[:2].sum())
    spread = np.abs(plane.scores).max(axis=0)
    assert (np.abs(plane.scores - plane.lissajous).max(axis=0) < 0.05 * spread).all()
    np.testing.assert_allclose(plane.shares[:5], walk_variances(40)[:5], atol=0.01)


def test_components_are_those_of_an_svd():
    points = np.random.default_rng(1).normal(size=(9, 5)).cumsum(axis=0)
    plane = trajectory_plane(trajectory(points))
    left, sizes, right = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(plane.shares[:5], sizes**2 / (sizes**2).sum())
    np.testing.assert_allclose(np.abs(np.diagonal(right[:2] @ plane.directions)), 1.0)
    np.testing.assert_allclose(np.abs(left[:, :2] * sizes[:2]), np.abs(plane.scores))
    assert (plane.scores[-1] >= 0).all()
    assert plane.explained.exact


def test_a_path_in_a_plane_is_drawn_as_it_is():
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    own = nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(15, 2)))[0]
    within = rng.normal(size=(12, 2)).cumsum(axis=0)
    points = own + (within - within[-1]) @ basis.T
    plane = trajectory_plane(trajectory(points))
    assert plane.explained.value == pytest.approx(1.0)
    data = Samples(torch.randn(30, 4).double(), torch.arange(30) % 3)
    found = loss_slice(model, data, functional.cross_entropy, plane, points=3)
    np.testing.assert_allclose(found.path @ plane.directions.T, points - own, atol=1e-12)
    np.testing.assert_allclose(found.path[-1], 0, atol=1e-12)
    for axis, steps in enumerate(found.coordinates):
        assert steps[0] < found.path[:, axis].min()
        assert steps[-1] > found.path[:, axis].max()
    assert found.labels[0].startswith("principal component 1 (")
    np.testing.assert_allclose(found.norms, 1.0)
    # The loss at a point of the path is that of the slice there.
    (low, high) = found.path[4]
    at = loss_slice(
        model, data, functional.cross_entropy, plane, extent=[(low, low + 1), (high, high + 1)],
        points=2,
    )  # fmt: skip
    nn.utils.vector_to_parameters(torch.from_numpy(points[4]), model.parameters())
    loss = functional.cross_entropy(model(data.inputs), data.targets)
    assert at.values[0, 0] == pytest.approx(loss.item())


def test_what_has_no_plane_is_refused_with_the_reason():
    model = nn.Linear(40, 10)
    recorder = TrajectoryRecorder(model, dim=16)
    for step in range(5):
        with torch.no_grad():
            model.weight += torch.randn_like(model.weight)
        recorder.record(step)
    with pytest.raises(ValueError, match=r"projected to 16 dimensions.*dim=None"):
        trajectory_plane(recorder.trajectory)
    line = np.arange(5.0)[:, None] * np.ones(3)
    with pytest.raises(ValueError, match="does not leave a line"):
        trajectory_plane(trajectory(line))
    with pytest.raises(ValueError, match="got 2 in 3"):
        trajectory_plane(trajectory(line[:2]))
    line[1, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 5 points hold NaN"):
        trajectory_plane(trajectory(line))
    other = trajectory_plane(trajectory(np.random.default_rng(0).normal(size=(5, 3))))
    data = Samples(torch.randn(5, 40), torch.arange(5))
    with pytest.raises(ValueError, match="410 trainable parameters"):
        loss_slice(model, data, functional.cross_entropy, other)
