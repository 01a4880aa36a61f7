import math

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe.sampling import SparseProjection, TrajectoryRecorder


def walk(recorder, model, steps):
    """Move every parameter by 1 at each step."""
    for step in range(steps):
        recorder.record(step, loss=float(step))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1.0)


def test_the_exact_path_of_a_straight_walk():
    model = nn.Linear(3, 2)
    start = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()
    recorder = TrajectoryRecorder(model)
    walk(recorder, model, 5)
    trajectory = recorder.trajectory
    assert np.allclose(trajectory.points, start + np.arange(5)[:, None], atol=1e-5)
    assert trajectory.steps.tolist() == [0, 1, 2, 3, 4]
    assert trajectory.losses.tolist() == [0, 1, 2, 3, 4]
    # Every step moves 8 coordinates by 1: its length is sqrt(8).
    assert np.allclose(trajectory.meta["arc_length"], np.arange(5) * math.sqrt(8), rtol=1e-6)


def test_projection_is_that_of_the_flat_parameters_and_arc_length_is_not_projected():
    model = nn.Linear(30, 20)
    recorder = TrajectoryRecorder(model, dim=16, seed=4)
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])[None]
    walk(recorder, model, 2)
    expected = SparseProjection(620, 16, seed=4, nonzeros=1)(flat)
    assert np.allclose(recorder.trajectory.points[0], expected, atol=1e-6)
    assert recorder.trajectory.meta["arc_length"][1] == pytest.approx(math.sqrt(620))


def test_memory_is_bounded_and_the_record_spans_the_run():
    model = nn.Linear(1, 1)
    recorder = TrajectoryRecorder(model, points=10)
    walk(recorder, model, 1000)
    steps = recorder.trajectory.steps
    assert len(steps) <= 10
    assert steps[0] == 0
    assert steps[-1] >= 872
    assert len(set(np.diff(steps))) == 1


def test_frozen_parameters_are_left_out_and_none_is_refused():
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    recorder = TrajectoryRecorder(model)
    recorder.record(0)
    assert recorder.trajectory.points.shape == (1, 6)
    assert math.isnan(recorder.trajectory.losses[0])
    model.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameters"):
        TrajectoryRecorder(model)


def test_nothing_recorded_is_no_trajectory():
    assert TrajectoryRecorder(nn.Linear(1, 1)).trajectory is None
