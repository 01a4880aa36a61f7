"""Implicit bias, judged by scikit-learn's support vector machines and by theorems."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.svm import SVC, LinearSVC
from torch import nn
from torch.nn import functional as F

from geomprobe import Samples
from geomprobe.dynamics import (
    homogeneity_degree,
    margin_growth,
    margins,
    max_margin,
    minimum_norm,
    path_norm,
    tangent_features,
)
from geomprobe.dynamics.margins import margins_of


def separable(n=30, d=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    points = rng.normal(size=(n, d))
    points[:, 0] = (2 * labels - 1) * (0.5 + rng.uniform(size=n))
    return points, labels


def degrees(a, b):
    a, b = np.ravel(a), np.ravel(b)
    return np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


def test_the_largest_margin_is_that_of_scikit_learn():
    x, y = separable()
    found = max_margin(x, y)
    # Without an intercept, as here: the points and their mirror images.
    machine = SVC(kernel="linear", C=1e8, tol=1e-8).fit(np.r_[x, -x], np.r_[y, 1 - y])
    assert degrees(found.weights, machine.coef_) < 0.01
    assert found.margin == pytest.approx(1 / np.linalg.norm(machine.coef_), rel=1e-4)
    assert np.min((2 * y - 1) * (x @ found.weights)) == pytest.approx(1, abs=1e-9)
    assert 1 <= len(found.support) <= 5


def test_of_three_classes_too():
    rng = np.random.default_rng(1)
    centres = np.array([[3.0, 0], [-2, 2.5], [-2, -2.5]])
    y = np.arange(30) % 3
    x = centres[y] + 0.5 * rng.normal(size=(30, 2))
    found = max_margin(x, y)
    machine = LinearSVC(
        multi_class="crammer_singer", C=1e5, fit_intercept=False, tol=1e-8, max_iter=10**6
    ).fit(x, y)
    # Crammer and Singer's machine is the same but for what is common to all classes.
    other = machine.coef_ - machine.coef_.mean(axis=0)
    assert found.angle(other) < 0.1


def test_classes_that_cannot_be_separated_are_refused():
    x, y = separable()
    with pytest.raises(ValueError, match="no linear classifier"):
        max_margin(np.r_[x, x[:1]], np.r_[y, 1 - y[:1]])


def logistic(x, y, marks):
    """States of full-batch gradient descent at some steps."""
    model = nn.Linear(x.shape[1], 1, bias=False).double()
    nn.init.zeros_(model.weight)
    data = Samples(torch.from_numpy(x), torch.from_numpy(y))
    states, w = [], np.zeros(x.shape[1])
    signed = (2 * y - 1)[:, None] * x
    for step in range(1, marks[-1] + 1):
        w += 3 * (signed / (1 + np.exp(signed @ w))[:, None]).mean(axis=0)
        if step in marks:
            states.append({"weight": torch.from_numpy(w[None].copy())})
    return model, data, states


def test_logistic_regression_goes_to_the_support_vector_machine_as_one_over_log_t():
    x, y = separable()
    marks = np.unique(np.geomspace(10, 30000, 24).astype(int)).tolist()
    model, data, states = logistic(x, y, marks)
    best = max_margin(x, y)
    angles = np.array([best.angle(one["weight"][0]) for one in states])
    assert (np.diff(angles[-12:]) < 0).all()
    # Soudry et al. (2018), theorem 3: w = log(t) w_svm + O(1).
    last, before = (states[k]["weight"][0].numpy() for k in (-1, -8))
    gained = (last - before) / np.log(marks[-1] / marks[-8])
    assert degrees(gained, best.weights) < 1
    assert np.linalg.norm(gained) == pytest.approx(1 / best.margin, rel=0.1)
    found = margin_growth(model, data, states, marks)
    assert found.degree == pytest.approx(1)
    assert (np.diff(found.normalized[-10:]) > 0).all()
    assert found.normalized[-1] < best.margin
    late = margin_growth(model, data, states[-12:], marks[-12:])
    assert late.slope.value == pytest.approx(1, abs=0.15)
    low, high = late.interval
    assert low < late.slope.value < high
    assert found.to_last[-1] == pytest.approx(0, abs=1e-4)


def test_margins_by_hand():
    model = nn.Identity()
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]])
    assert margins(model, Samples(logits, torch.tensor([0, 1]))).tolist() == [2.0, -3.0]
    single = Samples(torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 0]))
    assert margins(model, single).tolist() == [2.0, 1.0]
    with pytest.raises(ValueError, match="class numbers below 3"):
        margins(model, Samples(logits, torch.tensor([0, 3])))


def deep(*biases):
    torch.manual_seed(0)
    sizes = [(4, 6), (6, 6), (6, 3)]
    layers = [nn.Linear(*s, bias=b) for s, b in zip(sizes, biases, strict=True)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bias", [False, True])
def test_the_degree_is_the_number_of_layers(bias):
    # A bias of the first layer scales with its weights, as another input that is one.
    assert homogeneity_degree(deep(bias, False, False), Samples(X)) == pytest.approx(3)


@pytest.mark.parametrize(
    "model", [deep(True, True, True), nn.Sequential(nn.Linear(4, 4), nn.Tanh())]
)
def test_models_that_are_not_homogeneous_are_refused(model):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="not homogeneous"):
        homogeneity_degree(model, Samples(X))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_gradient_descent_on_squares_ends_at_the_smallest_norm():
    rng = np.random.default_rng(0)
    x, y, start = rng.normal(size=(5, 8)), rng.normal(size=5), rng.normal(size=8)
    w = start.copy()
    for _ in range(20000):
        w -= 0.05 * x.T @ (x @ w - y)
    np.testing.assert_allclose(minimum_norm(x, y, start=start), w, atol=1e-8)
    np.testing.assert_allclose(minimum_norm(x, y), np.linalg.pinv(x) @ y, atol=1e-10)


def test_tangent_features_are_the_gradients_of_each_output():
    model, data = deep(True, False, False).double(), Samples(X.double())
    features = tangent_features(model, data)
    assert features.shape == (36, 24 + 6 + 36 + 18)
    for row, value in zip(features, model(data.inputs).ravel(), strict=True):
        slopes = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
        np.testing.assert_allclose(row, torch.cat([s.ravel() for s in slopes]), atol=1e-12)


def test_the_path_norm_by_hand_and_under_rescaling():
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [2.0]]))
        model[0].bias.copy_(torch.tensor([3.0, 0.0]))
        model[2].weight.copy_(torch.tensor([[-1.0, 4.0]]))
        model[2].bias.fill_(5.0)
    # Paths: 1 * -1, 3 * -1, 2 * 4, and the last bias.
    assert path_norm(model, (1,)) == pytest.approx((1 + 9 + 64 + 25) ** 0.5)
    assert path_norm(model, (1,), p=1) == pytest.approx(1 + 3 + 8 + 5)
    with torch.no_grad():
        model[0].weight[0] *= 7
        model[0].bias[0] *= 7
        model[2].weight[:, 0] /= 7
    assert path_norm(model, (1,)) == pytest.approx(99**0.5)
    with pytest.raises(ValueError, match="'1' \\(Tanh\\)"):
        path_norm(nn.Sequential(nn.Linear(1, 1), nn.Tanh()), (1,))


def test_the_margin_of_a_trained_network_grows():
    model = deep(False, False, False)
    labels = X[:, 0].gt(0).long()
    data = Samples(X, labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    states, marks = [], []
    for step in range(1, 1001):
        optimizer.zero_grad()
        F.cross_entropy(model(X), labels).backward()
        optimizer.step()
        if step % 50 == 0:
            states.append(copy.deepcopy(model.state_dict()))
            marks.append(step)
    found = margin_growth(model, data, states, marks)
    assert found.degree == pytest.approx(3)
    assert found.smallest[-1] > 0
    # Lyu and Li (2020), theorem 4.1, once all samples are right.
    assert (np.diff(found.normalized[found.smallest > 1]) > 0).all()
    np.testing.assert_allclose(found.smallest[-1], margins(model, data).min(), rtol=1e-4)


def test_bad_input_is_refused():
    model = deep(False, False, False)
    with pytest.raises(ValueError, match="2 states and 1 steps"):
        margin_growth(model, Samples(X, torch.zeros(12)), [{}, {}], [1])
    with pytest.raises(ValueError, match="do not fit"):
        minimum_norm(np.ones((3, 2)), np.ones(4))
    with pytest.raises(ValueError, match="two classes or more"):
        max_margin(np.ones((3, 2)), np.zeros(3))


class Written(nn.Module):
    """Two layers, with functions between."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second, self.between = nn.Linear(3, 4), nn.Linear(4, 2), between

    def forward(self, x):
        return self.second(self.between(self.first(x)))


@pytest.mark.parametrize(
    ("between", "match"),
    [
        (torch.tanh, "tanh is called"),
        (lambda h: h + 1, "add is called"),
        (lambda h: h if h.sum() > 0 else -h, r"cannot follow the model, .*TraceError"),
    ],
)
def test_the_path_norm_refuses_functions_that_have_no_paths(between, match):
    with pytest.raises(ValueError, match=match):
        path_norm(Written(between), (3,))


def test_the_path_norm_follows_functions_as_modules():
    model = Written(lambda h: F.relu(h).view(h.size(0), -1))
    as_modules = nn.Sequential(model.first, nn.ReLU(), nn.Flatten(), model.second)
    assert path_norm(model, (3,)) == path_norm(as_modules, (3,))
    with torch.no_grad():
        model.second.bias.zero_()
    double = Written(lambda h: F.relu(h) + F.relu(h))
    double.first, double.second = model.first, model.second
    assert path_norm(double, (3,), p=1) == pytest.approx(2 * path_norm(model, (3,), p=1))


def test_logits_that_are_no_numbers_are_told_of():
    logits = torch.tensor([[0.0, 1.0], [math.nan, 0.0], [-math.inf, 2.0]])
    with pytest.raises(ValueError, match="logits of 1 of 3 samples are not numbers"):
        margins_of(logits, torch.tensor([0, 1, 1]))


def test_a_tiny_margin_is_told_from_none():
    x = np.array([[1e6, 1.0], [1e6, -1.0]])
    with pytest.raises(ValueError, match=r"margin is below 1e-5 .* centre or rescale"):
        max_margin(x, [1, -1])
    # Rescaled: the bisector of two points and their mirror images, at a distance of one.
    assert max_margin(x / [1e6, 1], [1, -1]).margin == pytest.approx(1)
    with pytest.raises(ValueError, match="no linear classifier"):
        max_margin(np.vstack([x, x]), [1, -1, -1, 1])


def test_data_that_are_no_samples_are_refused():
    model, x = nn.Linear(3, 2), torch.randn(6, 3)
    loader = torch.utils.data.DataLoader(x)
    for look in (margins, homogeneity_degree, tangent_features):
        with pytest.raises(TypeError, match=r"must be Samples.*got DataLoader"):
            look(model, loader)
        with pytest.raises(TypeError, match=r"inputs must be tensors.*got ndarray"):
            look(model, Samples(x.numpy()))
    with pytest.raises(TypeError, match=r"targets must be tensors.*got ndarray"):
        margins(model, Samples(x, np.zeros(6)))
