"""Breakpoints along lines, against closed forms, bisection, and dense grids."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe.tropical import linear_pieces
from tests.tropical.networks import he_network, mixed


def sawtooth(depth):
    """Tent maps, one after another: 2^depth pieces on [0, 1] (Telgarsky 2016)."""
    layers = []
    for _ in range(depth):
        inner, outer = nn.Linear(1, 2), nn.Linear(2, 1, bias=False)
        inner.weight.data = torch.tensor([[2.0], [4.0]])
        inner.bias.data = torch.tensor([0.0, -2.0])
        outer.weight.data = torch.tensor([[1.0, -1.0]])
        layers += [inner, nn.ReLU(), outer]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("depth", [1, 3, 6, 10])
def test_sawtooth_has_two_to_the_depth_pieces(depth):
    pieces = linear_pieces(sawtooth(depth), torch.zeros(1), torch.ones(1))
    assert pieces.linear_pieces == pieces.activation_pieces == 2**depth
    np.testing.assert_allclose(pieces.t, np.arange(2**depth + 1) / 2**depth, atol=1e-14)
    np.testing.assert_allclose(np.abs(pieces.slopes), 2**depth)
    assert pieces.certified


def at(model, start, end, t):
    points = torch.stack([start + s * (end - start) for s in torch.from_numpy(t)])
    with torch.no_grad():
        return copy.deepcopy(model).eval().double()(points).flatten(1).numpy()


@pytest.mark.parametrize("seed", range(3))
def test_every_operation_is_seen_through(seed):
    # Against the values of the network itself on a grid much finer than the pieces, where its
    # second difference is not zero just at the grid's intervals that hold a breakpoint.
    model = mixed(seed)
    start, end = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    pieces = linear_pieces(model, start.float(), end.float())
    start, end = start.float().double(), end.float().double()
    assert pieces.certified
    assert model.training  # As it was.
    np.testing.assert_allclose(at(model, start, end, pieces.t), pieces.values, atol=1e-12)
    grid = np.linspace(0, 1, 20_001)
    bent = np.abs(np.diff(at(model, start, end, grid), n=2, axis=0)).max(axis=1) > 1e-11
    seen = np.flatnonzero(bent) + 1
    kinks = pieces.t[1:-1][pieces.kinked]
    place = kinks * 20_000
    # Each kink bends the grid at one of its two neighbours, and nothing else does.
    near = {int(p) for p in np.floor(place)} | {int(p) for p in np.ceil(place)}
    assert set(seen.tolist()) <= near
    assert all({int(np.floor(p)), int(np.ceil(p))} & set(seen.tolist()) for p in place)
    # Slopes are those of the function.
    middle = (pieces.t[1:] + pieces.t[:-1]) / 2
    width = np.diff(pieces.t) / 8
    rise = at(model, start, end, middle + width) - at(model, start, end, middle - width)
    np.testing.assert_allclose(rise / (2 * width[:, None]), pieces.slopes, atol=1e-6)


BENDS = {
    "relu": (F.relu, [0.0]),
    "relu6": (F.relu6, [0.0, 6.0]),
    "leaky_relu": (F.leaky_relu, [0.0]),
    "abs": (torch.abs, [0.0]),
    "hardtanh": (F.hardtanh, [-1.0, 1.0]),
    "hardtanh, wider": (lambda x: F.hardtanh(x, -2.0, 3.0), [-2.0, 3.0]),
    "hardsigmoid": (F.hardsigmoid, [-3.0, 3.0]),
    "softshrink": (F.softshrink, [-0.5, 0.5]),
    "threshold": (lambda x: F.threshold(x, 0.25, 0.25), [0.25]),
    "clamp": (lambda x: x.clamp(min=-0.5), [-0.5]),
    "clamp by nothing": (lambda x: F.relu(x.clamp(max=float("inf"))), [0.0]),
    "clamp of some": (
        lambda x: torch.cat([x, x], 1).clamp(torch.tensor([-2.0, -torch.inf]), torch.tensor(1e30)),
        [-2.0],
    ),
    "clamp in place": (lambda x: (1 * x).clamp_(max=0.75), [0.75]),
    "rrelu": (nn.RReLU().eval(), [0.0]),
    "prelu": (nn.PReLU(), [0.0]),
    "maximum": (lambda x: torch.maximum(x, 1 - x), [0.5]),
    "maximum with a constant": (lambda x: torch.maximum(x, torch.tensor([2.0])), [2.0]),
    "minimum": (lambda x: torch.minimum(x, 2 * x - 1), [1.0]),
    "amax": (lambda x: torch.cat([x, 0 * x, -x - 3], 1).amax(1, keepdim=True), [-3.0, 0.0]),
    "min": (lambda x: torch.cat([x, 2 * x], 1).min(1, keepdim=True).values, [0.0]),
    "max over all": (lambda x: torch.cat([x, -x], 1).max()[None, None], [0.0]),
    "max_pool1d": (lambda x: F.max_pool1d(torch.cat([x, 3 - x], 1)[:, None], 2)[:, 0], [1.5]),
    "adaptive_max_pool1d": (
        lambda x: F.adaptive_max_pool1d(torch.cat([x, 1 - x, 0 * x], 1)[:, None], 1)[:, 0],
        [0.5],
    ),
    "two in a row": (lambda x: F.relu(F.leaky_relu(x)), [0.0]),
}


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("name", BENDS)
def test_thresholds_of_each_operation(name):
    function, expected = BENDS[name]
    pieces = linear_pieces(Applied(function), torch.tensor([-7.0]), torch.tensor([9.0]))
    np.testing.assert_allclose(16 * pieces.t[1:-1][pieces.kinked] - 7, expected, atol=1e-12)
    assert pieces.certified


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(2, stride=1, dilation=2),
        nn.MaxPool2d((3, 2), ceil_mode=True),
        nn.AdaptiveMaxPool2d((2, 3)),
    ],
    ids=str,
)
def test_windows_of_pools(pool):
    torch.manual_seed(0)
    start, end = torch.randn(2, 2, 7, 7, dtype=torch.float64)
    pieces = linear_pieces(pool, start, end)
    assert pieces.certified
    assert pieces.linear_pieces > 15
    np.testing.assert_allclose(at(pool, start, end, pieces.t), pieces.values, atol=1e-12)


def test_a_grid_of_ten_thousand_points_finds_at_most_as_many():
    model = he_network(50, 64, 64, 5)
    torch.manual_seed(1)
    start, end = torch.randn(2, 50, dtype=torch.float64)
    pieces = linear_pieces(model, start, end)
    grid = np.linspace(0, 1, 10_001)
    hidden, patterns = torch.stack([start + s * (end - start) for s in torch.from_numpy(grid)]), []
    with torch.no_grad():
        for layer in model:
            hidden = layer(hidden)
            if isinstance(layer, nn.ReLU):
                patterns.append(hidden > 0)
    pattern = torch.cat(patterns, 1)
    seen = 1 + int((pattern[1:] != pattern[:-1]).any(1).sum())
    assert 0.9 * pieces.activation_pieces < seen <= pieces.activation_pieces
    assert sum(pieces.by_bend().values()) == pieces.activation_pieces - 1


def test_dead_paths_make_activation_pieces_but_no_linear_pieces():
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    model[0].weight.data = torch.tensor([[1.0], [1.0]])
    model[0].bias.data = torch.tensor([-0.25, -0.5])
    model[2].weight.data = torch.tensor([[1.0, 0.0]])
    pieces = linear_pieces(model, torch.zeros(1), torch.ones(1))
    assert (pieces.activation_pieces, pieces.linear_pieces) == (3, 2)
    # Duplicated units bend at one point.
    model[0].bias.data = torch.tensor([-0.25, -0.25])
    assert linear_pieces(model, torch.zeros(1), torch.ones(1)).activation_pieces == 2


def test_a_polyline_is_its_segments():
    model = he_network(6, 16, 16, 3)
    torch.manual_seed(2)
    a, b, c = torch.randn(3, 6, dtype=torch.float64)
    whole, first, second = (
        linear_pieces(model, a, b, c),
        linear_pieces(model, a, b),
        linear_pieces(model, b, c),
    )
    np.testing.assert_allclose(whole.t, np.concatenate([first.t, 1 + second.t[1:]]), atol=1e-12)
    np.testing.assert_allclose(whole.slopes, np.concatenate([first.slopes, second.slopes]))
    assert whole.linear_pieces == first.linear_pieces + second.linear_pieces
    assert whole.length == pytest.approx(first.length + second.length)


def test_parts_that_fit_into_memory_make_the_whole(monkeypatch):
    model = mixed()
    a, b, c = torch.randn(3, 1, 4, 4)
    whole = linear_pieces(model, a, b, c)
    monkeypatch.setattr("geomprobe.tropical.tape.Tape.rows_in_memory", lambda tape: 24)
    parts = linear_pieces(model, a, b, c)
    np.testing.assert_allclose(parts.t, whole.t, atol=1e-10)
    np.testing.assert_allclose(parts.slopes, whole.slopes, atol=1e-10)
    np.testing.assert_array_equal(parts.origin, whole.origin)
    halved = linear_pieces(sawtooth(7), torch.zeros(1), torch.ones(1))
    assert (halved.activation_pieces, halved.certified) == (2**7, True)


def test_the_certificate_fails_where_a_breakpoint_is_missed(monkeypatch):
    import geomprobe.tropical.polyline as module

    ends = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert linear_pieces(he_network(6, 16, 16, 3), *ends).failures == ()
    found = module.crossings
    monkeypatch.setattr(module, "crossings", lambda *given: [part[1:] for part in found(*given)])
    missed = linear_pieces(he_network(6, 16, 16, 3), *ends)
    assert not missed.certified
    (failure,) = missed.failures
    assert "the network is not affine on a piece, by" in failure


def test_the_certificate_sees_a_unit_that_is_on_for_one_piece_only(monkeypatch):
    # Its output being zero at both ends, what the slopes add up to farther on does not tell.
    import geomprobe.tropical.polyline as module

    model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 1))
    model[0].weight.data, model[0].bias.data = torch.ones(3, 1), -torch.tensor([[0.3, 0.4, 0.5]])[0]
    model[2].weight.data, model[2].bias.data = torch.tensor([[1.0, -2.0, 1.0]]), torch.zeros(1)
    ends = torch.zeros(1), torch.ones(1)
    assert linear_pieces(model, *ends).certified
    bent = module.bent

    def off(rows, *given):
        made = bent(rows, *given)
        return np.zeros_like(made) if made.shape[1] == 1 else made

    monkeypatch.setattr(module, "bent", off)
    assert not linear_pieces(model, *ends).certified


def test_an_affine_network_is_one_piece():
    pieces = linear_pieces(nn.Linear(3, 2), torch.zeros(3), torch.ones(3))
    assert (pieces.activation_pieces, pieces.certified) == (1, True)


def test_dicts_of_inputs_and_constants():
    class Two(nn.Module):
        def forward(self, x, index, y):
            return F.relu(x + y)[:, index[0]]

    start = {"x": torch.zeros(3), "index": torch.tensor([1]), "y": torch.tensor([-1.0, -1.0, -1.0])}
    pieces = linear_pieces(Two(), start, {**start, "x": torch.tensor([2.0, 4.0, 2.0])})
    np.testing.assert_allclose(pieces.t[1:-1][pieces.kinked], [0.25])
    with pytest.raises(ValueError, match="differ in what is not floating point"):
        linear_pieces(Two(), start, {**start, "index": torch.tensor([2])})


def test_half_precision_parameters_are_taken_as_they_are():
    model = he_network(4, 8, 8, 1).to(torch.bfloat16)
    a, b = torch.randn(2, 4).bfloat16()
    exact = linear_pieces(copy.deepcopy(model).double(), a.double(), b.double())
    np.testing.assert_allclose(linear_pieces(model, a, b).t, exact.t, atol=1e-12)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (torch.zeros(3), torch.zeros(3), "start and end are equal"),
        (torch.zeros(3), torch.ones(4), r"end has shape \(4,\), and start \(3,\)"),
        (torch.zeros(3), torch.full((3,), torch.nan), "end holds NaN"),
        (torch.zeros(3).long(), torch.ones(3).long(), "no floating-point tensor"),
    ],
)
def test_bad_inputs(start, end, message):
    with pytest.raises(ValueError, match=message):
        linear_pieces(nn.Linear(3, 1), start, end)


def test_too_many_pieces_are_refused_with_how_many_were_reached():
    with pytest.raises(ValueError, match=r"more than 99 breakpoints: \d+ were reached at '\d+'"):
        linear_pieces(sawtooth(10), torch.zeros(1), torch.ones(1), max_pieces=100)
    with pytest.raises(ValueError, match="max_pieces"):
        linear_pieces(sawtooth(1), torch.zeros(1), torch.ones(1), max_pieces=0)


def test_plot():
    axes = linear_pieces(sawtooth(3), torch.zeros(1), torch.ones(1)).plot()
    assert axes.get_title() == "8 linear pieces"
