"""Kinds of layers, times meanings of their outputs, times precisions, against dense Jacobians."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from geomprobe import Samples
from geomprobe.information import (
    Bernoulli,
    Gaussian,
    Softmax,
    fisher_eigenpairs,
    fisher_gram,
    fisher_sketch,
    fisher_trace,
    ntk,
)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class First(nn.Module):
    """What a module returns first, as a recurrent one or attention does."""

    def __init__(self, module, copies=1):
        super().__init__()
        self.module, self.copies = module, copies

    def forward(self, x):
        return self.module(*[x] * self.copies)[0]


class Table(nn.Module):
    """A bag of rows, and a product of two of its own outputs."""

    def __init__(self):
        super().__init__()
        self.bag, self.both = nn.EmbeddingBag(7, 4, mode="mean"), nn.Bilinear(4, 4, 3)

    def forward(self, tokens):
        x = self.bag(tokens)
        return self.both(torch.tanh(x), x)


class TiedLayers(nn.Module):
    """One weight in two modules, one of them used twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.head(torch.tanh(self.b(torch.tanh(self.a(torch.tanh(self.a(x)))))))


class Adapted(nn.Module):
    """A frozen weight with a trained one of low rank beside it."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(4, 3).requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(3, 2))

    def forward(self, x):
        return self.base(x) + x @ self.down.T @ self.up.T


def headed(*layers, features):
    return nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.Linear(features, 3))


def seen(norm, *shape):
    """A norm whose running statistics are not trivial."""
    norm(torch.randn(20, *shape) * 2 + 1)
    return norm


def running_instance_norm():
    return seen(nn.InstanceNorm1d(2, affine=True, track_running_stats=True), 2, 5)


GRID = {
    "linear": lambda: (headed(nn.Linear(5, 4), features=4), (5,)),
    "convolution in one dimension": lambda: (
        headed(nn.Conv1d(2, 4, 3, dilation=2, groups=2), features=12), (2, 7)),
    "convolution in two": lambda: (
        headed(nn.Conv2d(2, 3, (2, 3), stride=(1, 2), padding=1), features=45), (2, 4, 5)),
    "convolution in three": lambda: (headed(nn.Conv3d(1, 2, 2), features=16), (1, 3, 3, 3)),
    "transposed convolution in three": lambda: (
        headed(nn.ConvTranspose3d(2, 4, 2, stride=(1, 2, 1), groups=2), features=72),
        (2, 2, 1, 2)),
    "layer norm": lambda: (headed(nn.LayerNorm(5), features=5), (5,)),
    "root mean square norm": lambda: (headed(nn.RMSNorm((2, 3)), features=6), (2, 3)),
    "group norm": lambda: (headed(nn.GroupNorm(2, 4), features=20), (4, 5)),
    "batch norm of vectors": lambda: (headed(seen(nn.BatchNorm1d(5), 5), features=5), (5,)),
    "batch norm of volumes": lambda: (
        headed(seen(nn.BatchNorm3d(2), 2, 2, 2, 2), features=16), (2, 2, 2, 2)),
    "instance norm": lambda: (
        headed(nn.InstanceNorm2d(2, affine=True), features=12), (2, 2, 3)),
    "instance norm with running statistics": lambda: (
        headed(running_instance_norm(), features=10), (2, 5)),
    "attention": lambda: (
        headed(First(nn.MultiheadAttention(4, 2, batch_first=True), 3), features=12), (3, 4)),
    "recurrent": lambda: (headed(First(nn.RNN(4, 3, batch_first=True)), features=9), (3, 4)),
    "gated": lambda: (headed(First(nn.GRU(4, 3, batch_first=True)), features=9), (3, 4)),
    "long short-term": lambda: (
        headed(First(nn.LSTM(4, 2, batch_first=True, bidirectional=True)), features=12), (3, 4)),
    "learned slopes": lambda: (nn.Sequential(nn.Linear(5, 4), nn.PReLU(4), nn.Linear(4, 3)), (5,)),
    "spectral norm": lambda: (
        headed(parametrizations.spectral_norm(nn.Linear(5, 4)), features=4), (5,)),
    "weight norm": lambda: (
        headed(parametrizations.weight_norm(nn.Conv1d(2, 3, 2)), features=12), (2, 5)),
    "orthogonal": lambda: (
        headed(parametrizations.orthogonal(nn.Linear(4, 4)), features=4), (4,)),
    "tied": lambda: (TiedLayers(), (4,)),
    "adapted": lambda: (Adapted(), (4,)),
    "tables": lambda: (Table(), None),
}  # fmt: skip

#: What has no rule, by a part of its name in the route.
GRADIENTS = {
    "attention": "in_proj_weight",
    "recurrent": "weight_hh_l0",
    "gated": "weight_hh_l0",
    "long short-term": "weight_hh_l0_reverse",
    "learned slopes": "1.weight",
    "spectral norm": "original",
    "weight norm": "original1",
    "orthogonal": "original",
    "tied": "a.weight, a.bias, b.bias",
    "tables": "vmap",
    "adapted": "vmap",
}

LIKELIHOODS = {
    "softmax": (Softmax(), lambda f: torch.diag(f.softmax(0)) - torch.outer(*[f.softmax(0)] * 2)),
    "gaussian": (Gaussian(0.3), lambda f: torch.eye(len(f)).to(f) / 0.3),
    "bernoulli": (Bernoulli(), lambda f: torch.diag(f.sigmoid() * (1 - f.sigmoid()))),
}


def build(name, n=4):
    model, shape = GRID[name]()
    x = torch.randint(7, (n, 3)) if shape is None else torch.randn(n, *shape)
    return model.double(), Samples(x if shape is None else x.double())


def dense(model, data, output_fisher):
    """(1/N) sum_n J_n^T H_n J_n, each row of J_n by a backward pass of its own."""
    model.eval()
    owned = [p for p in model.parameters() if p.requires_grad]
    total = 0
    for one in data.batches(1):
        outputs = model(one.inputs)[0]
        rows = [
            torch.autograd.grad(y, owned, retain_graph=True, materialize_grads=True)
            for y in outputs
        ]
        jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        total = total + jacobian.T @ output_fisher(outputs.detach()) @ jacobian
    return (total / len(data)).numpy()


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("name", GRID)
def test_the_spectrum_is_that_of_the_dense_matrix(name, likelihood):
    model, data = build(name)
    model.eval()
    meaning, output_fisher = LIKELIHOODS[likelihood]
    gram = fisher_gram(model, data, likelihood=meaning)
    matrix = dense(model, data, output_fisher)
    assert gram.n_parameters == len(matrix)
    expected = np.linalg.eigvalsh(matrix)[::-1]
    found = np.zeros(max(len(expected), len(gram.gram)))
    found[: len(gram.gram)] = gram.spectrum()
    expected = np.pad(expected, (0, len(found) - len(expected)))
    np.testing.assert_allclose(found, expected, atol=1e-10 * expected[0], rtol=0)
    left = GRADIENTS.get(name)
    assert (left in gram.route) if left else (gram.route == "layer by layer")
    single = fisher_gram(
        model.float(), Samples(data.inputs.float() if name != "tables" else data.inputs),
        likelihood=meaning,
    )  # fmt: skip
    np.testing.assert_allclose(
        single.spectrum(), gram.spectrum(), rtol=1e-4, atol=1e-5 * expected[0]
    )


def test_an_estimated_variance_is_the_mean_squared_error():
    # F = I (x) E[z z^T] / s^2, with s^2 = mean (f(x) - y)^2.
    model = nn.Linear(4, 2).double()
    x, y = torch.randn(9, 4).double(), torch.randn(9, 2).double()
    gram = fisher_gram(model, Samples(x, y), likelihood=Gaussian(None))
    variance = float((model(x) - y).detach().square().mean())
    z = torch.cat([x, torch.ones(9, 1)], 1)
    assert gram.trace() == pytest.approx(2 * float(z.square().sum()) / 9 / variance, rel=1e-12)


# --- traps --------------------------------------------------------------------------------------


def test_statistics_of_the_batch_are_refused_with_the_reason():
    # Kept by no running average, they are taken from the batch also in evaluation mode.
    model = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 3)
    )
    with pytest.raises(ValueError, match=r"depend on the other samples or on chance.*statistics"):
        fisher_gram(model.eval(), Samples(torch.randn(9, 4)), likelihood=Softmax())


@pytest.mark.parametrize("ask", [fisher_gram, fisher_trace, fisher_eigenpairs, fisher_sketch, ntk])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.BatchNorm1d(5),
        lambda: nn.Dropout(0.1),
        lambda: nn.MultiheadAttention(5, 1, dropout=0.1),
        lambda: nn.LSTM(5, 5, num_layers=2, dropout=0.1),
    ],
)
def test_what_mixes_samples_or_is_random_in_training_mode_is_refused_there(layer, ask):
    model = nn.Sequential(nn.Linear(4, 5), layer())
    options = {} if ask is ntk else {"likelihood": Softmax()}
    with pytest.raises(ValueError, match=r"in training mode are 1 \(.*call model\.eval\(\) first"):
        ask(model, Samples(torch.randn(9, 4)), **options)
    assert model[1].training


def test_what_is_the_same_in_training_mode_is_looked_at_there():
    model = nn.Sequential(
        nn.Linear(4, 5), nn.LayerNorm(5), seen(nn.BatchNorm1d(5), 5).eval(), nn.Dropout(0.0)
    )
    data = Samples(torch.randn(9, 4))
    training = fisher_gram(model, data, likelihood=Softmax())
    assert model[0].training
    assert training == fisher_gram(model.eval(), data, likelihood=Softmax())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_rounding_is_never_counted_as_rank(dtype, precision):
    # A linear model of 3 classes on 40 inputs of 6 features: the rank is 2 * 7, of 80 rows.
    model, x = nn.Linear(6, 3).to(precision), torch.randn(40, 6, dtype=precision)
    gram = fisher_gram(model, Samples(x), likelihood=Softmax(), dtype=dtype)
    values = gram.spectrum()
    assert len(gram.significant()) == 14
    assert len(values) == 80
    assert np.abs(values[14:]).max() < gram.noise_floor < 1e-3 * values[13]


def test_a_certain_network_in_single_precision_has_a_finite_and_right_spectrum():
    # Peers take 1 - p of the winner for zero or less: NaN for the whole matrix, or nothing.
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5))
    with torch.no_grad():
        model[2].bias += torch.tensor([25.0, 0, 0, 0, 0])
    data = Samples(torch.randn(9, 4))
    single = fisher_gram(model, data, likelihood=Softmax())
    exact = fisher_gram(model.double(), Samples(data.inputs.double()), likelihood=Softmax())
    assert np.isfinite(single.gram).all()
    assert 0 < exact.trace() < 1e-8
    np.testing.assert_allclose(single.spectrum()[:5], exact.spectrum()[:5], rtol=1e-3)


def test_a_sequence_is_one_example_and_not_as_many_as_its_positions():
    # For a linear model of the mean of T equal positions, |d f / d b|^2 = 1; as T examples it
    # would be T (1 / T)^2 = 1 / T.
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.layer.weight.requires_grad_(False)

        def forward(self, x):
            return self.layer(x).mean(1)

    x = torch.randn(4, 1, 3).expand(4, 8, 3)
    gram = fisher_gram(Pooled(), Samples(x), likelihood=Gaussian())
    assert gram.route == "layer by layer"
    assert gram.trace() == pytest.approx(2.0, rel=1e-6)


def test_the_empirical_fisher_of_fitted_data_vanishes_and_the_true_one_does_not():
    # Kunstner et al. (2019): at zero residuals the empirical Fisher is zero, whatever F is.
    model, x = nn.Linear(3, 2).double(), torch.randn(6, 3).double()
    data = Samples(x, model(x).detach())
    empirical = fisher_gram(model, data, kind="empirical", likelihood=Gaussian())
    true = fisher_gram(model, data, likelihood=Gaussian())
    assert (empirical.kind, true.kind) == ("empirical", "true")
    assert empirical.trace() == pytest.approx(0, abs=1e-28)
    assert true.trace() > 1
    assert math.isfinite(true.noise_floor)
