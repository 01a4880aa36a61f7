"""What can be said of regions around data without enumerating them, against exact pieces."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.tropical import (
    activation_patterns,
    boundary_distance,
    initialization_report,
    linear_pieces,
    local_complexity,
    region_crossings,
    slice_regions,
)
from geomprobe.tropical.local_complexity import random_frames
from tests.tropical.networks import he_network, mixed


def normal(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed)).double()


class Thresholds(nn.Sequential):
    """Units that bend at x = 0, at y = 0, and nowhere near the data."""

    def __init__(self):
        super().__init__(nn.Linear(2, 4, dtype=torch.float64), nn.ReLU())
        with torch.no_grad():
            self[0].weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 1], [1, -1]]))
            self[0].bias.copy_(torch.tensor([0.0, 0, -100, 100]))


# --- local complexity ---------------------------------------------------------------------------


def test_local_complexity_counts_the_breakpoints_of_an_interval():
    """In one dimension the hull is an interval: exact for the first layer, a lower bound later."""
    model, radius = he_network(1, 40, 30, 1, seed=2), 0.4
    x = normal(12, 1)
    found = local_complexity(model, Samples(x), radius=radius)
    assert found.directions == 1
    assert found.units == (40, 30)
    exact = [list(linear_pieces(model, one - radius, one + radius).by_bend().values()) for one in x]
    first, second = np.array(exact).T
    np.testing.assert_array_equal(found.counts[:, 0], first)
    assert (found.counts[:, 1] <= second).all()
    assert found.counts[:, 1].sum() > 0.8 * second.sum() > 0
    assert found.total.value == found.counts.sum() / 12
    assert found.by_bend()["3"].value == found.counts[:, 1].mean()


def test_a_hull_lies_between_two_balls():
    """An orthoplex of radius r in d dimensions holds the ball of radius r / sqrt(d)."""
    model = he_network(3, 60, 1)
    x, radius = normal(20, 3), 0.3
    counts = local_complexity(model, Samples(x), radius=radius).counts[:, 0]
    with torch.no_grad():
        distances = (model[0](x) / model[0].weight.norm(dim=1)).abs().numpy()
    assert (counts >= (distances < radius / 3**0.5).sum(axis=1)).all()
    assert (counts <= (distances < radius).sum(axis=1)).all()


def test_every_counted_unit_bends_on_the_way_from_corner_to_corner():
    """Convolutions, pooling and skips, against the breakpoints of the polyline of corners."""
    model, x, radius = mixed(), normal(1, 1, 4, 4).float(), 0.5
    found = local_complexity(model, Samples(x), radius=radius, directions=4, seed=1)
    frame = random_frames(1, 16, 4, torch.Generator().manual_seed(1)).reshape(4, 1, 4, 4)
    corners = [x[0] + sign * radius * v.float() for v in frame for sign in (1, -1)]
    line = linear_pieces(model, *corners)
    assert found.bends == line.bends
    assert found.counts.sum() > 10
    assert (found.counts[0] <= list(line.by_bend().values())).all()
    small = local_complexity(model, Samples(x), radius=1e-9, seed=1)
    assert small.counts.sum() == 0


def test_the_default_radius_follows_the_scale_of_the_data():
    model, x = he_network(3, 8, 1), normal(50, 3)
    found = local_complexity(model, Samples(x))
    spread = (x - x.mean(0)).square().sum(1).mean().sqrt()
    assert found.radius == pytest.approx(0.05 * float(spread))


# --- distance from the walls --------------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [nn.ReLU, nn.LeakyReLU, nn.Hardtanh, lambda: nn.Softshrink(0.3)],
    ids=lambda act: act.__name__.strip("<>"),
)
def test_distance_in_one_dimension_is_that_of_the_nearest_breakpoint(act):
    model = he_network(1, 9, 8, 2, seed=4, act=act)
    x = normal(15, 1, seed=1)
    line = linear_pieces(model, torch.tensor([-50.0]).double(), torch.tensor([50.0]).double())
    at = 100 * line.t[1:-1] - 50
    exact = np.abs(x.numpy() - at).min(axis=1)
    found = boundary_distance(model, Samples(x))
    np.testing.assert_allclose(found.distances, exact, rtol=1e-9, atol=1e-12)
    nearest = line.origin[1:-1][np.abs(x.numpy() - at).argmin(axis=1)]
    np.testing.assert_array_equal(found.nearest, nearest)


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = he_network(2, 12, 1)[0], he_network(6, 8, 3, seed=1)

    def forward(self, x):
        h = nn.functional.max_pool1d(self.first(x)[:, None], 2)
        return self.second(nn.functional.max_pool1d(h, 1)[:, 0])  # This one has no walls.


@pytest.mark.parametrize("model", [he_network(2, 12, 10, 3), Pooled()], ids=["deep", "pooled"])
def test_distance_in_the_plane_is_that_of_the_sides_of_the_polygon(model):
    """In every layer, for units and for maxima, against the polygons of the slice."""
    corners = torch.tensor([[-2.0, -2], [2, -2], [-2, 2]]).double()
    plane = slice_regions(model, *corners)
    x = normal(25, 2).clamp(-1, 1)
    at = x.numpy() + 2  # In the plane the first corner is the origin.
    exact = []
    for point in at:
        for polygon in plane.polygons:
            along = np.roll(polygon, -1, axis=0) - polygon
            normals = np.stack([-along[:, 1], along[:, 0]], 1)
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            inside = ((point - polygon) * normals).sum(axis=1)
            if (inside > 0).all():
                exact.append(inside.min())
    found = boundary_distance(model, Samples(x))
    np.testing.assert_allclose(found.distances, exact, rtol=1e-7)


def test_nothing_bends_within_the_distance_in_many_dimensions():
    model, x = mixed(), normal(4, 1, 4, 4).float()
    found = boundary_distance(model, Samples(x))
    assert (found.distances > 0).all()
    for one, distance in zip(x.double(), found.distances, strict=True):
        for move in normal(5, 1, 4, 4, seed=7):
            end = one + 0.999 * distance * move / move.norm()
            assert linear_pieces(model, one.float(), end.float()).activation_pieces == 1
    part = boundary_distance(model, Samples(x), directions=6)
    assert (part.distances >= found.distances - 1e-12).all()
    assert "in random subspaces of 6 of 16 dimensions" in part.median().note
    assert "nothing is certified" in part.median("certified").note


def test_memory_bounds_change_no_distance(monkeypatch):
    from geomprobe.tropical.tape import Tape

    model, x = mixed(), normal(5, 1, 4, 4).float()
    whole = boundary_distance(model, Samples(x))
    monkeypatch.setattr(Tape, "rows_in_memory", lambda self: 4)
    np.testing.assert_allclose(boundary_distance(model, Samples(x)).by_bend, whole.by_bend)


def test_decisions_of_a_linear_classifier_are_its_margins():
    """Units that are always on: the distance from the hyperplane of two logits, as by any text."""
    weight = normal(3, 4)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(4))
        model[0].bias.fill_(1e3)
        model[2].weight.copy_(weight)
        model[2].bias.copy_(-1e3 * weight.sum(1))
    x = normal(30, 4, seed=3)
    logits = x @ weight.T
    winner = logits.argmax(1)
    gaps = logits.max(1, keepdim=True).values - logits
    norms = (weight[winner][:, None] - weight).norm(dim=2)
    exact = torch.where(norms > 0, gaps / norms, torch.inf).min(1).values
    found = boundary_distance(model, Samples(x))
    np.testing.assert_allclose(found.certified, exact, rtol=1e-6)
    assert found.decided.all()
    assert found.nearest.max() == 0


# --- patterns -----------------------------------------------------------------------------------


def test_entropies_of_quadrants():
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    found = activation_patterns(
        Thresholds(), Samples(signs.repeat(6, 1) * (1 + normal(24, 1).abs()))
    )
    assert found.n_patterns == 4
    assert found.entropy().value == pytest.approx(2.0)
    assert found.entropy().stderr == pytest.approx(0.0)
    assert found.unit_entropy().value == pytest.approx((1 + 1 + 0 + 0) / 4)
    assert found.dead == {"1": 0.25}
    assert found.dead_units.exact
    alone = activation_patterns(Thresholds(), Samples(signs))
    assert alone.entropy("1").value == pytest.approx(2.0)
    assert "4 of 4 patterns were seen once: more inputs give more" in alone.entropy().note


def test_patterns_are_the_activations_of_the_model():
    model, x = he_network(5, 8, 7, 2), normal(40, 5)
    found = activation_patterns(model, Samples(x))
    with torch.no_grad():
        first = model[0](x)
        second = model[2](first.relu())
    np.testing.assert_array_equal(found.branches[0], (first > 0).numpy())
    np.testing.assert_array_equal(found.branches[1], (second > 0).numpy())
    assert found.units == {"1": 8, "3": 7}
    assert found.labels.shape == (40,)


class Bounded(nn.Module):
    def __init__(self, *bounds):
        super().__init__()
        self.inner, self.bounds = he_network(3, 6, 1)[0], bounds

    def forward(self, x):
        return self.inner(x).clamp(*self.bounds)


@pytest.mark.parametrize("most", [np.inf, torch.tensor([torch.inf, 1e30] * 3)])
def test_infinite_bounds_bound_nothing(most):
    low, x = torch.tensor(0.0) if isinstance(most, torch.Tensor) else 0.0, Samples(normal(20, 3))
    bounded, relu = Bounded(low, most), nn.Sequential(Bounded().inner, nn.ReLU())
    a, b = activation_patterns(bounded, x), activation_patterns(relu, x)
    np.testing.assert_array_equal(a.branches[0], b.branches[0])
    distances = (boundary_distance(model, x).distances for model in (bounded, relu))
    np.testing.assert_allclose(*distances, rtol=1e-9)
    with pytest.raises(ValueError, match="nothing in the model bends"):
        activation_patterns(Bounded(-np.inf, np.inf), x)


def test_crossings_are_hamming_distances_and_bound_those_on_the_path():
    before, after, x = he_network(3, 20, 10, 1), he_network(3, 20, 10, 1, seed=1), normal(9, 3)
    found = region_crossings(before, after, Samples(x))
    a, b = (activation_patterns(model, Samples(x)) for model in (before, after))
    expected = [(p != q).sum(axis=1) for p, q in zip(a.branches, b.branches, strict=True)]
    np.testing.assert_array_equal(found.changed.T, expected)
    assert found.share.value == pytest.approx(found.changed.sum() / (9 * 30))
    assert found.moved.value == 1
    between, path, total = copy.deepcopy(before), before, 0
    for share in np.linspace(0, 1, 9)[1:]:
        with torch.no_grad():
            ends = zip(between.parameters(), before.parameters(), after.parameters(), strict=True)
            for moving, start, stop in ends:
                moving.copy_((1 - share) * start + share * stop)
        total += region_crossings(path, between, Samples(x)).changed
        path = copy.deepcopy(between)
    assert (total >= found.changed).all()
    assert region_crossings(before, before, Samples(x)).crossings.value == 0


# --- initialization -----------------------------------------------------------------------------


def test_an_orthogonal_network_whose_units_are_all_on_is_an_isometry():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            nn.init.orthogonal_(layer.weight)
        model[0].bias.fill_(50)
    report = initialization_report(model, Samples(normal(8, 6).float()))
    np.testing.assert_allclose(report.singular_values, 1, rtol=1e-5)
    assert report.scalars["dead_units"].value == report.scalars["local_complexity"].value == 0
    assert report.dead == {"1": 0.0}
    assert "largest_singular_value   1 " in str(report)


def test_dead_units_and_a_singular_kernel_are_told():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].bias.fill_(-50)
    report = initialization_report(model, Samples(normal(5, 3).float()))
    assert report.scalars["dead_units"].value == 1
    assert np.isinf(report.scalars["ntk_condition"].value)
    assert "zero to rounding" in report.scalars["ntk_condition"].note
    assert not report.singular_values.any()


def test_the_condition_number_is_that_of_the_tangent_kernel():
    from geomprobe.information import ntk

    model, data = he_network(4, 16, 3), Samples(normal(7, 4))
    found = initialization_report(model, data)
    assert found.scalars["local_complexity"] == local_complexity(model, data).total
    assert found.scalars["boundary_distance"] == boundary_distance(model, data).median()
    kernel = ntk(model, data)
    assert found.scalars["ntk_condition"].value == pytest.approx(kernel.condition_number())
    np.testing.assert_allclose(found.ntk_spectrum, kernel.spectrum(), rtol=1e-6)
    with torch.no_grad():
        masks = (model[0](data.inputs) > 0).double()
    first, last = model[0].weight.detach(), model[2].weight.detach()
    jacobians = torch.einsum("oh,nh,hd->nod", last, masks, first)
    np.testing.assert_allclose(found.singular_values, torch.linalg.svdvals(jacobians))


# --- what is refused ----------------------------------------------------------------------------

DATA = Samples(normal(5, 3))
SMOOTH = nn.Sequential(nn.Linear(3, 3), nn.GELU()).double()
BATCH = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.ReLU())
NOISY = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
NOISY.register_forward_hook(lambda module, args, out: nn.functional.dropout(out, 0.5, True))
FUNCTIONS = [activation_patterns, local_complexity, boundary_distance, initialization_report]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: one.__name__)
@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (SMOOTH, DATA, r"applies gelu.*representation_dimension.*take any network"),
        (BATCH.double(), DATA, "statistics of its batch"),
        (NOISY.double(), DATA, "draws random numbers"),
        (nn.Linear(3, 2).double(), DATA, "nothing in the model bends"),
        (he_network(3, 4, 1), Samples(normal(0, 3)), "data holds no samples"),
        (he_network(3, 4, 1), Samples(normal(5, 3) / 0), "input 0 holds NaN or infinity"),
    ],
    ids=["smooth", "batch statistics", "dropout", "affine", "empty", "infinite"],
)
def test_refused(function, model, data, message):
    with pytest.raises(ValueError, match=message):
        function(model, data)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: local_complexity(m, DATA, radius=0.0), "radius must be positive"),
        (lambda m: local_complexity(m, DATA, directions=0), "directions must be at least 1"),
        (lambda m: local_complexity(m, Samples(torch.ones(3, 3).double())), "give a radius"),
        (lambda m: boundary_distance(m, DATA, directions=0), "directions must be at least 1"),
        (lambda m: activation_patterns(m, DATA).entropy("x"), "no bend 'x'; there are 1"),
        (lambda m: region_crossings(m, he_network(3, 5, 1), DATA), "do not bend alike"),
    ],
)
def test_bad_parameters(call, message):
    with pytest.raises(ValueError, match=message):
        call(he_network(3, 4, 1))


def test_models_and_streams_are_left_as_they_were():
    model = mixed()
    before, stream = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    for function in FUNCTIONS:
        function(model, Samples(normal(3, 1, 4, 4).float()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(stream, torch.get_rng_state())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_pictures():
    from matplotlib import pyplot

    model, data = he_network(3, 8, 6, 2), Samples(normal(10, 3))
    near = local_complexity(model, data).plot()
    assert [label.get_text() for label in near.get_xticklabels()] == ["1", "3"]
    walls = boundary_distance(model, data).plot()
    assert len(walls.get_lines()) == 2
    pyplot.close("all")
