"""Products with a Hessian or Gauss-Newton matrix, against dense matrices; what rests on them."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import hessian
from torch.func import functional_call, jacrev

from geomprobe.evidence import Samples
from geomprobe.information import (
    curvature,
    effective_parameters,
    fisher_gram,
    morse_index,
    spectral_density,
    stochastic_trace,
    tic,
    top_eigenpairs,
)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.used(x)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.head = nn.LSTM(3, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.cells(x)[0][:, -1])


def frozen_first():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    model[0].weight.requires_grad_(False)
    return model


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.Softplus(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(8, 3),
    )


def attention():
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.1, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 3))


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), (4,)),
    "convolutional": (convolutional, (1, 6, 6)),
    "attention": (attention, (3, 4)),
    "tied": (Tied, (3,)),
    "unused": (Unused, (4,)),
    "frozen": (frozen_first, (4,)),
    "recurrent": (Recurrent, (4, 3)),
}


def build(name, n=7):
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model = make().double()
    x = torch.randn(n, *shape, dtype=torch.float64)
    return model, Samples(x, torch.randint(3, (n,)))


def small(n=20, **options):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x = torch.randn(n, 4, dtype=torch.float64)
    data = Samples(x, torch.randint(3, (n,)))
    return model, data, curvature(model, data, loss=nn.functional.cross_entropy, **options)


def dense(model, data, loss, kind):
    """By torch itself, as one matrix over the trainable parameters.

    Not by torch.func.hessian: in the weights of a LayerNorm that is not even symmetric.
    """
    model = copy.deepcopy(model).eval()
    values = {k: p.detach() for k, p in model.named_parameters() if p.requires_grad}
    sizes = [v.numel() for v in values.values()]
    flat = torch.cat([v.reshape(-1) for v in values.values()])

    def outputs(vector):
        parts = [p.view_as(v) for p, v in zip(vector.split(sizes), values.values(), strict=True)]
        return functional_call(model, dict(zip(values, parts, strict=True)), (data.inputs,))

    if kind == "hessian":
        return hessian(lambda vector: loss(outputs(vector), data.targets), flat)
    jacobian = jacrev(outputs)(flat).flatten(0, 1)
    at = outputs(flat).flatten()
    curved = hessian(lambda o: loss(o.view(len(data), -1), data.targets), at)
    return jacobian.T @ curved @ jacobian


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
@pytest.mark.parametrize("name", MODELS)
def test_dense_matrices(name, kind):
    model, data = build(name)
    loss = nn.functional.cross_entropy
    if name == "recurrent":
        # torch.func cannot follow an LSTM: differences of the gradient stand in for it.
        _differences(model, data, loss)
        return
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = dense(model, data, loss, kind)
    for batch_size in (None, 3):
        found = curvature(model, data, loss=loss, kind=kind, batch_size=batch_size).dense()
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def _differences(model, data, loss):
    operator = curvature(model, data, loss=loss)
    direction = torch.randn(operator.shape[0], dtype=torch.float64)
    gradients = []
    for step in (-1e-5, 1e-5):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, part in operator.named(step * direction).items():
                moved.get_parameter(name).add_(part)
        loss(moved(data.inputs), data.targets).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in moved.parameters()]))
    expected = (gradients[1] - gradients[0]) / 2e-5
    torch.testing.assert_close(operator @ direction, expected, rtol=1e-6, atol=1e-8)


def test_linear_regression_in_closed_form():
    """Hessian and Gauss-Newton matrix of the mean squared error are 2 X^T X / N."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1, bias=False).double()
    x = torch.randn(9, 4, dtype=torch.float64)
    data = Samples(x, torch.randn(9, 1, dtype=torch.float64))
    for kind in ("hessian", "ggn"):
        found = curvature(model, data, loss=nn.functional.mse_loss, kind=kind).dense()
        torch.testing.assert_close(found, 2 * x.T @ x / 9)


def test_gauss_newton_of_softmax_is_the_fisher_information():
    """Martens (2020), section 9."""
    model, data, operator = small(kind="ggn")
    gram = fisher_gram(model, data, loss=nn.functional.cross_entropy)
    found = top_eigenpairs(operator, 5)
    np.testing.assert_allclose(found.values, gram.spectrum()[:5], rtol=1e-10)
    assert found.residuals.max() < 1e-10


def test_a_loss_without_second_derivative_has_no_curvature():
    model = nn.Linear(3, 1).double()
    data = Samples(torch.randn(5, 3).double(), torch.randn(5, 1).double())
    assert not curvature(model, data, loss=nn.functional.l1_loss).dense().any()
    assert not curvature(model, data, loss=nn.functional.l1_loss, kind="ggn").dense().any()


def test_training_on_does_not_move_it():
    model, _, operator = small()
    before = operator.dense()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert torch.equal(operator.dense(), before)


def test_the_model_is_left_as_it_was():
    model, data = build("convolutional")
    model.train()
    state = copy.deepcopy(model.state_dict())
    stream = torch.get_rng_state()
    operator = curvature(model, data, loss=nn.functional.cross_entropy, batch_size=4)
    spectral_density(operator, draws=2, steps=5)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_extreme_eigenvalues(which, k):
    _, _, operator = small()
    values = np.linalg.eigvalsh(operator.dense().numpy())
    key = {"largest": -values, "smallest": values, "magnitude": -np.abs(values)}[which]
    found = top_eigenpairs(operator, k, which=which)
    np.testing.assert_allclose(found.values, values[np.argsort(key)[:k]], atol=1e-12)
    assert found.residuals.max() < 1e-9
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(k), atol=1e-10)


@pytest.mark.parametrize("which", ["largest", "smallest"])
def test_an_extreme_eigenvalue_of_zero_is_found(which):
    # Rounding never reaches an accuracy that is relative to zero.
    rows = torch.randn(10, 200)
    matrix = rows.T @ rows if which == "smallest" else -rows.T @ rows
    found = top_eigenpairs(matrix, 1, which=which, tol=1e-3)
    assert abs(found.values[0]) < 1e-3 * float(torch.linalg.matrix_norm(matrix, 2))


def test_scipy_can_use_it():
    from scipy.sparse.linalg import LinearOperator, eigsh

    _, _, operator = small()
    linear = operator.to_scipy()
    assert isinstance(linear, LinearOperator)
    values = eigsh(linear, 2, which="LA", return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(values)[::-1], top_eigenpairs(operator, 2).values)


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_operators_of_curvlinops_are_taken_as_they_are(kind):
    operators = pytest.importorskip("curvlinops")
    model, data, ours = small(kind=kind)
    build = {"hessian": operators.HessianLinearOperator, "ggn": operators.GGNLinearOperator}[kind]
    theirs = build(
        model, nn.CrossEntropyLoss(), list(model.parameters()), [(data.inputs, data.targets)]
    )
    found, expected = (top_eigenpairs(one, 2) for one in (theirs, ours))
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-10)
    pairs = [
        (stochastic_trace(theirs), stochastic_trace(ours)),
        (spectral_density(theirs, draws=2, steps=9).trace(),
         spectral_density(ours, draws=2, steps=9).trace()),
        (morse_index(theirs), morse_index(ours)),
    ]  # fmt: skip
    for found, expected in pairs:
        assert found.value == pytest.approx(expected.value, rel=1e-8)
        assert found.method == expected.method


def test_spectra_say_how_they_were_made():
    _, _, operator = small()
    assert top_eigenpairs(operator, 30).route == "dense matrix, 51 products"
    found = top_eigenpairs(operator, 1)
    assert found.route.startswith("Lanczos with restarts, ")
    assert 10 < int(found.route.split()[-2]) < 51
    density = spectral_density(operator, draws=2, steps=9)
    assert density.route == "stochastic Lanczos quadrature, 2 draws of 9 products"


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_traces_are_unbiased_and_their_errors_are_right():
    rotation = torch.linalg.qr(torch.randn(100, 100, dtype=torch.float64)).Q
    falling = torch.arange(1.0, 101, dtype=torch.float64) ** -2
    matrix = rotation * falling @ rotation.T
    found = [stochastic_trace(matrix, 36, seed=seed) for seed in range(300)]
    z = np.array([(one.value - float(matrix.trace())) / one.stderr for one in found])
    values = np.array([one.value for one in found])
    assert abs(values.mean() - float(matrix.trace())) < 3 * values.std() / math.sqrt(300)
    # Twelve vectors make a t of eleven degrees of freedom, whose 95 % lie within 2.2.
    assert 0.88 < (np.abs(z) < 2.2).mean() < 0.99
    # Hutchinson (1990): 36 random signs have the variance of the entries beside the diagonal.
    plain = math.sqrt(2 * float((matrix**2).fill_diagonal_(0).sum()) / 36)
    assert values.std() < 0.3 * plain


def test_a_trace_of_few_dimensions_is_exact():
    matrix = torch.diag(torch.arange(5.0, dtype=torch.float64))
    found = stochastic_trace(matrix, 15)
    assert found.exact
    assert found.value == 10


def test_quadrature_of_all_steps_has_the_moments_of_the_matrix():
    """A Lanczos quadrature of m steps is exact for polynomials of degree 2 m - 1."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((40, 40))
    matrix = torch.from_numpy(matrix + matrix.T)
    density = spectral_density(matrix, draws=300, steps=6)
    for power in range(1, 5):
        exact = float(torch.linalg.matrix_power(matrix, power).trace())
        found = density._each(lambda values, power=power: values**power, 6)
        assert abs(found.mean() - exact) < 3.5 * found.std() / math.sqrt(300)


def test_density_of_a_wishart_matrix_is_marchenko_pastur():
    """Marchenko and Pastur (1967): at ratio 1/2, on the interval (1 -+ sqrt(1/2))^2."""
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.standard_normal((2000, 1000)))
    density = spectral_density(rows.T @ rows / 2000, draws=4, steps=40)
    low, high = (1 - math.sqrt(0.5)) ** 2, (1 + math.sqrt(0.5)) ** 2
    np.testing.assert_allclose(density.extent, (low, high), atol=0.06)
    at = np.linspace(low + 0.2, high - 0.2, 20)
    law = np.sqrt((high - at) * (at - low)) / (math.pi * at)
    np.testing.assert_allclose(density.density(at, width=0.1), law, atol=0.05)
    assert abs(density.trace().value - 1000) < 4 * density.trace().stderr + 1


def test_an_invariant_subspace_ends_lanczos_and_nothing_else():
    values = np.repeat([-1.0, 0.0, 3.0], [10, 50, 40])
    rotation = torch.linalg.qr(torch.randn(100, 100, dtype=torch.float64)).Q
    matrix = rotation * torch.from_numpy(values) @ rotation.T
    density = spectral_density(matrix, draws=40, steps=30)
    below = density.count_below(-0.5)
    assert abs(below.value - 10) < 3 * below.stderr
    assert density.diagonals.shape == (40, 30)


def test_index_of_a_known_saddle():
    values = torch.tensor([-3.0, -1.0, -1e-9, 0.0, 0.5, 2.0], dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    matrix = rotation @ torch.diag(values) @ rotation.T
    assert morse_index(matrix, tolerance=1e-6).value == 2
    assert morse_index(matrix).value == 3
    assert morse_index(matrix).exact


def test_index_by_quadrature_of_a_larger_saddle():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(-2, -1, 30), rng.uniform(1, 3, 170)])
    matrix = torch.diag(torch.from_numpy(values))
    found = morse_index(matrix, most_exact=100)
    assert not found.exact
    assert abs(found.value - 30) < 3 * found.stderr
    assert found.stderr < 5
    assert morse_index(matrix, most_exact=100, density=spectral_density(matrix)) == found


def test_the_negative_share_is_that_of_the_spectrum():
    values = np.concatenate([-np.linspace(0.1, 1, 30), np.linspace(0.1, 3, 90)])
    rotation = torch.linalg.qr(torch.randn(120, 120, dtype=torch.float64)).Q
    matrix = rotation * torch.from_numpy(values) @ rotation.T
    found = spectral_density(matrix, draws=30, steps=40).negative_share()
    assert abs(found.value - values[:30].sum() / -np.abs(values).sum()) < 3 * found.stderr
    assert found.stderr < 0.02
    assert math.isnan(spectral_density(torch.zeros(30, 30), draws=2).negative_share().value)


def test_effective_parameters_by_quadrature_are_those_of_the_spectrum():
    """Maddox et al. (2020): sum of l / (l + z)."""
    assert effective_parameters([3.0, 1.0, -5.0], 1.0) == pytest.approx(0.75 + 0.5)
    _, _, operator = small(kind="ggn")
    values = np.linalg.eigvalsh(operator.dense().numpy())
    exact = effective_parameters(values, 0.01)
    found = spectral_density(operator, draws=50, steps=25).effective_parameters(0.01)
    assert abs(found.value - exact) < 3 * found.stderr
    with pytest.raises(ValueError, match="z must be positive"):
        effective_parameters(values, 0.0)


def test_effective_parameters_near_zero_are_bounded_or_refused():
    """Golub and Meurant (2010): Gauss and Gauss-Radau quadrature lie on either side."""
    values = 10 * np.exp(-np.arange(800) / 20)
    rotation = torch.linalg.qr(torch.randn(800, 800)).Q
    matrix = rotation * torch.from_numpy(values).float() @ rotation.T
    density = spectral_density(matrix, draws=6, steps=30)
    for z in (1.0, 0.1, 0.01, 1e-3):
        found, exact = density.effective_parameters(z), effective_parameters(values, z)
        assert abs(found.value - exact) < 2 * found.stderr
        assert found.stderr < 0.4 * exact
    # Quadrature alone said 609 with an error of 94, where it is 231.
    refused = density.effective_parameters(1e-4)
    assert math.isnan(refused.value)
    low, high = re.match(r"between (\S+) and (\S+): 30 steps do not tell", refused.note).groups()
    assert float(low) < effective_parameters(values, 1e-4) < float(high)
    # With a vector of equal parts in all directions there is no error but that of quadrature.
    ones = spectral_density(torch.diag(torch.from_numpy(values)), draws=2, steps=20)
    for z in (0.1, 0.01):
        exact = effective_parameters(values, z)
        fewest, most = (
            one._each(lambda nodes, z=z: nodes / (nodes + z), 20)[0]
            for one in (ones._ending_at(0.0), ones)
        )
        assert fewest < exact < most


def test_effective_parameters_of_a_saddle_are_refused_with_the_remedy():
    values = torch.linspace(-1, 3, 100, dtype=torch.float64)
    found = spectral_density(torch.diag(values), draws=2, steps=20).effective_parameters(0.01)
    assert math.isnan(found.value)
    assert "eigenvalues down to -0.99" in found.note
    assert "take the Gauss-Newton matrix" in found.note


def _well_specified(n=4000):
    """Logistic regression at its optimum on labels that it drew itself."""
    torch.manual_seed(0)
    x = torch.randn(n, 3, dtype=torch.float64)
    model = nn.Linear(3, 3, bias=False).double()
    with torch.no_grad():
        labels = torch.distributions.Categorical(logits=model(x)).sample()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100, tolerance_grad=1e-10)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return model, Samples(x, labels)


def test_takeuchi_of_a_well_specified_model_counts_its_parameters():
    """Takeuchi (1976): the penalty is the number of parameters; softmax has 6 of 9 here."""
    model, data = _well_specified()
    found = tic(model, data, loss=nn.functional.cross_entropy, damping=1e-6)
    assert abs(found.penalty.value - 6) < 4 * found.penalty.stderr
    assert found.penalty.stderr < 0.2
    assert found.c_over_f.value == pytest.approx(1, abs=0.03)
    assert abs(found.c_over_f.value - 1) < 3 * found.c_over_f.stderr
    # Gradients and Fisher information of an input are large together.
    apart = math.hypot(*(one.stderr / one.value for one in (found.trace_c, found.trace_f)))
    assert 0 < found.c_over_f.stderr < apart
    # The Hessian of softmax regression is its Fisher information.
    assert found.c_over_h.value == pytest.approx(found.c_over_f.value, rel=1e-10)


def test_takeuchi_by_products_agrees_with_eigenvalues(monkeypatch):
    model, data = _well_specified(300)
    exact = tic(model, data, loss=nn.functional.cross_entropy, damping=1e-3)
    monkeypatch.setattr("geomprobe.information.takeuchi._MOST_EXACT", 0)
    found = tic(model, data, loss=nn.functional.cross_entropy, damping=1e-3, probes=200)
    assert abs(found.penalty.value - exact.penalty.value) < 3 * found.penalty.stderr
    assert found.penalty.stderr < 0.2 * found.penalty.value


def test_takeuchi_away_from_a_minimum_is_refused():
    model, data, operator = small()
    least = top_eigenpairs(operator, which="smallest").values[0]
    found = tic(model, data, loss=nn.functional.cross_entropy, damping=-least / 2)
    assert math.isnan(found.penalty.value)
    assert "not at a minimum" in found.penalty.note


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "hesse"}, "kind must be one of"),
        ({"data": Samples(torch.zeros(0, 4), torch.zeros(0))}, "no samples"),
        ({"data": Samples(torch.zeros(3, 4))}, "targets are needed"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"loss": nn.CrossEntropyLoss(reduction="sum")}, "expected. Give the loss with"),
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, r"the loss is \(3,\)"),
    ],
)
def test_bad_input(change, message):
    model, data, _ = small()
    given = {"data": data, "loss": nn.functional.cross_entropy} | change
    with pytest.raises(ValueError, match=message):
        curvature(model, **given)


def test_bad_questions():
    _, _, operator = small()
    with pytest.raises(ValueError, match="k must be from 1"):
        top_eigenpairs(operator, 0)
    with pytest.raises(ValueError, match="which must be"):
        top_eigenpairs(operator, which="top")
    with pytest.raises(ValueError, match="at least 6"):
        stochastic_trace(operator, 5)
    with pytest.raises(ValueError, match="at least 2"):
        spectral_density(operator, draws=1)
    with pytest.raises(ValueError, match="tolerance must not"):
        morse_index(operator, tolerance=-1.0)
    with pytest.raises(ValueError, match="expected shape"):
        operator @ torch.zeros(3)
    with pytest.raises(ValueError, match="damping must be positive"):
        tic(*small()[:2], loss=nn.functional.cross_entropy, damping=0)


def test_figures():
    from matplotlib import pyplot

    _, _, operator = small()
    axes = spectral_density(operator, draws=2, steps=10).plot()
    assert axes.get_xlabel() == "eigenvalue"
    pyplot.close(axes.figure)


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
def test_a_matrix_of_zeros_has_eigenvalue_zero(which):
    found = top_eigenpairs(torch.zeros(30, 30), 2, which=which)
    assert found.values.tolist() == [0, 0]
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(2))
