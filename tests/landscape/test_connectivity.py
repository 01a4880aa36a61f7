"""Barriers and curves whose values are known in closed form."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe import Samples
from geomprobe.landscape import (
    align,
    connectivity_matrix,
    linear_barrier,
    loss_slice,
    low_loss_curve,
    random_equivalent,
    symmetries,
)
from geomprobe.landscape.paths import Traveller
from tests.landscape.symmetric_networks import data, mlp, network


class Circle(nn.Module):
    """The squared radius in the first two of n parameters: minima of its loss are a circle."""

    def __init__(self, n, angle):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(n, dtype=torch.float64))
        self.w.data[:2] = torch.tensor([math.cos(angle), math.sin(angle)])

    def forward(self, x):
        return self.w[:2].square().sum() * x


ONES = Samples(torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("n", "angle", "bends", "steps"),
    [*((n, math.pi / 2, 3, 80) for n in (2, 20, 200, 2000)), (20, 2 * math.pi / 3, 3, 200)],
)
def test_the_circle_of_minima_is_connected_by_a_curve_in_any_dimension(n, angle, bends, steps):
    ends = Circle(n, 0.3), Circle(n, 0.3 + angle)
    straight = linear_barrier(*ends, ONES, F.mse_loss).barrier
    # Halfway the radius is cos(angle / 2), and the loss (cos^2 - 1)^2: 1/4 and 9/16.
    assert straight.value == pytest.approx(math.sin(angle / 2) ** 4)
    curve = low_loss_curve(*ends, ONES, F.mse_loss, bends=bends, steps=steps)
    assert curve.barrier.value < 1e-4
    assert curve.training[-1] < 1e-4
    assert curve.stretch == pytest.approx(angle / 2 / math.sin(angle / 2), rel=0.01)


def test_barriers_on_other_data_are_told_beside_those_of_training():
    angle = math.pi / 2
    ends = Circle(20, 0), Circle(20, angle)
    test = Samples(ONES.inputs, 2 * ONES.targets)
    found = linear_barrier(*ends, ONES, F.mse_loss, test=test)
    assert found.barrier.value == pytest.approx(1 / 4)
    # The loss is 1 at the ends, and halfway, where the squared radius is 1/2, (1/2 - 2)^2.
    assert found.test_barrier.value == pytest.approx((1 / 2 - 2) ** 2 - 1)
    assert "no test data" in linear_barrier(*ends, ONES, F.mse_loss).test_barrier.note


def test_a_polygon_is_no_nearer_to_the_circle_than_its_corners_let_it():
    ends = Circle(20, 0), Circle(20, math.pi / 2)
    curve = low_loss_curve(*ends, ONES, F.mse_loss, kind="polygon", bends=2, steps=100)
    # Three chords of 30 degrees with the corners outside, where the ends are on the circle.
    assert curve.barrier.value < math.sin(math.pi / 12) ** 4
    again = low_loss_curve(*ends, ONES, F.mse_loss, kind="polygon", bends=2, steps=100)
    np.testing.assert_array_equal(curve.path.losses, again.path.losses)
    torch.testing.assert_close(curve.model_at(1 / 3).w, curve.points[1]["w"])
    with pytest.raises(ValueError, match="between 0 and 1"):
        curve.model_at(2)


def test_a_barrier_and_its_error_are_those_of_the_samples():
    a, b, samples = network("mlp"), network("mlp", seed=9), data("mlp", 40)
    found = linear_barrier(a, b, samples, F.cross_entropy, points=5, batch_size=16).train
    middle = copy.deepcopy(a)
    for p, q, r in zip(middle.parameters(), a.parameters(), b.parameters(), strict=True):
        p.data = (q.data + r.data) / 2
    each = [
        F.cross_entropy(m(samples.inputs), samples.targets, reduction="none").detach().numpy()
        for m in (a, middle, b)
    ]
    np.testing.assert_allclose(found.losses[[0, 2, 4]], each, rtol=1e-5)
    excess = found.excess
    k = 1 + int(excess[1:-1].mean(1).argmax())
    assert found.barrier.value == pytest.approx(max(excess[k].mean(), 0))
    assert found.barrier.stderr == pytest.approx(excess[k].std(ddof=1) / 40**0.5)
    ends = [torch.cat([p.detach().ravel() for p in m.parameters()]) for m in (a, b)]
    assert found.length == pytest.approx(float((ends[0] - ends[1]).norm()), rel=1e-5)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet", "transformer"])
def test_an_equivalent_network_has_no_barrier_once_aligned(name):
    model, samples = network(name).eval(), data(name)
    samples = Samples(samples.inputs, model(samples.inputs).argmax(1))
    other = random_equivalent(model, samples, rescale=0)
    before = linear_barrier(model, other, samples, F.cross_entropy, points=5).barrier
    nearest = align(model, other, samples).model
    after = linear_barrier(model, nearest, samples, F.cross_entropy, points=5).barrier
    assert after.value < 1e-6 < before.value


def test_statistics_are_taken_anew_for_a_copy_and_the_models_stay_as_they_are():
    a, b, samples = network("cnn"), network("cnn", seed=4), data("cnn")
    a.train()
    before = [copy.deepcopy(m.state_dict()) for m in (a, b)]
    stream = torch.get_rng_state()
    found = linear_barrier(a, b, samples, F.cross_entropy, points=3, reset_bn=True).train
    curve = low_loss_curve(a, b, samples, F.cross_entropy, steps=3, points=3, batch_size=8)
    # With statistics of one batch of all samples, these are what training mode uses.
    own = copy.deepcopy(a)
    loss = F.cross_entropy(own.train()(samples.inputs), samples.targets).detach()
    # The running variance is that of a sample, of one more place than divides the batch's.
    assert found.mean[0] == pytest.approx(float(loss), rel=1e-2)
    assert curve.path.mean[0] == pytest.approx(float(loss), rel=0.2)
    assert torch.equal(stream, torch.get_rng_state())
    assert a.training
    assert all(p.grad is None for m in (a, b) for p in m.parameters())
    for model, was in zip((a, b), before, strict=True):
        assert all(torch.equal(v, was[k]) for k, v in model.state_dict().items())


def test_a_matrix_of_barriers_before_and_after():
    samples = data("mlp", 60)
    first = network("mlp")
    models = [first, random_equivalent(first, samples, rescale=0), network("mlp", seed=2)]
    found = connectivity_matrix(models, samples, F.cross_entropy, names=["a", "b", "c"], points=5)
    assert found.aligned[0, 1] < 1e-6 < found.barriers[0, 1]
    np.testing.assert_array_equal(found.barriers, found.barriers.T)
    np.testing.assert_allclose(found.aligned[0, 2], found.aligned[1, 2], rtol=1e-4)
    one = linear_barrier(models[0], models[2], samples, F.cross_entropy, points=5)
    assert found.barriers[0, 2] == one.barrier.value
    np.testing.assert_allclose(found.losses[0], found.losses[1], rtol=1e-5)
    assert found.spread.value == pytest.approx(np.std(found.losses, ddof=1))
    axes = found.plot()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    one.plot()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": data("mlp", 0)}, "no samples"),
        ({"data": Samples(data("mlp").inputs)}, "targets are needed"),
        ({"b": mlp((6, 8, 5, 3))}, "one architecture"),
        ({"loss": lambda y, t: F.cross_entropy(y, t, reduction="none")}, "expected one number"),
        ({"loss": lambda y, t: F.cross_entropy(y, t, reduction="sum")}, "not the mean"),
        ({"loss": lambda y, t: y.mean() * torch.nan}, "loss of the first network is nan"),
        ({"batch_size": 0}, "batch_size"),
        ({"points": 2}, "points"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {"a": mlp(), "b": mlp(), "data": data("mlp"), "loss": F.cross_entropy} | change
    for function in (linear_barrier, low_loss_curve):
        with pytest.raises(ValueError, match=message):
            function(**given)


def test_a_network_whose_loss_is_not_finite_is_told():
    bad = mlp()
    bad[-1].bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="second network is not finite for 24 of 24"):
        linear_barrier(mlp(), bad, data("mlp"), F.cross_entropy)
    with pytest.raises(ValueError, match="networks are equal"):
        low_loss_curve(network("mlp"), network("mlp"), data("mlp"), F.cross_entropy)


@pytest.mark.parametrize("batch_size", [10, 20, 64])
def test_statistics_do_not_depend_on_how_the_data_are_cut_or_sorted(batch_size):
    torch.manual_seed(0)
    x = torch.randn(42, 3, dtype=torch.float64)
    x[21:] += 4.0  # Sorted: batches in order would miss the variance between the halves.
    own = nn.Sequential(nn.BatchNorm1d(3, dtype=torch.float64))
    traveller = Traveller(own, Samples(x, x), F.mse_loss, batch_size, reset_bn=True)
    found = traveller._renormalized(traveller.state)
    torch.testing.assert_close(found["0.running_mean"], x.mean(0))
    torch.testing.assert_close(found["0.running_var"], x.var(0), rtol=0.1, atol=0)
    with pytest.raises(ValueError, match="batches of two samples"):
        Traveller(own, Samples(x, x), F.mse_loss, 1, reset_bn=True)


@pytest.mark.parametrize(
    "options", [{"weight": torch.tensor([1.0, 9.0, 1.0])}, {"ignore_index": 2}]
)
def test_a_loss_of_sorted_classes_is_seen_not_to_be_the_mean(options):
    samples = Samples(data("mlp", 60).inputs, torch.arange(60) // 20)
    for function in (linear_barrier, low_loss_curve):
        with pytest.raises(ValueError, match="not the mean"):
            function(network("mlp"), network("mlp", 1), samples, nn.CrossEntropyLoss(**options))


@pytest.mark.parametrize("function", [linear_barrier, low_loss_curve, align])
def test_code_of_another_activation_is_not_one_architecture(function):
    loss = () if function is align else (F.cross_entropy,)
    with pytest.raises(ValueError, match="code of a gives other outputs"):
        function(network("mlp"), network("tanh"), data("mlp"), *loss)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([(torch.ones(2, 6), torch.ones(2))], "must be Samples.*got list"),
        (Samples(np.ones((4, 6)), torch.zeros(4)), "inputs must be tensors.*got ndarray"),
        (Samples(torch.ones(4, 6), np.zeros(4)), "targets must be tensors.*got ndarray"),
    ],
)
def test_data_of_another_kind_are_refused(wrong, message):
    model = network("mlp")
    for function in (
        lambda: linear_barrier(model, model, wrong, F.cross_entropy),
        lambda: low_loss_curve(model, model, wrong, F.cross_entropy),
        lambda: loss_slice(model, wrong, F.cross_entropy),
        lambda: connectivity_matrix([model, model], wrong, F.cross_entropy),
        lambda: symmetries(model, wrong),
        lambda: align(model, model, wrong),
        lambda: random_equivalent(model, wrong),
    ):
        with pytest.raises(TypeError, match=message):
            function()
