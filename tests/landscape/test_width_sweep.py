"""Random features, whose Jacobian is the matrix of features and has the rank of its shape."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe import Samples
from geomprobe.landscape import width_sweep

N = 12
GENERATOR = torch.Generator().manual_seed(0)
TRAIN, TEST = (
    Samples(
        torch.randn(n, 3, generator=GENERATOR, dtype=torch.float64),
        torch.randn(n, 1, generator=GENERATOR, dtype=torch.float64),
    )
    for n in (N, 30)
)


def build(width):
    model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1, bias=False)).double()
    model[0].requires_grad_(False)
    return model


def features(model):
    return model[1](model[0](TRAIN.inputs)).detach()


def solve(model, data):
    """Least squares."""
    found = torch.linalg.lstsq(features(model), data.targets).solution
    model[2].weight.data = found.T.contiguous()


def test_random_features_fit_where_there_are_as_many_as_samples():
    found = width_sweep(build, (4, 8, 16, 32), TRAIN, TEST, F.mse_loss, solve, seeds=(0, 1, 2))
    assert found.n_outputs == N
    np.testing.assert_array_equal(found.n_parameters, found.widths)
    np.testing.assert_array_equal(found.ranks, np.minimum(found.widths, N)[:, None] + [0, 0, 0])
    assert (found.train[2:] < 1e-12).all()
    assert (found.train[:2] > 1e-6).all()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        phi = features(build(16))
    smallest = float(torch.linalg.eigvalsh(phi @ phi.T)[0])
    assert found.ntk_smallest[2, 1] == pytest.approx(smallest, rel=1e-6)
    assert (found.ntk_smallest[:2] == 0).all()
    assert found.barriers.shape == (4, 2)
    assert (found.barriers >= 0).all()
    threshold = found.threshold
    assert threshold.value == 12
    assert threshold.stderr == pytest.approx(8 / 12**0.5)
    assert len(found.plot()) == 3


def test_a_threshold_outside_the_widths_is_told():
    narrow = width_sweep(build, (4, 8), TRAIN, TEST, F.mse_loss, solve, seeds=(0,))
    assert "widest network does not" in narrow.threshold.note
    wide = width_sweep(build, (16,), TRAIN, TEST, F.mse_loss, solve, seeds=(0,))
    assert "narrowest network is above" in wide.threshold.note


def test_widths_must_rise():
    with pytest.raises(ValueError, match="rising order"):
        width_sweep(build, (8, 4), TRAIN, TEST, F.mse_loss, solve)


class Masked(nn.Module):
    """A buffer that cannot be aligned."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("mask", torch.full((1,), -torch.inf))

    def forward(self, x):
        return self.inner(x)


def test_a_barrier_is_nan_where_aligning_failed():
    def fit(model, data):
        solve(model.inner, data)

    found = width_sweep(lambda w: Masked(build(w)), (4, 8), TRAIN, TEST, F.mse_loss, fit)
    assert np.isnan(found.barriers).all()
    assert "width 8, seed 1 was not aligned: 'mask' of a is not finite" in found.notes
