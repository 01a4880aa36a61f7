from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from geomprobe.hooks import Unobservable, output_rows, output_tensor


@dataclass
class Output:
    ids: torch.Tensor
    hidden: torch.Tensor


X = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "output",
    [X, (X, X + 1), [torch.tensor([1, 2]), X], {"a": None, "h": {"x": X}}, Output(X.long(), X)],
)
def test_the_first_floating_tensor_is_found_in_any_structure(output):
    assert output_tensor(output) is X


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (torch.tensor([1, 2]), "only int64"),
        ((torch.tensor(True), torch.tensor([1], dtype=torch.int8)), "only bool, int8"),
        ("text", "no tensor in an output of type str"),
        (torch.tensor(1.0), "only float32"),
        (X.to_sparse(), "no dense"),
        (pack_sequence([X[0], X[1]]), "PackedSequence"),
    ],
)
def test_what_cannot_be_observed_says_why(output, reason):
    with pytest.raises(Unobservable, match=reason):
        output_tensor(output)


def test_pools_of_a_convolution_put_channels_second():
    maps = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    conv = nn.Conv2d(3, 3, 1)
    flat, positions = output_rows(maps, conv, "flatten", 2)
    assert flat.shape == (2, 60)
    assert positions == 1
    mean, _ = output_rows(maps, conv, "mean", 2)
    assert torch.equal(mean, maps.mean(dim=(2, 3)))
    rows, positions = output_rows(maps, conv, "positions", 2)
    assert positions == 20
    assert torch.equal(rows[7], maps[0, :, 1, 2])
    last = output_rows(maps.to(memory_format=torch.channels_last), conv, "flatten", 2)[0]
    assert torch.equal(last, flat)


def test_sequences_have_channels_last_and_conv1d_second():
    tokens = torch.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    assert torch.equal(output_rows(tokens, nn.LayerNorm(4), "mean", 2)[0], tokens.mean(dim=1))
    assert torch.equal(output_rows(tokens, nn.Conv1d(3, 3, 1), "mean", 2)[0], tokens.mean(dim=2))
    assert torch.equal(output_rows(tokens, nn.LayerNorm(4), "positions", 2)[0][4], tokens[1, 1])


def test_time_first_layers_are_transposed():
    steps_first = torch.randn(5, 2, 3)  # (T, N, d)
    rows, _ = output_rows(steps_first, nn.LSTM(3, 3), "flatten", 2)
    assert torch.equal(rows, steps_first.transpose(0, 1).reshape(2, 15))


def test_rows_that_are_not_samples_are_refused():
    with pytest.raises(Unobservable, match="8 rows for 2 samples"):
        output_rows(torch.zeros(8, 3), nn.Linear(3, 3), "flatten", 2)


def test_one_number_a_sample_is_a_point_on_the_line():
    assert output_rows(torch.zeros(4), nn.Identity(), "mean", 4)[0].shape == (4, 1)
