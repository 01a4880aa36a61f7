import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from geomprobe.hooks import Unobservable, arrange

MAPS = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
TOKENS = torch.arange(2 * 3 * 4.0).reshape(2, 3, 4)
REAL = np.array([[True, True, False], [False, True, True]])


def points(output, module, pool="auto", **options):
    rows = arrange(output, module, pool=pool, n_samples=2, **options)
    taken = rows.take(np.arange(len(rows)))
    assert taken.shape == (len(rows), rows.width)
    return taken


def test_pools_of_a_convolution_put_channels_second():
    conv = nn.Conv2d(3, 3, 1)
    assert torch.equal(points(MAPS, conv), MAPS.reshape(2, 60))
    assert torch.equal(points(MAPS, conv, "mean"), MAPS.mean(dim=(2, 3)))
    positions = points(MAPS, conv, "positions")
    assert positions.shape == (40, 3)
    assert torch.equal(positions[7], MAPS[0, :, 1, 2])
    assert torch.equal(positions[27], MAPS[1, :, 1, 2])


@pytest.mark.parametrize("pool", ["flatten", "mean", "positions"])
def test_the_memory_format_does_not_matter(pool):
    channels_last = MAPS.to(memory_format=torch.channels_last)
    conv = nn.Conv2d(3, 3, 1)
    assert torch.equal(points(channels_last, conv, pool), points(MAPS, conv, pool))


def test_maps_after_linear_and_layer_norm_have_channels_last():
    assert torch.equal(points(MAPS, nn.LayerNorm(5), "mean"), MAPS.mean(dim=(1, 2)))


def test_pools_of_a_sequence():
    norm = nn.LayerNorm(4)
    assert torch.equal(points(TOKENS, norm), TOKENS.mean(dim=1))
    assert torch.equal(points(TOKENS, norm, "flatten"), TOKENS.reshape(2, 12))
    assert torch.equal(points(TOKENS, norm, "tokens"), TOKENS.reshape(6, 4))
    assert torch.equal(points(TOKENS, norm, "cls"), TOKENS[:, 0])
    assert torch.equal(points(TOKENS, norm, "last"), TOKENS[:, -1])


@pytest.mark.parametrize(
    "module",
    [nn.AvgPool1d(2), nn.AdaptiveMaxPool1d(2), nn.BatchNorm1d(3), nn.ConvTranspose1d(1, 3, 1)],
)
def test_one_dimensional_pools_and_norms_have_channels_second(module):
    assert torch.equal(points(TOKENS, module, "mean"), TOKENS.mean(dim=2))


def test_one_dimensional_convolutions_have_channels_second():
    assert torch.equal(points(TOKENS, nn.Conv1d(3, 3, 1), "mean"), TOKENS.mean(dim=2))
    assert torch.equal(points(TOKENS, nn.ReLU(), "mean", layout="nct"), TOKENS.mean(dim=2))
    assert torch.equal(points(TOKENS, nn.Linear(4, 4), "mean", layout="nct"), TOKENS.mean(dim=1))


def test_time_first_layers_are_transposed():
    steps_first = torch.randn(5, 2, 3)
    expected = steps_first.transpose(0, 1)
    assert torch.equal(points(steps_first, nn.LSTM(3, 3), "flatten"), expected.reshape(2, 15))
    assert torch.equal(points(steps_first, nn.Tanh(), "last", layout="tnc"), expected[:, -1])


def test_padding_never_enters_a_point():
    poisoned = TOKENS.clone()
    poisoned[~torch.from_numpy(REAL)] = torch.nan
    norm = nn.LayerNorm(4)
    expected = {
        "mean": torch.stack([TOKENS[0, :2].mean(dim=0), TOKENS[1, 1:].mean(dim=0)]),
        "tokens": torch.cat([TOKENS[0, :2], TOKENS[1, 1:]]),
        "cls": torch.stack([TOKENS[0, 0], TOKENS[1, 1]]),
        "last": torch.stack([TOKENS[0, 1], TOKENS[1, 2]]),
    }
    for pool, answer in expected.items():
        assert torch.equal(points(poisoned, norm, pool, real=REAL), answer)
    with pytest.raises(Unobservable, match="would take padding for data"):
        points(poisoned, norm, "flatten", real=REAL)
    with pytest.raises(Unobservable, match="3 positions where the padding mask has 2"):
        points(poisoned, norm, "mean", real=REAL[:, :2])


def test_a_mask_the_other_way_round_is_not_passed_over():
    with pytest.raises(Unobservable, match="layout='tnc'"):
        points(TOKENS, nn.LayerNorm(4), "mean", real=REAL.T)


def test_a_mask_of_other_samples_is_not_for_these():
    # As that of the texts for the images of a model of both.
    real = np.array([[True, False, False]] * 5)
    assert torch.equal(points(TOKENS, nn.LayerNorm(4), "mean", real=real), TOKENS.mean(dim=1))


def test_a_sample_that_is_all_padding_gives_no_point():
    real = np.array([[False, False, False], [True, True, True]])
    for pool in ("mean", "cls", "last", "tokens"):
        rows = arrange(TOKENS, nn.LayerNorm(4), pool=pool, real=real, n_samples=2)
        assert set(rows.samples) == {1}


def test_maps_do_not_look_at_the_mask():
    assert torch.equal(points(MAPS, nn.Conv2d(3, 3, 1), "mean", real=REAL), MAPS.mean(dim=(2, 3)))


def test_a_packed_sequence_gives_its_samples_in_the_order_of_the_batch():
    short, long = torch.randn(2, 3), torch.randn(4, 3)
    packed = pack_sequence([short, long], enforce_sorted=False)
    lstm = nn.LSTM(3, 3)
    assert torch.equal(points(packed, lstm, "tokens"), torch.cat([short, long]))
    assert torch.allclose(
        points(packed, lstm, "mean"), torch.stack([short.mean(dim=0), long.mean(dim=0)])
    )
    assert torch.equal(points(packed, lstm, "last"), torch.stack([short[-1], long[-1]]))


def test_the_mean_of_half_precision_is_taken_in_single():
    values = torch.full((2, 4096, 1), 0.1).to(torch.bfloat16)
    exact = values.double().mean(dim=1)
    assert torch.allclose(points(values, nn.LayerNorm(1), "mean").double(), exact, rtol=1e-6)


def test_what_makes_no_sense_says_why():
    with pytest.raises(Unobservable, match="8 rows for 2 samples"):
        points(torch.zeros(8, 3), nn.Linear(3, 3))
    with pytest.raises(Unobservable, match="a map of channels has no tokens"):
        points(MAPS, nn.Conv2d(3, 3, 1), "cls")


def test_one_number_a_sample_is_a_point_on_the_line():
    assert points(torch.zeros(2), nn.Identity(), "mean").shape == (2, 1)


def test_a_nested_tensor_gives_its_samples():
    short, long = torch.randn(2, 3), torch.randn(4, 3)
    ragged = torch.nested.nested_tensor([short, long])
    assert torch.equal(points(ragged, nn.LayerNorm(3), "tokens"), torch.cat([short, long]))
    assert torch.equal(points(ragged, nn.LayerNorm(3), "last"), torch.stack([short[-1], long[-1]]))
    maps = torch.nested.nested_tensor([torch.zeros(2, 3, 3), torch.zeros(4, 3, 3)])
    with pytest.raises(Unobservable, match="no sequences of vectors"):
        points(maps, nn.LayerNorm(3))
