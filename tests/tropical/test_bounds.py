"""Bounds of region counts against published numbers, counted networks, and each other."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.tropical import (
    linear_pieces,
    rank_architectures,
    region_bounds,
    region_complex,
    zaslavsky,
)
from tests.tropical.networks import he_network


def test_zaslavsky():
    """Lines in the plane: 1, 2, 4, 7, 11, the lazy caterer's sequence; 2^n cells for n <= d."""
    assert [zaslavsky(n, 2) for n in range(5)] == [1, 2, 4, 7, 11]
    assert [zaslavsky(n, 9) for n in range(5)] == [1, 2, 4, 8, 16]
    assert (zaslavsky(20, 3), zaslavsky(14, 4), zaslavsky(9, 6)) == (1351, 1471, 466)


def brute_serra(inputs, hidden):
    """Theorem 1 of Serra et al. (2018) as it is printed: a sum over tuples."""

    def terms(layer, dimension):
        if layer == len(hidden):
            return 1
        n = hidden[layer]
        return sum(
            math.comb(n, j) * terms(layer + 1, min(dimension, n - j))
            for j in range(min(dimension, n) + 1)
        )

    return terms(0, inputs)


@pytest.mark.parametrize(
    ("widths", "serra", "effective"),
    [
        ((2, 8, 8, 1), 1_369, 1_369),
        ((3, 8, 8, 8, 1), 804_357, 804_357),
        ((4, 12, 12, 1), 630_436, 630_436),
        ((6, 8, 8, 8, 1), 5_898_775, 15_069_223),
        ((2, 32, 32, 32, 1), 148_035_889, 148_035_889),
    ],
)
def test_upper_bounds_by_hand(widths, serra, effective):
    found = region_bounds(widths)
    assert (found.serra, found.effective) == (serra, effective)
    assert found.serra == brute_serra(widths[0], widths[1:-1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=6))
def test_bounds_are_in_order(widths):
    found = region_bounds(widths)
    assert 1 <= found.montufar <= found.serra <= found.effective <= found.raghu
    assert found.serra == brute_serra(widths[0], widths[1:-1])
    assert found.largest == (found.montufar, found.serra)


@given(st.integers(1, 9), st.integers(1, 30))
def test_one_hidden_layer_is_known(d, n):
    found = region_bounds((d, n, 1))
    assert found.exact
    assert found.montufar == found.raghu == zaslavsky(n, d)


def folded(inputs, depth, last):
    """The network of Montúfar et al. (2014), theorem 4: tents of two units in each coordinate."""
    layers, width, read = [], inputs, torch.eye(inputs).double()
    for _ in range(depth):
        layer = nn.Linear(width, 2 * inputs, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(read.repeat_interleave(2, 0))
            layer.bias.copy_(torch.tensor([0.0, -0.5]).repeat(inputs))
        read = torch.kron(torch.eye(inputs), torch.tensor([[2.0, -4.0]])).double()
        layers += [layer, nn.ReLU()]
        width = 2 * inputs
    directions, offsets = last
    layer = nn.Linear(width, len(offsets), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(directions @ read)
        layer.bias.copy_(-offsets)
    end = nn.Linear(len(offsets), 1, dtype=torch.float64)
    with torch.no_grad():
        end.weight.copy_(torch.linspace(0.7, 1.9, len(offsets)))
    return nn.Sequential(*layers, layer, nn.ReLU(), end)


def test_sawtooth():
    """Two thresholds above tents of depth 3: (2^3)(3) pieces, the lower bound itself."""
    thresholds = torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([-1 / 3, 0.6]).double()
    model = folded(1, 3, thresholds)
    found = region_bounds((1, 2, 2, 2, 2, 1))
    ends = torch.zeros(1).double(), torch.ones(1).double()
    assert linear_pieces(model, *ends).linear_pieces == found.montufar == 2**3 * 3


def test_folded_planes_attain_the_lower_bound():
    generator = torch.Generator().manual_seed(1)
    angles = torch.pi * (torch.arange(5) + 0.3) / 5
    directions = torch.stack([angles.cos(), angles.sin()], 1).double()
    shifts = 0.05 * torch.rand(5, generator=generator).double()
    offsets = directions @ torch.full((2,), 0.5).double() + shifts
    box = torch.full((2,), 0.001).double(), torch.full((2,), 0.999).double()
    model = folded(2, 1, (directions, offsets))
    count = region_complex(model, box).linear_regions
    assert count == region_bounds((2, 4, 5, 1)).montufar == 4 * 16


@pytest.mark.parametrize("widths", [(2, 8, 8, 1), (3, 8, 8, 8, 1), (2, 5, 4, 3, 1)])
def test_a_random_network_is_below_the_upper_bound(widths):
    infinity = torch.full((widths[0],), torch.inf)
    count = region_complex(he_network(*widths), (-infinity, infinity)).activation_regions
    assert count <= region_bounds(widths).serra


def test_architectures_are_ranked_by_bits_a_parameter():
    candidates = {"shallow": (2, 60, 1), "folds": (2, 8, 8, 8, 1), "narrow": (2, 1, 1, 1)}
    ranked = rank_architectures(candidates)
    assert [one.name for one in ranked] == ["narrow", "folds", "shallow"]
    best = ranked[1].bounds
    assert best.n_parameters == 24 + 72 + 72 + 9
    assert best.montufar == 4**2 * 4**2 * 37
    assert best.bits_per_parameter == pytest.approx(math.log2(best.montufar) / 177)
    assert "give data=" in ranked[0].log10_ntk_condition.note


def test_conditioning_is_measured_where_there_are_data():
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    stream = torch.get_rng_state()
    wide, narrow = rank_architectures({"wide": (2, 50, 1), "narrow": (2, 1, 1)}, Samples(x))[::-1]
    assert torch.equal(stream, torch.get_rng_state())
    assert (wide.name, narrow.name) == ("wide", "narrow")
    assert 0 < wide.log10_ntk_condition.value < 8
    # Five parameters cannot give a kernel of rank six.
    assert narrow.log10_ntk_condition.value == math.inf
    assert "3 of 3 networks are singular" in narrow.log10_ntk_condition.note


def test_widths_are_read_off_a_network():
    act = nn.ReLU()
    inner = nn.Sequential(nn.Linear(8, 5), act, nn.Dropout())
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), act, inner, nn.Linear(5, 3))
    assert region_bounds(model) == region_bounds((4, 8, 5, 3))
    assert region_bounds(model).n_parameters == sum(p.numel() for p in model.parameters())


def test_biases_that_a_network_lacks_are_not_counted():
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))
    found, full = region_bounds(model), region_bounds((4, 8, 3))
    assert (found.n_parameters, full.n_parameters) == (4 * 8 + 8 * 3 + 3, 5 * 8 + 9 * 3)
    assert found.montufar == full.montufar


class Skip(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU(), nn.Linear(3, 1)),
        nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1)),
        nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Linear(3, 1)),
        Skip(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)),
        nn.Sequential(nn.Linear(2, 3), nn.ReLU()),
        nn.Sequential(),
    ],
    ids=["leaky", "no bend between", "convolution", "skip", "no outputs", "empty"],
)
def test_other_networks_have_no_such_bounds(model):
    with pytest.raises(ValueError, match="give widths"):
        region_bounds(model)


def test_bits_of_large_numbers():
    found = region_bounds((64, *[128] * 9, 10))
    assert 0 < found.bits_per_parameter < 1
    assert found.montufar > 2**500


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: region_bounds((2, 1)), "one hidden layer or more"),
        (lambda: region_bounds((2, 0, 1)), "all positive whole numbers"),
        (lambda: region_bounds((2, 2.5, 1)), "all positive whole numbers"),
        (lambda: zaslavsky(-1, 2), "cannot be negative"),
        (lambda: rank_architectures({}), "no candidates"),
        (lambda: rank_architectures({"a": (2, 3, 1)}, draws=0), "draws must be at least 1"),
        (
            lambda: rank_architectures({"a": (2, 3, 1)}, Samples(torch.zeros(4, 3))),
            "'a' takes 2 inputs, and the data have 3",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
