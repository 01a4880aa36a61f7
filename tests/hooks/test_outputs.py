from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from geomprobe.hooks import Unobservable, output_tensor
from geomprobe.hooks.outputs import arguments, part_of


@dataclass
class Output:
    ids: torch.Tensor
    hidden: torch.Tensor


X = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "output",
    [
        X,
        (X, X + 1),
        [torch.tensor([1, 2]), X],
        {"a": None, "h": {"x": X}},
        Output(X.long(), X),
        {"a": Output(X.long(), Output(None, X)), "b": X + 1},
        (Output(None, OrderedDict(h=X)), X + 1),
    ],
)
def test_the_first_floating_tensor_is_found_in_any_structure(output):
    assert output_tensor(output) is X


def test_a_packed_sequence_is_found_whole():
    packed = pack_sequence([X[0], X[1]])
    assert output_tensor((packed, (X, X))) is packed


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (torch.tensor([1, 2]), "only int64"),
        ((torch.tensor(True), torch.tensor([1], dtype=torch.int8)), "only bool, int8"),
        ("text", "no tensor in an output of type str"),
        (torch.tensor(1.0), "only float32"),
        (X.to_sparse(), "no dense"),
    ],
)
def test_what_cannot_be_observed_says_why(output, reason):
    with pytest.raises(Unobservable, match=reason):
        output_tensor(output)


class Hidden:
    def __init__(self):
        self.state = X


@pytest.mark.parametrize(
    ("value", "port"),
    [
        (X, ""),
        ((X + 1, X), "#out.1"),
        ({"a": {"b": X}}, "#out.a.b"),
        ({"a": X + 1, "b": X}, "#out.1"),
        (Output(X.long(), X), "#out.hidden"),
        (Output(X.long(), X), "#out.1"),
        (Hidden(), "#out.state"),
        ({"x": X}, "#in.x"),
    ],
)
def test_a_port_names_one_part(value, port):
    assert part_of(value, port) is X


@pytest.mark.parametrize(
    ("value", "port", "reason"),
    [
        ({"a": X}, "#out.b", r"no part 'b' in a dict; it has \['a'\]"),
        ((X, X), "#out.2", r"no part '2' in a tuple; it has \[0, 1\]"),
        (Output(X, X), "#out.logits", r"no part 'logits' in a Output; it has \['ids', 'hidden'\]"),
        ({"a": (X,)}, "#out.a.first", "no part 'first' in a tuple"),
    ],
)
def test_a_part_that_is_not_there_is_named_with_those_that_are(value, port, reason):
    with pytest.raises(Unobservable, match=reason):
        part_of(value, port)


def test_arguments_have_the_names_of_the_forward_however_they_are_passed():
    class Named(nn.Module):
        def forward(self, x, y=None, *rest, scale=1, **more):
            return x

    assert arguments(Named(), (1, 2, 3), {"scale": 4, "other": 5}) == {
        "x": 1,
        "y": 2,
        "2": 3,
        "scale": 4,
        "other": 5,
    }
    assert arguments(Named(), (), {"y": 2, "x": 1}) == {"x": 1, "y": 2}
    assert arguments(nn.Identity(), (7,), {"wrong": 8}) == {"0": 7, "wrong": 8}
