"""What is refused, by name, and what is left as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe.tropical import linear_pieces, region_complex
from geomprobe.tropical.operations import AFFINE, BENDS
from geomprobe.tropical.recording import record
from geomprobe.tropical.tape import Still
from tests.tropical.networks import mixed


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def between(act):
    return nn.Sequential(nn.Linear(3, 4), act, nn.Linear(4, 2))


REFUSED = {
    "gelu": (nn.GELU(), r"module '1' \(GELU\) applies gelu, which is not piecewise linear"),
    "silu": (nn.SiLU(), r"\(SiLU\) applies silu"),
    "tanh": (nn.Tanh(), "applies tanh"),
    "softmax": (nn.Softmax(1), "applies _softmax"),
    "layer norm": (nn.LayerNorm(4), "applies native_layer_norm"),
    "hardswish": (nn.Hardswish(), "applies hardswish"),
    "hardshrink": (nn.Hardshrink(), "applies hardshrink"),
    "batch statistics": (
        nn.BatchNorm1d(4, track_running_stats=False),
        r"'1' \(BatchNorm1d\) normalizes by the statistics of its batch",
    ),
    "instance norm": (
        nn.Sequential(nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2), nn.Flatten()),
        "normalizes by the statistics of its batch",
    ),
    "dropout": (Function(lambda x: F.dropout(x, 0.5, training=True)), "draws random numbers"),
    "noise": (Function(lambda x: x + torch.randn(4)), "draws random numbers"),
    "jump": (Function(lambda x: F.threshold(x, 0.1, 20.0)), "applies threshold, which jumps"),
    "comparison": (Function(lambda x: x * (x > 0)), "applies gt, which"),
    "control flow": (Function(lambda x: x if x.sum() > 0 else -x), "applies gt, which"),
    "item": (Function(lambda x: x * float(x.sum())), "_local_scalar_dense"),
    "product": (Function(lambda x: x * x), "applies mul to arguments that depend on the input"),
    "attention": (Function(lambda x: x @ x.T @ x), "applies mm to arguments"),
    "moving bounds": (Function(lambda x: x.clamp(min=0 * x)), "bounds that depend on the input"),
    "rounding": (Function(lambda x: x.round()), "applies round"),
    "casting": (Function(lambda x: x.long().float()), "_to_copy, which jumps"),
    "writing": (
        Function(lambda x: torch.zeros(1, 4).index_copy_(0, torch.tensor([0]), x)),
        "writes what depends on the input into a tensor that does not",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    act, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as error:
        record(between(act), torch.randn(1, 3))
    assert "module '1" in str(error.value)


def test_refusal_of_smooth_networks_tells_what_applies():
    with pytest.raises(ValueError, match=r"representation_dimension.*take any network"):
        linear_pieces(between(nn.GELU()), torch.zeros(3), torch.ones(3))


def test_writing_to_a_view_of_what_is_still_used():
    def through_a_view(x):
        x = 2 * x
        x[:, :2].relu_()
        return x

    with pytest.raises(ValueError, match="changed in place through another view"):
        record(between(Function(through_a_view)), torch.randn(1, 3))


def test_python_that_looks_at_the_values_elsewhere():
    class Sneaky(nn.Module):
        def forward(self, x):
            return x if x.detach().numpy()[0, 0] < 0.5 else -x

    with pytest.raises(ValueError, match="does not do the same at every input"):
        linear_pieces(Sneaky(), torch.zeros(2), torch.ones(2))
    for box in (([-3.0, -3.0], [3.0, 3.0]), ([-np.inf] * 2, [np.inf] * 2)):
        with pytest.raises(ValueError, match="does not do the same at every input"):
            region_complex(Sneaky(), box)


def test_outputs():
    with pytest.raises(TypeError, match="outputs are a tuple"):
        record(Function(lambda x: (x, x)), torch.randn(1, 3))
    with pytest.raises(ValueError, match="does not depend on its input"):
        record(Function(torch.zeros_like), torch.randn(1, 3))
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module"):
        record(torch.relu, torch.randn(1, 3))


def test_the_model_is_left_as_it_was():
    model = mixed()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = copy.deepcopy(model.state_dict())
    stream = torch.get_rng_state()
    linear_pieces(model, torch.zeros(1, 4, 4), torch.ones(1, 4, 4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(stream, torch.get_rng_state())
    assert all(module.training for module in model.modules())
    assert model.head.weight.grad.eq(1).all()
    assert not any(module._forward_hooks for module in model.modules())


def test_names_are_those_of_modules_and_calls_are_numbered():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(3, 4), act, nn.Sequential(nn.Linear(4, 4), act))
    assert [kink.name for kink in record(model, torch.zeros(1, 3)).kinks] == ["1", "1#1"]


def test_the_tape_gives_the_outputs_of_the_model():
    model = mixed()
    x = torch.randn(6, 1, 4, 4)
    tape = record(model, x[:1])
    with torch.no_grad():
        expected = copy.deepcopy(model).eval().double()(x.double())
    torch.testing.assert_close(tape.run(Still(), x[:, None].double()), expected)


def test_no_operation_is_both_affine_and_bent():
    assert not set(AFFINE) & set(BENDS)
