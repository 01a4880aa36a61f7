"""Local learning coefficients of potentials and models whose own is known."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.information import (
    LocalLearningCoefficient,
    curvature,
    effective_parameters,
    learning_coefficient_grid,
    local_learning_coefficient,
)


class Potential(nn.Module):
    """A model whose loss is a function of its parameters alone."""

    def __init__(self, dimension, function):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(dimension, dtype=torch.float64))
        self.function = function

    def forward(self, x):
        return self.function(self.w).expand(len(x))


def mean_output(outputs, _):
    return outputs.mean()


NOTHING = Samples(torch.zeros(4, 1), torch.zeros(4))


def coefficient(dimension, function, **options):
    model = Potential(dimension, function)
    return local_learning_coefficient(model, NOTHING, loss=mean_output, **options)


def near(found, expected, bias=0.0):
    estimate = found.estimate
    assert abs(estimate.value - expected) < 3.5 * estimate.stderr + bias * expected, (
        estimate,
        expected,
    )
    assert estimate.stderr < 0.1 * expected


@pytest.mark.parametrize("d", [1, 5, 20])
def test_a_regular_minimum_of_d_dimensions_has_d_over_2(d):
    """Watanabe (2009): lambda = d / 2; the discretised quadratic has a closed form."""
    steepness = torch.linspace(1, 3, d, dtype=torch.float64)
    found = coefficient(
        d,
        lambda w: (steepness * w**2).sum() / 2,
        n_beta=100.0,
        localization=0.0,
        step=0.002,
        chains=256,
        draws=200,
        burn_in=50,
    )
    # An autoregression of variance 1 / (a (1 - step a / 4)) for a curvature of a.
    discrete = 0.5 / (1 - 0.002 * 100 * steepness.numpy() / 4)
    near(found, discrete.sum())
    assert found.r_hat < 1.1


def test_localization_counts_directions_as_mackay_does():
    """A direction of curvature h adds n beta h / (2 (n beta h + gamma))."""
    steepness = torch.tensor([10.0, 1.0, 0.1], dtype=torch.float64)
    found = coefficient(
        3,
        lambda w: (steepness * w**2).sum() / 2,
        n_beta=100.0,
        localization=100.0,
        chains=256,
        draws=300,
    )
    near(found, effective_parameters(steepness.numpy(), 100.0 / 100) / 2, bias=0.05)
    # From the largest curvature, and from the slowest direction.
    assert found.step == pytest.approx(0.2 / 1100, rel=0.1)
    assert found.burn_in == math.ceil(3 / (found.step * 100))


@pytest.mark.parametrize("k", [2, 3])
def test_a_power_of_2k_has_one_over_2k(k):
    """Watanabe (2009): lambda of w^(2 k) is 1 / (2 k); by the virial theorem at any temperature."""
    found = coefficient(
        1,
        lambda w: (w ** (2 * k)).sum(),
        n_beta=10.0,
        localization=0.0,
        step=0.005,
        chains=1024,
        draws=300,
        burn_in=150,
    )
    near(found, 1 / (2 * k), bias=0.03)


def test_a_product_of_squares_has_a_half_with_multiplicity_two():
    """Watanabe (2009): lambda of w1^2 w2^2 is 1/2, approached by one over a logarithm."""

    def expectation(n_beta, gamma=4.0):
        # w2 is Gaussian given w1, of precision 2 n beta w1^2 + gamma.
        def share(w):
            return 0.5 * 2 * n_beta * w**2 / (2 * n_beta * w**2 + gamma)

        def weight(w):
            return math.exp(-gamma * w**2 / 2) / math.sqrt(2 * n_beta * w**2 + gamma)

        edges = {"points": [0.0, 1 / math.sqrt(n_beta), -1 / math.sqrt(n_beta)], "limit": 500}
        above = quad(lambda w: share(w) * weight(w), -8, 8, **edges)[0]
        return above / quad(weight, -8, 8, **edges)[0]

    found = coefficient(
        2,
        lambda w: w[0] ** 2 * w[1] ** 2,
        n_beta=100.0,
        localization=4.0,
        step=2e-3,
        chains=1024,
        draws=300,
        burn_in=400,
    )
    near(found, expectation(100), bias=0.03)
    # Closer to a half by one over the logarithm.
    assert (0.5 - expectation(1e8)) * math.log(1e8) == pytest.approx(
        (0.5 - expectation(1e12)) * math.log(1e12), rel=0.1
    )


@pytest.mark.long
def test_reduced_rank_regression():
    """Aoyagi and Watanabe (2005), main theorem, case 1: 3 inputs, 2 hidden, 2 outputs, rank 1."""
    inputs, hidden, outputs, rank = 3, 2, 2, 1
    s = hidden + rank
    known = -(s**2) - inputs**2 - outputs**2
    known = (known + 2 * (s * inputs + s * outputs + inputs * outputs)) / 8
    assert known == 2.5  # of 10 parameters
    x = torch.linalg.qr(torch.randn(30, 3, dtype=torch.float64)).Q * 30**0.5
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        for layer in model:
            layer.weight.zero_()
            layer.weight[0, 0] = 1.0
    data = Samples(x, model(x).detach())
    found = local_learning_coefficient(
        model,
        data,
        loss=lambda f, y: ((f - y) ** 2).sum(1).mean() / 2,
        n_beta=3e3,
        localization=1.0,
        step=4e-5,
        chains=256,
        draws=1500,
        burn_in=1500,
    )
    assert abs(found.estimate.value - known) < 0.15
    assert found.estimate.stderr < 0.03


def linear_regression(n=200):
    torch.manual_seed(0)
    x = torch.randn(n, 4, dtype=torch.float64)
    y = x @ torch.tensor([[1.0], [2.0], [0.0], [-1.0]]).double() + torch.randn(n, 1).double()
    model = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    return model, Samples(x, y)


def half_square(outputs, targets):
    return ((outputs - targets) ** 2).mean() / 2


def test_linear_regression_in_closed_form():
    """The tempered posterior is Gaussian."""
    model, data = linear_regression()
    operator = curvature(model, data, loss=half_square)
    values = np.linalg.eigvalsh(operator.dense().numpy())
    found = local_learning_coefficient(
        model, data, loss=half_square, localization=5.0, chains=256, draws=150
    )
    assert found.n_beta == pytest.approx(200 / math.log(200))
    assert found.initial_loss == pytest.approx(half_square(model(data.inputs), data.targets).item())
    near(found, effective_parameters(values, 5.0 / found.n_beta) / 2, bias=0.05)


class Location(nn.Module):
    """A point, whose half squared distance from the data is the loss."""

    def __init__(self, at):
        super().__init__()
        self.at = nn.Parameter(at.clone())

    def forward(self, x):
        return x - self.at


def test_batches_change_neither_n_nor_the_answer_but_by_their_noise():
    """Of a mean, batches add their variance over 8 as a step of epsilon (n beta)^2 does."""
    torch.manual_seed(0)
    x = 3 * torch.randn(100, 2, dtype=torch.float64)
    batch_size, step, gamma, n_beta = 5, 0.02, 1.0, 100 / math.log(100)
    found = local_learning_coefficient(
        Location(x.mean(dim=0)),
        Samples(x, torch.zeros(100)),
        loss=lambda differences, _: (differences**2).sum(dim=1).mean() / 2,
        batch_size=batch_size,
        step=step,
        localization=gamma,
        chains=512,
        draws=100,
        burn_in=50,
    )
    assert found.n_beta == n_beta
    # An autoregression: w <- (1 - eta a) w + eta n beta (noise of the batch) + noise of step.
    eta, a = step / 2, n_beta + gamma
    noise = float(x.var(dim=0, correction=0).sum()) / batch_size
    variance = (eta**2 * n_beta**2 * noise + 2 * step) / (eta * a * (2 - eta * a))
    near(found, n_beta * variance / 2)
    assert found.batch_noise == pytest.approx(noise, rel=0.6)
    assert found.batch_bias == pytest.approx(step * n_beta**2 * found.batch_noise / 8)
    assert "by the noise of batches: take larger" in found.estimate.note


@pytest.mark.long
def test_the_stated_error_is_the_spread():
    """Over seeds, the estimates scatter as their standard errors say."""
    found = [
        coefficient(
            2,
            lambda w: (w**2).sum(),
            n_beta=50.0,
            localization=1.0,
            step=0.002,
            chains=8,
            draws=80,
            burn_in=30,
            seed=seed,
        ).estimate
        for seed in range(25)
    ]
    spread = np.std([one.value for one in found], ddof=1)
    stated = np.sqrt(np.mean([one.stderr**2 for one in found]))
    assert 0.6 < stated / spread < 1.6


class Branching(nn.Module):
    """What it does depends on its values, which vmap cannot follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        logits = self.layer(x)
        return 2 * logits if logits.sum() > 0 else logits


def test_the_model_is_left_as_it_was_and_the_seed_decides():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3)
    )
    model[4].bias.requires_grad_(False)
    data = Samples(torch.randn(30, 4), torch.randint(3, (30,)))
    state, stream = copy.deepcopy(model.state_dict()), torch.get_rng_state()

    def run(seed):
        return local_learning_coefficient(
            model,
            data,
            loss=nn.functional.cross_entropy,
            draws=20,
            burn_in=5,
            batch_size=8,
            seed=seed,
        )

    first = run(0)
    assert first == run(0)
    assert first != run(1)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert first.n_parameters == 4 * 6 + 6 + 12 + 6 * 3


def test_a_model_that_vmap_cannot_follow_takes_its_chains_in_turn():
    torch.manual_seed(0)
    data = Samples(torch.randn(12, 3), torch.randint(3, (12,)))
    branching, plain = Branching(), nn.Linear(3, 3)
    with torch.no_grad():
        branching.layer.bias.fill_(-10.0)
        plain.load_state_dict(branching.layer.state_dict())
    found, expected = (
        local_learning_coefficient(
            model,
            data,
            loss=nn.functional.cross_entropy,
            chains=2,
            draws=20,
            burn_in=0,
            localization=1e4,
            step=1e-5,
        )
        for model in (branching, plain)
    )
    np.testing.assert_allclose(found.gains, expected.gains, atol=1e-5)


def test_a_point_that_is_no_minimum_is_refused():
    model, data = linear_regression()
    with torch.no_grad():
        model.weight.add_(3.0)
    found = local_learning_coefficient(
        model, data, loss=half_square, localization=10.0, chains=2, draws=50
    )
    assert math.isnan(found.estimate.value)
    assert "not at a minimum" in found.estimate.note


def test_a_slope_that_is_too_small_to_refuse_is_told():
    """A Gaussian around w* - n beta g / a, of variance 1 / a, where a = n beta h + gamma."""
    n_beta, gamma, slope = 100.0, 50.0, 0.2
    found = coefficient(
        20,
        lambda w: (w**2).sum() / 4 + slope * w[0],
        n_beta=n_beta,
        localization=gamma,
        step=5e-4,
        chains=256,
        draws=100,
        burn_in=100,
    )
    a = n_beta / 2 + gamma
    shift = n_beta * slope / a
    expected = 20 * n_beta / 4 / a + n_beta * (shift**2 / 4 - slope * shift)
    near(found, expected, bias=0.03)
    assert found.slope_bias == pytest.approx(n_beta**2 * slope**2 / gamma)
    assert 20 * n_beta / 4 / a - expected < found.slope_bias
    assert "too small by up to 8, since the parameters are not at a minimum" in found.estimate.note


def test_a_coarse_step_that_gives_more_than_half_the_parameters_is_told():
    found = coefficient(
        5,
        lambda w: (w**2).sum() / 2,
        n_beta=100.0,
        localization=0.0,
        step=0.02,
        draws=100,
        burn_in=20,
        chains=16,
    )
    assert found.estimate.value == pytest.approx(5, rel=0.2)  # 5/2 over 1 - 1/2
    assert "more than half the number of parameters, 2.5" in found.estimate.note


def test_chains_that_diverge_are_refused():
    found = coefficient(2, lambda w: (w**4).sum(), n_beta=10.0, step=50.0, draws=50)
    assert math.isnan(found.estimate.value)
    assert "smaller step" in found.estimate.note


def test_chains_that_have_not_arrived_are_told():
    found = coefficient(
        3,
        lambda w: (w**2).sum(),
        n_beta=100.0,
        localization=0.0,
        step=5e-5,
        burn_in=0,
        draws=200,
        chains=64,
    )
    assert "still drift" in found.estimate.note
    assert found.drift > 3


def test_the_burn_in_is_no_part_of_the_mean():
    found, longer = (
        coefficient(
            2,
            lambda w: (w**2).sum(),
            n_beta=100.0,
            localization=1.0,
            step=1e-3,
            chains=3,
            burn_in=burn_in,
            draws=60 - burn_in,
        )
        for burn_in in (20, 0)
    )
    np.testing.assert_array_equal(found.gains, longer.gains[:, 20:])
    assert found.estimate.value == pytest.approx(100 * found.gains.mean())


def test_chains_that_disagree_are_told_by_split_r_hat():
    """Gelman et al. (2013), equations 11.3 and 11.4, on the halves of the chains."""
    gains = 5 + np.random.default_rng(0).normal(size=(3, 40)) + 2 * np.arange(3)[:, None]
    found = LocalLearningCoefficient(
        initial_loss=0.0,
        gains=gains,
        distances=np.ones((3, 40)),
        n_beta=1.0,
        step=1e-3,
        localization=1.0,
        burn_in=0,
        n_parameters=100,
        norm=1.0,
        squared_slope=0.0,
        batch_noise=0.0,
    )
    halves = np.concatenate([gains[:, :20], gains[:, 20:]])
    between = 20 * np.var(halves.mean(axis=1), ddof=1)
    within = np.var(halves, axis=1, ddof=1).mean()
    expected = math.sqrt((19 / 20 * within + between / 20) / within)
    assert found.r_hat == pytest.approx(expected)
    assert f"the chains disagree (R-hat {expected:.2f}): take more draws" in found.estimate.note


def test_a_grid_shows_where_the_step_matters():
    model, data = linear_regression()
    grid = learning_coefficient_grid(
        model,
        data,
        loss=half_square,
        steps=[2e-3, 2e-2],
        localizations=[1.0, 50.0],
        chains=256,
        draws=50,
        burn_in=50,
    )
    assert grid.values.shape == grid.stderrs.shape == grid.r_hats.shape == (2, 2)
    # More localization, less of each direction; a coarse step, more.
    assert (grid.values[:, 1] < grid.values[:, 0]).all()
    assert (grid.values[1] > 1.1 * grid.values[0]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chains": 1}, "at least 2 chains"),
        ({"draws": 5}, "20 draws"),
        ({"step": 0.0}, "step must be positive"),
        ({"n_beta": math.inf}, "n_beta must be positive"),
        ({"localization": -1.0}, "localization must be finite and not negative"),
        ({"localization": math.inf}, "localization must be finite"),
        ({"burn_in": -1}, "burn_in that is not negative"),
        ({"loss": nn.MSELoss(reduction="sum")}, "grows with the number of samples"),
    ],
)
def test_bad_input(change, message):
    model, data = linear_regression(20)
    with pytest.raises(ValueError, match=message):
        local_learning_coefficient(model, data, **({"loss": half_square} | change))


def test_too_few_samples_for_a_temperature():
    model, data = linear_regression(2)
    with pytest.raises(ValueError, match="at least 3 samples"):
        local_learning_coefficient(model, data, loss=half_square)


def test_no_curvature_and_no_localization_give_no_step():
    with pytest.raises(ValueError, match="give a step, or a localization above 0"):
        coefficient(2, lambda w: (w**4).sum(), localization=0.0)


def test_figures():
    from matplotlib import pyplot

    model, data = linear_regression(20)
    found = local_learning_coefficient(model, data, loss=half_square, draws=40, burn_in=5)
    assert found.plot().get_ylabel() == "loss"
    grid = learning_coefficient_grid(
        model, data, loss=half_square, steps=[1e-3], localizations=[1.0], draws=20, burn_in=5
    )
    assert grid.plot().get_xlabel() == "step"
    pyplot.close("all")
