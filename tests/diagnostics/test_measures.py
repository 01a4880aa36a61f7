"""Measures of trained models, against closed forms and independent computations."""

import copy
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn
from torch.nn import functional

from geomprobe import Samples, Trajectory
from geomprobe.diagnostics import (
    TrainedModel,
    augmentation_error,
    davies_bouldin,
    gradient_statistics,
    kernel_complexity,
    layer_norms,
    margin,
    margins,
    measure,
    mixup_error,
    noise_error,
    output_entropy,
    pac_bayes,
    parameter_norm,
    path_norm,
    power_law,
    takeuchi_penalty,
    trajectory_measures,
    weighted_alpha,
)
from geomprobe.diagnostics.combinations import COMBINATIONS
from geomprobe.diagnostics.measures import BASELINES, GROUPS, MEASURES
from geomprobe.information import fisher_trace, ntk, tic
from geomprobe.tropical import local_complexity


def linear(matrix, bias=None):
    matrix = torch.tensor(matrix, dtype=torch.float32)
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(matrix)
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3))


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    return Samples(torch.randn(40, 6, generator=generator), torch.arange(40) % 3)


def rescaled(model):
    """The same function: every hidden unit times a factor, undone by the layer after it."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for first, second in ((0, 2), (2, 4)):
            factor = torch.linspace(0.2, 4, len(other[first].weight))
            other[first].weight.mul_(factor[:, None])
            other[first].bias.mul_(factor)
            other[second].weight.div_(factor)
    return other


# --- norms ------------------------------------------------------------------------------------


def test_norms_of_a_network_by_hand():
    model = nn.Sequential(linear([[2.0, 0], [0, 1]]), nn.ReLU(), linear([[3.0, 0], [0, 1]]))
    data = Samples(torch.zeros(1, 2))
    norms = layer_norms(model, data)
    assert norms.log_product_spectral().value == pytest.approx(math.log(4 * 9))
    assert norms.log_product_spectral(0.5).value == pytest.approx(math.log(4 * 9 / 0.25))
    assert norms.log_product_frobenius().value == pytest.approx(math.log(5 * 10))
    assert norms.frobenius_over_spectral().value == pytest.approx(5 / 4 + 10 / 9)
    assert parameter_norm(model).value == pytest.approx(15**0.5)
    initial = {"0.weight": torch.zeros(2, 2), "2.weight": model[2].weight.detach().clone()}
    assert parameter_norm(model, initial).value == pytest.approx(5**0.5)
    # Squared paths: 4 * 9 to the first output, 1 * 1 to the second.
    assert path_norm(model, data).value == pytest.approx(37)
    assert path_norm(model, data, 2.0).value == pytest.approx(37 / 4)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(2, 3, 5, stride=2, padding=2), (2, 11)),
        (nn.Conv2d(2, 4, 3, padding=1, groups=2, bias=False), (2, 5, 6)),
    ],
)
def test_spectral_norm_of_a_convolution_is_that_of_its_matrix(layer, shape):
    size = math.prod(shape)
    basis = torch.eye(size).view(size, *shape)
    with torch.no_grad():
        matrix = (layer(basis) - layer(torch.zeros(1, *shape))).flatten(1).T
    expected = float(torch.linalg.matrix_norm(matrix, 2))
    found = layer_norms(nn.Sequential(layer, nn.Flatten()), Samples(torch.zeros(1, *shape)))
    assert math.sqrt(found.spectral["0"]) == pytest.approx(expected, rel=1e-5)


def test_spectral_norm_with_circular_padding_is_that_of_sedghi_et_al():
    """Sedghi, Gupta and Long (2019), theorem 6: the largest over frequencies."""
    layer = nn.Conv1d(3, 2, 3, padding=1, padding_mode="circular")
    kernel = layer.weight.detach().double().numpy()
    transformed = np.fft.fft(kernel, 8, axis=2)
    expected = max(np.linalg.norm(transformed[:, :, f], 2) for f in range(8))
    found = layer_norms(nn.Sequential(layer, nn.Flatten()), Samples(torch.zeros(1, 3, 8)))
    assert math.sqrt(found.spectral["0"]) == pytest.approx(expected, rel=1e-6)


def test_models_whose_layers_do_not_multiply_are_refused_by_name(data):
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).eval()
    with pytest.raises(ValueError, match=r"also 1, .*Fold batch norm"):
        layer_norms(model, data)
    found, _ = measure(TrainedModel(model, data), ["layers"])
    assert "batch norm" in found["path_norm"].note
    assert found["parameter_norm"].exact


# --- what rescaling the units of a ReLU network leaves as it is ----------------------------------


def test_measures_of_the_function_do_not_change_with_its_parametrization(network, data):
    other = rescaled(network)
    same = {
        "path norm": lambda m: path_norm(m, data).value,
        "Fisher-Rao": lambda m: gradient_statistics(m, data).fisher_rao.value,
        "mixup": lambda m: mixup_error(m, data).value,
        "noise": lambda m: noise_error(m, data).value,
        "local complexity": lambda m: local_complexity(m, data).total.value,
    }
    for name, value in same.items():
        assert value(other) == pytest.approx(value(network), rel=1e-4), name
    for changed in (
        lambda m: layer_norms(m, data).log_product_spectral().value,
        lambda m: gradient_statistics(m, data).fisher_trace.value,
    ):
        assert changed(other) != pytest.approx(changed(network), rel=0.01)


# --- outputs -----------------------------------------------------------------------------------


def test_margins_and_their_quantile():
    outputs = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]], dtype=torch.float64)
    assert margins(outputs, torch.tensor([0, 1])).tolist() == [2.0, -3.0]
    many = torch.stack([torch.arange(1.0, 101), torch.zeros(100)], dim=1)
    assert margin(many, torch.zeros(100, dtype=torch.long)).value == 10.0
    wrong = margin(many, torch.ones(100, dtype=torch.long))
    assert math.isnan(wrong.value)
    assert "misclassified" in wrong.note


def test_entropy_of_even_outputs_is_that_of_the_classes():
    assert output_entropy(torch.zeros(5, 7)).value == pytest.approx(math.log(7))


# --- PAC-Bayes -------------------------------------------------------------------------------


def two_outputs(first, second):
    """A model of two weights, which errs on its only input where noise makes the second larger."""
    return linear([[first], [second]]), Samples(torch.ones(50, 1), torch.zeros(50).long())


def test_noise_is_of_the_standard_deviation_that_is_reported():
    """The difference of two weights with noise is N(w1 - w2, 2 sigma^2): it is below 0 in 10 %."""
    model, data = two_outputs(0.5, 0.1)
    found = pac_bayes(model, data, draws=150)
    expected = 0.4 / (2**0.5 * norm.ppf(0.9))
    assert found.sigma.value == pytest.approx(expected, rel=0.3)
    assert abs(found.sigma.value - expected) < 4 * found.sigma.stderr
    assert found.sigma.stderr / expected == pytest.approx((0.09 / 150) ** 0.5 / 0.225, rel=0.5)
    assert found.flatness.value == pytest.approx(found.sigma.value**-2)


def test_noise_in_proportion_to_the_weights():
    model, data = two_outputs(0.5, 0.1)
    found = pac_bayes(model, data, magnitude=True, draws=150)
    # N(w1 - w2, sigma^2 (w1^2 + w2^2)), but for epsilon.
    assert found.sigma.value == pytest.approx(0.4 / (0.26**0.5 * norm.ppf(0.9)), rel=0.3)


@pytest.mark.parametrize("magnitude", [False, True])
def test_bounds_are_half_the_divergence_of_the_noise_from_its_prior(magnitude):
    model, data = two_outputs(0.5, 0.1)
    initial = {"weight": torch.tensor([[0.2], [-0.1]])}
    found = pac_bayes(model, data, initial, magnitude=magnitude, draws=50)
    w, s = np.array([0.5, 0.1]), found.sigma.value
    for bound, centre in ((found.orig, np.zeros(2)), (found.init, np.array([0.2, -0.1]))):
        square = (w - centre) ** 2
        if magnitude:
            variance = 1e-6 + s**2 * w**2
            prior = (variance + square).mean()
            # KL(N(w, variance) | N(centre, prior)), a sum over the two parameters.
            divergence = (
                0.5 * ((variance + square) / prior - 1 + np.log(prior) - np.log(variance)).sum()
            )
        else:
            divergence = (square / (2 * s**2)).sum()
        assert bound.value == pytest.approx(divergence / 2 + math.log(50 / s) + 10, rel=1e-6)


def test_noise_is_the_same_again_and_a_model_that_cannot_be_moved_has_none(network, data):
    assert pac_bayes(network, data, draws=3) == pac_bayes(network, data, draws=3)
    model, all_right = two_outputs(0.0, 0.0)
    # A tie goes to the first class; noise of any size errs in half of the draws.
    found = pac_bayes(model, all_right, draws=20)
    assert "no noise" in found.orig.note
    with pytest.raises(ValueError, match="draws"):
        pac_bayes(network, data, draws=1)


# --- gradients ---------------------------------------------------------------------------------


def test_gradient_statistics_by_a_loop_over_samples(network, data):
    gradients = []
    for x, y in zip(data.inputs, data.targets, strict=True):
        loss = functional.cross_entropy(network(x[None]), y[None])
        parts = torch.autograd.grad(loss, list(network.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]).double())
    each = torch.stack(gradients)
    found = gradient_statistics(network, data)
    assert found.moment_trace.value == pytest.approx(float(each.square().sum() / 40), rel=1e-4)
    assert found.noise.value == pytest.approx(float(each.var(dim=0, correction=0).sum()), rel=1e-4)
    trace = fisher_trace(network, data, loss=functional.cross_entropy).value
    assert found.fisher_trace.value == pytest.approx(trace, rel=1e-5)
    assert found.ratio.value == pytest.approx(found.moment_trace.value / trace, rel=1e-5)


def test_fisher_rao_norm_of_a_network_without_biases(data):
    """Liang et al. (2019), theorem 3.1: L^2 E <dl/df, f>^2 for L layers."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)
    ).double()
    samples = Samples(data.inputs.double(), data.targets)
    with torch.no_grad():
        outputs = model(samples.inputs)
    p = outputs.softmax(dim=1)
    along = p[:, None] @ outputs[:, :, None] - outputs[:, :, None]
    expected = 4 * (p * along[:, :, 0].square()).sum(dim=1).mean()
    found = gradient_statistics(model, samples).fisher_rao
    assert found.value == pytest.approx(float(expected), rel=1e-6)


# --- classes and inputs -------------------------------------------------------------------------


def test_davies_bouldin_by_hand():
    # Two pairs at distance 2 around centres 10 apart: (1 + 1) / 10.
    assert davies_bouldin([[0.0], [2.0], [10.0], [12.0]], [0, 0, 1, 1]).value == pytest.approx(0.2)
    assert "two classes" in davies_bouldin([[0.0], [2.0]], [0, 0]).note


class Hill(nn.Module):
    """Class 1 around the origin, class 0 on both sides of it."""

    def forward(self, x):
        return torch.cat([x.abs() - 0.5, torch.zeros_like(x)], dim=1)


def test_mixup_error_is_the_share_of_midpoints_across_a_hill():
    data = Samples(torch.tensor([[-1.0], [1.0], [0.0], [0.0]]), torch.tensor([0, 0, 1, 1]))
    found = mixup_error(Hill(), data)
    # Of class 0 the one pair meets on the hill; the midpoints of class 1 stay there.
    assert abs(found.value - 0.5) < 4 * found.stderr
    single = Samples(torch.tensor([[-1.0], [0.0]]), torch.tensor([0, 1]))
    assert "no class has two" in mixup_error(Hill(), single).note


def test_noise_error_of_a_threshold():
    """Inputs at -1 and 1, whose deviation is 1: noise of one deviation crosses 0 in Phi(-1)."""
    classes = torch.tensor([0, 1]).repeat(2000)
    data = Samples(2.0 * classes[:, None] - 1, classes)
    found = noise_error(linear([[-1.0], [1.0]]), data, share=1.0)
    assert abs(found.value - norm.cdf(-1)) < 4 * found.stderr


def test_augmentation_error_is_that_of_the_moved_inputs():
    data = Samples(torch.tensor([[-1.0], [1.0], [0.0], [0.0]]), torch.tensor([0, 0, 1, 1]))
    assert augmentation_error(Hill(), data, lambda x, generator: -x).value == 0
    # Moved by one, -1 and both zeros change their side of the hill.
    assert augmentation_error(Hill(), data, lambda x, generator: x + 1).value == 0.75


# --- tails -------------------------------------------------------------------------------------


def test_the_exponent_and_the_beginning_of_a_known_tail():
    generator = np.random.default_rng(0)
    tail = 2 * (1 - generator.random(3000)) ** (-1 / 1.5)  # Density of exponent 2.5 from 2 on.
    found = power_law(np.concatenate([tail, generator.uniform(0.1, 2, 1000)]))
    assert abs(found.alpha.value - 2.5) < 4 * found.alpha.stderr
    assert found.smallest == pytest.approx(2, rel=0.3)


def test_a_tail_is_that_of_the_package_powerlaw():
    """What powerlaw 2.0.0 prints of these numbers."""
    sample = (1 - np.random.default_rng(0).random(400)) ** (-1 / 1.5)
    found = power_law(sample)
    assert found.alpha.value == pytest.approx(2.3836058398964033)
    assert found.smallest == pytest.approx(1.2792483812609186)
    assert found.distance == pytest.approx(0.023876256143757768)


def test_small_layers_have_no_exponent(network):
    assert "none of 3 layers has 100" in weighted_alpha(network).note
    torch.manual_seed(0)
    large = nn.Sequential(nn.Linear(150, 120), nn.ReLU(), nn.Linear(120, 3))
    values = torch.linalg.svdvals(large[0].weight.detach().double()).square().numpy()
    expected = power_law(values).alpha.value * math.log10(values.max())
    assert weighted_alpha(large).value == pytest.approx(expected, rel=1e-6)


# --- iterates ----------------------------------------------------------------------------------


def test_the_tree_of_a_straight_path_is_its_length():
    points = np.arange(60.0)[:, None] * np.array([[3.0, 4.0]])
    losses = np.abs(points) / 10
    steps = [None, *59 * [5.0]]
    path = Trajectory(points, np.arange(60), np.zeros(60), {"step_norms": steps}, losses)
    found = trajectory_measures(path, 100)
    assert found["trajectory_length"].value == pytest.approx(59 * 5)
    assert found["e1_euclidean"].value == pytest.approx(59 * 5)
    assert found["e1_by_diameter_euclidean"].value == pytest.approx(1)
    assert found["e1_loss"].value == pytest.approx(59 * 0.35)
    assert found["ph_dimension_euclidean"].value == pytest.approx(1, abs=0.2)
    assert found["positive_magnitude_euclidean"].value == pytest.approx(60)
    assert "not recorded" in found["e1_zero_one"].note


# --- kernels -----------------------------------------------------------------------------------


def test_complexity_of_labels_along_an_eigenvector_is_over_its_eigenvalue():
    """K = a 1 1^T / n + b v v^T + c (the rest), with v the indicator of one class less its mean."""
    n, classes = 8, np.arange(8) % 2
    v = np.where(classes == 0, 1.0, -1.0) / n**0.5
    ones = np.ones(n) / n**0.5
    rest = np.eye(n) - np.outer(v, v) - np.outer(ones, ones)
    kernel = 5 * np.outer(ones, ones) + 3 * np.outer(v, v) + 2 * rest
    scale = np.trace(kernel) / n
    # Both columns of Y are v times the root of n, over two.
    expected = 2 * (n / 4) / n / (3 / scale + 0.01)
    for factor in (1, 7):
        found = kernel_complexity(factor * kernel, classes, damping=0.01)
        assert found.value == pytest.approx(expected)
    assert "zero" in kernel_complexity(0 * kernel, classes).note


def test_penalty_of_a_linear_model_is_that_of_takeuchis_criterion():
    """With linear outputs the Hessian of the cross-entropy is the Fisher information."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    data = Samples(torch.randn(20, 4, dtype=torch.float64), torch.arange(20) % 3)
    kernel, outputs = ntk(model, data).matrix, model(data.inputs).detach().numpy()
    found = takeuchi_penalty(kernel, outputs, data.targets.numpy(), damping=0.05)
    expected = tic(model, data, loss=functional.cross_entropy, damping=0.05).penalty
    assert found.value == pytest.approx(expected.value, rel=1e-8)


def test_penalty_of_a_network_is_that_of_dense_matrices(network, data):
    network, few = network.double(), Samples(data.inputs[:9].double(), data.targets[:9])
    outputs = network(few.inputs)
    rows = torch.stack(
        [
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(o, network.parameters(), retain_graph=True)
                ]
            )
            for o in outputs.flatten()
        ]
    ).reshape(9, 3, -1)
    p, y = outputs.softmax(1), functional.one_hot(few.targets, 3)
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    fisher = torch.einsum("ncp,ncd,ndq->pq", rows, middle, rows) / 9
    slopes = torch.einsum("nc,ncp->np", p - y, rows)
    damped = fisher + 0.01 * torch.eye(len(fisher))
    expected = (slopes * torch.linalg.solve(damped, slopes.T).T).sum().item() / 9
    kernel = (rows.reshape(27, -1) @ rows.reshape(27, -1).T).detach().numpy()
    found = takeuchi_penalty(kernel, outputs.detach().numpy(), few.targets.numpy(), damping=0.01)
    assert found.value == pytest.approx(expected, rel=1e-8)
    with pytest.raises(ValueError, match="n classes"):
        takeuchi_penalty(kernel, outputs.detach().numpy(), few.targets[:4].numpy(), damping=0.01)


def test_balance_drifts_by_what_rescaling_a_unit_adds(network, data):
    """Doubling what enters a ReLU and halving what leaves it changes the network nowhere."""
    start = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        network[0].weight[0] *= 2
        network[0].bias[0] *= 2
        network[2].weight[:, 0] /= 2
    into = start["0.weight"][0].square().sum() + start["0.bias"][0] ** 2
    out = start["2.weight"][:, 0].square().sum()
    found = measure(TrainedModel(network, data, start), ["balance"])[0]["balance_drift"]
    # The second pair of layers has moved by what leaves the unit, a weight into each of its units.
    moved = (0.75 * start["2.weight"][:, 0].square()).norm()

    def size(first, second):
        weight, bias = start[f"{first}.weight"], start[f"{first}.bias"]
        out = start[f"{second}.weight"].square().sum(0).norm()
        return weight.square().sum(1).norm() + bias.square().norm() + out

    expected = float((3 * into + 0.75 * out) / size(0, 2) + moved / size(2, 4)) / 2
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert "not known" in measure(TrainedModel(network, data), ["balance"])[0]["balance_drift"].note


# --- the registry ------------------------------------------------------------------------------


def test_every_measure_is_taken_or_says_why_not_and_the_model_stays(network, data):
    network.eval()
    before = copy.deepcopy(network.state_dict())
    stream = torch.get_rng_state()
    initial = {name: torch.zeros_like(value) for name, value in before.items()}
    found, seconds = measure(TrainedModel(network, data, initial))
    assert [*found] == [*MEASURES]
    assert [*seconds] == [group.name for group in GROUPS]
    missing = {name for name, one in found.items() if math.isnan(one.value)}
    assert missing >= {"learning_rate", "augmentation_error", "weighted_alpha", "e1_loss"}
    # Of an untrained network a tenth of the samples is misclassified.
    of_margin = {name for name in found if "margin" in name}
    of_path = {one.name for one in GROUPS[-1].measures}
    constants = {"learning_rate", "batch_size", "batch_over_rate", "steps"}
    assert missing <= of_margin | of_path | constants | {
        "augmentation_error",
        "weighted_alpha",
        *(name for name in found if name.startswith("pac_bayes")),
        "alpha_req_from_one",
    }
    assert torch.equal(stream, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_signs_are_declared_and_baselines_are_measures():
    assert {one.sign for one in MEASURES.values()} == {-1, 1}
    assert {*BASELINES} < {*MEASURES}
    assert len(MEASURES) == sum(len(group.measures) for group in GROUPS) + len(COMBINATIONS)
    with pytest.raises(ValueError, match="no group of measures"):
        measure(TrainedModel(*two_outputs(0.5, 0.1)), ["odd"])


def test_a_measure_needs_classes():
    with pytest.raises(ValueError, match="one class a sample"):
        TrainedModel(nn.Linear(1, 2), Samples(torch.zeros(2, 1), torch.zeros(2)))


def test_the_documentation_has_every_measure_with_its_sign():
    page = Path(__file__).parents[2] / "docs" / "score_cards.md"
    rows = re.findall(r"^\| `(\w+)` \| ([+-]) \| (.*) \| (.*) \|$", page.read_text("utf-8"), re.M)
    in_groups = [
        one
        for group in sorted(GROUPS, key=lambda group: not group.baseline)
        for one in group.measures
    ]
    combined = [MEASURES[one.name] for one in COMBINATIONS]
    assert rows == [
        (one.name, "+" if one.sign > 0 else "-", one.formula, one.source)
        for one in in_groups + combined
    ]
