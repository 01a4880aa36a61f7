import random

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe.hooks import quiet


class Rough(nn.Module):
    """Touches everything a forward could touch, in evaluation mode too."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.frozen_norm = nn.BatchNorm1d(3).eval()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        random.random()
        np.random.rand()
        return self.frozen_norm(self.norm(x)) + torch.rand(3)

    def train(self, mode=True):
        raise AssertionError("train() of the user's model must not be called")


def state_of(model):
    return (
        [m.training for m in model.modules()],
        [b.clone() for b in model.buffers()],
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.random.get_rng_state(),
    )


def assert_equal_states(a, b):
    assert a[0] == b[0]
    assert all(torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True))
    assert a[2:4] == b[2:4]
    assert torch.equal(a[4], b[4])


def test_every_trace_is_undone():
    model = Rough()
    before = state_of(model)
    with quiet(model) as visited:
        assert visited is model
        assert not any(m.training for m in model.modules())
        model(torch.randn(5, 3))
        assert model.calls == 1
    assert_equal_states(before, state_of(model))


def test_every_trace_is_undone_after_an_exception():
    model = Rough()
    before = state_of(model)
    with pytest.raises(RuntimeError, match="boom"), quiet(model):
        model(torch.randn(5, 3))
        raise RuntimeError("boom")
    assert_equal_states(before, state_of(model))


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    with quiet(nn.Linear(2, 2)):
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before


def test_unchanged_buffers_are_not_written_so_that_a_waiting_backward_still_works():
    model = nn.Sequential(nn.BatchNorm1d(3).eval())
    loss = model(torch.randn(5, 3, requires_grad=True)).sum()
    versions = [b._version for b in model.buffers()]
    with quiet(model):
        model(torch.randn(5, 3))
    assert [b._version for b in model.buffers()] == versions
    loss.backward()


class Rebinds(nn.Module):
    """Binds a buffer, a counter and a new attribute anew at every pass."""

    def __init__(self):
        super().__init__()
        self.register_buffer("average", torch.zeros(3))
        self.passes = 0

    def forward(self, x):
        self.average = 0.9 * self.average + 0.1 * x.mean(dim=0)
        self.passes += 1
        self.cache = x
        return x


def test_what_a_forward_binds_anew_is_put_back():
    model = nn.Sequential(Rebinds())
    model(torch.ones(2, 3))
    before, passes = model[0].average, model[0].passes
    cache = model[0].cache
    with quiet(model):
        model(torch.randn(4, 3))
    assert model[0].average is before
    assert model[0].passes == passes
    assert model[0].cache is cache
    del model[0].cache
    with quiet(model):
        model(torch.randn(4, 3))
    assert not hasattr(model[0], "cache")
