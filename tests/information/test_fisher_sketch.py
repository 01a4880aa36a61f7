"""Sketches of Fisher informations: known variances, planted spectra, and the exact Gram matrix."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe import Samples
from geomprobe.exceptions import MemoryEstimateError
from geomprobe.information import (
    Gaussian,
    Softmax,
    fisher_gram,
    fisher_sketch,
    participation_ratio,
    random_columns,
    stable_rank,
)
from geomprobe.information.factors import Lookup, Outer, Rows
from geomprobe.information.random_columns import RandomColumns


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def outer(t, i, o, n=3, k=2, groups=1):
    return Outer(torch.randn(n, groups, t, i).double(), torch.randn(n, k, groups, t, o).double())


FACTORS = {
    "one position": lambda: outer(1, 6, 4),
    "few positions": lambda: outer(2, 6, 5),
    "many positions": lambda: outer(40, 2, 3),
    "groups": lambda: outer(3, 2, 4, groups=3),
    "a table": lambda: Lookup(torch.randint(5, (3, 4)), torch.randn(3, 2, 4, 6).double(), 5),
    "gradients": lambda: Rows(torch.randn(3, 2, 11).double()),
}


def formed(factor):
    """The rows of a factor, of shape (N K, P), and the shape (sides of the signs) of P."""
    if isinstance(factor, Rows):
        return factor.rows.flatten(0, 1)
    if isinstance(factor, Lookup):
        inputs = F.one_hot(factor.places, factor.n_rows).double()[:, None]
        return formed(Outer(inputs, factor.grads[:, :, None]))
    rows = torch.einsum("ngti,nkgto->nkgio", factor.inputs, factor.grads)
    return rows.flatten(2).flatten(0, 1)


# --- columns ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FACTORS)
def test_products_are_those_with_signs_for_every_parameter(name, monkeypatch):
    factor = FACTORS[name]()
    columns = RandomColumns(7, seed=3)
    found = columns.products(factor, 0).flatten(0, 1)
    u, v = columns._kept[0]
    if isinstance(factor, Outer):
        u, v = (side.view(factor.inputs.shape[1], -1, 7) for side in (u, v))
        signs = torch.einsum("gij,goj->gioj", u, v)
    else:
        signs = torch.einsum("ij,oj->ioj", u, v)
    signs = signs.reshape(-1, 7).double()
    torch.testing.assert_close(found, formed(factor) @ signs)
    monkeypatch.setattr(random_columns, "_CHUNK_ENTRIES", 1)
    monkeypatch.setattr(random_columns, "_OWN_SIGNS", 11)
    torch.testing.assert_close(columns.products(factor, 0).flatten(0, 1), found)
    assert not torch.equal(columns.products(factor, 1).flatten(0, 1), found)


def test_many_gradients_share_signs_in_pairs(monkeypatch):
    monkeypatch.setattr(random_columns, "_OWN_SIGNS", 4)
    factor = FACTORS["gradients"]()
    columns = RandomColumns(5, seed=0)
    found = columns.products(factor, 0).flatten(0, 1)
    u, v = columns._kept[0]
    assert (len(u), len(v)) == (4, 3)
    signs = torch.einsum("ij,oj->ioj", u, v).reshape(12, 5)[:11].double()
    torch.testing.assert_close(found, formed(factor) @ signs)


def test_squares_of_products_have_the_mean_and_the_variance_of_their_closed_form():
    # E (u.a)^2 = |a|^2 and E (u.a)^4 = 3 |a|^4 - 2 sum a^4 for independent signs u.
    factor = outer(1, 6, 4, n=1, k=1)
    squares = RandomColumns(40_000, seed=0).products(factor, 0).square()[0, 0]
    fourth = 1.0
    for side in (factor.inputs.flatten(), factor.grads.flatten()):
        fourth *= float(3 * side.square().sum() ** 2 - 2 * side.pow(4).sum())
    norm = float(factor.squares())
    variance = fourth - norm**2
    assert float(squares.mean()) == pytest.approx(norm, abs=4 * (variance / 40_000) ** 0.5)
    assert float(squares.var()) == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("name", FACTORS)
def test_a_random_projection_keeps_norms_and_angles(name):
    # Rakhshan and Rabusseau (2020), theorem 1: a relative variance of at most 8/k; by Chebyshev,
    # all but 8 / (k eps^2) of the norms are kept up to a factor 1 +- eps.
    factor, k, eps = FACTORS[name](), 64, 0.5
    rows = formed(factor)
    exact = rows @ rows.T
    found = []
    for seed in range(400):
        seen = RandomColumns(k, seed).products(factor, 0).flatten(0, 1)
        found.append(seen @ seen.T / k)
    found = torch.stack(found)
    assert bool(((found.mean(0) - exact).abs() < 4.5 * found.std(0) / 20).all())
    relative = found.diagonal(dim1=1, dim2=2) / exact.diagonal()
    assert float(relative.var(0).max()) < 8 / k
    assert float(((relative - 1).abs() > eps).double().mean()) < 8 / (k * eps**2)


# --- known spectra ------------------------------------------------------------------------------


def planted(values, n=64):
    """A linear model whose Fisher information has the given eigenvalues, each of them twice."""
    basis = torch.linalg.qr(torch.randn(n, len(values)).double()).Q
    rotation = torch.linalg.qr(torch.randn(len(values), len(values)).double()).Q
    x = (n * torch.tensor(values).double()).sqrt() * basis @ rotation
    return nn.Linear(len(values), 2, bias=False).double(), Samples(x @ rotation)


def test_a_planted_spectrum_is_found_within_its_errors():
    values = [9.0, 4.0, 1.0, *[0.003] * 17]
    model, data = planted(values)
    sketches = [
        fisher_sketch(model, data, columns=256, likelihood=Gaussian(), seed=seed)
        for seed in range(30)
    ]
    spectra = np.array([sketch.spectrum() for sketch in sketches])
    leading = spectra[:, :6].reshape(30, 3, 2).mean(2)  # Each value is there twice.
    relative = leading / [9.0, 4.0, 1.0] - 1
    assert np.abs(relative.mean(0)).max() < 0.03
    assert 0.5 * (2 / 256) ** 0.5 < relative.std(0).max() < (8 / 256) ** 0.5
    assert sketches[0].n_parameters == 40
    assert sketches[0].rows_per_sample == 2
    assert sketches[0].route == "sketch of 256 columns; layer by layer"


def test_traces_and_ratios_are_without_bias_and_their_errors_are_right():
    values = [9.0, 4.0, 1.0, *[0.2] * 17]
    model, data = planted(values)
    twice = np.repeat(values, 2)
    exact = twice.sum(), participation_ratio(twice), stable_rank(twice)
    scores = []
    for seed in range(60):
        sketch = fisher_sketch(model, data, columns=128, likelihood=Gaussian(), seed=seed)
        found = sketch.trace(), sketch.participation_ratio(), sketch.estimate(stable_rank)
        scores.append([(e.value - x) / e.stderr for e, x in zip(found, exact, strict=True)])
    scores = np.array(scores)
    # The first two are unbiased, or nearly so; the stated errors are those seen over seeds.
    assert np.abs(scores.mean(0)[:2]).max() < 4 / 60**0.5
    assert np.all((scores.std(0) > 0.6) & (scores.std(0) < 1.5))
    assert np.mean(np.abs(scores) < 3) > 0.95


# --- the exact matrix ---------------------------------------------------------------------------


class Tokens(nn.Module):
    """A small transformer: tables, attention (which has no rule), norms and a pooled head."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 6), nn.Parameter(torch.randn(5, 6))
        self.layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens):
        return self.head(self.layer(self.tokens(tokens) + self.places).mean(1))


def mlp():
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4))
    return model, Samples(torch.randn(30, 5), torch.randint(4, (30,)))


def cnn():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)
    )
    return model.eval(), Samples(torch.randn(30, 1, 6, 6), torch.randint(4, (30,)))


def transformer():
    return Tokens().eval(), Samples(torch.randint(11, (30, 5)), torch.randint(3, (30,)))


@pytest.mark.parametrize("kind", ["true", "empirical"])
@pytest.mark.parametrize("make", [mlp, cnn, transformer])
def test_the_sketch_agrees_with_the_exact_spectrum(make, kind):
    model, data = make()
    exact = fisher_gram(model, data, kind=kind, likelihood=Softmax())
    sketch = fisher_sketch(model, data, columns=512, kind=kind, likelihood=Softmax())
    assert sketch.route == f"sketch of 512 columns; {exact.route}"
    assert (sketch.n_parameters, sketch.kind) == (exact.n_parameters, kind)
    assert abs(sketch.trace().value - exact.trace()) < 3 * sketch.trace().stderr
    assert sketch.trace().stderr < 0.2 * exact.trace()
    values, errors = sketch.spectrum()[:5], sketch.standard_errors()[:5]
    assert np.all(np.abs(values - exact.spectrum()[:5]) < 3.5 * errors)
    assert np.all(errors[0] < 0.25 * values[0])


@pytest.mark.parametrize("make", [mlp, cnn, transformer])
def test_batches_of_any_size_see_the_same_columns(make):
    model, data = make()
    model = model.double()
    if data.inputs.is_floating_point():
        data = Samples(data.inputs.double(), data.targets)
    found = [
        fisher_sketch(model, data, columns=16, likelihood=Softmax(), batch_size=size).gram
        for size in (64, 7, 1)
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9, atol=1e-12 * found[0].max())
    np.testing.assert_allclose(found[2], found[0], rtol=1e-9, atol=1e-12 * found[0].max())


def test_a_seed_is_a_choice_of_columns():
    model, data = mlp()
    options = {"columns": 16, "likelihood": Softmax()}
    assert fisher_sketch(model, data, **options) == fisher_sketch(model, data, **options)
    other = fisher_sketch(model, data, seed=1, **options)
    assert not np.allclose(other.gram, fisher_sketch(model, data, **options).gram)


def test_drawn_labels_differ_from_batch_to_batch_and_are_without_bias():
    model, data = mlp()
    twice = Samples(data.inputs[:5].repeat(8, 1))
    exact = fisher_gram(model, twice, likelihood=Softmax()).trace()
    options = {"columns": 512, "kind": "mc", "likelihood": Softmax()}
    found = [fisher_sketch(model, twice, seed=s, batch_size=5, **options) for s in range(16)]
    traces = [one.trace().value for one in found]
    assert abs(np.mean(traces) - exact) < 4 * np.std(traces) / 4
    # With the same labels in all 8 batches, the spread would be that of 5 samples, not of 40.
    one_batch = [
        fisher_gram(model, twice.take(slice(5)), kind="mc", likelihood=Softmax(), seed=s).trace()
        for s in range(16)
    ]
    assert np.std(traces) < 0.7 * np.std(one_batch)


def test_more_rows_than_a_gram_matrix_could_have():
    model = nn.Linear(3, 40)
    data = Samples(torch.randn(4000, 3))
    share = 0.01
    with pytest.raises(MemoryEstimateError):
        fisher_gram(model, data, likelihood=Softmax(), memory_share=share)
    sketch = fisher_sketch(model, data, columns=64, likelihood=Softmax(), memory_share=share)
    # F is the mean of (diag(p) - p p^T) (x) z z^T.
    p = model(data.inputs).softmax(1).detach()
    norms = 1 + data.inputs.square().sum(1)
    exact = float(((1 - p.square().sum(1)) * norms).mean())
    assert abs(sketch.trace().value - exact) < 3.5 * sketch.trace().stderr


class Routed(nn.Module):
    """An expert that sees only the rows it is chosen for."""

    def __init__(self):
        super().__init__()
        self.expert, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        chosen = x[:, 0] > 0
        routed = x.clone()
        routed[chosen] = self.expert(x[chosen])
        return self.head(torch.tanh(routed))


def test_what_shows_itself_late_begins_anew():
    x = torch.randn(12, 4).double()
    x[:8, 0] = x[:8, 0].abs()
    x[8:, 0] = -1.0
    model, data = Routed().double(), Samples(x)
    options = {"columns": 256, "likelihood": Softmax(), "batch_size": 4}
    sketch = fisher_sketch(model, data, **options)
    assert sketch.route.startswith("sketch of 256 columns; ")
    assert "layer by layer" not in sketch.route
    exact = fisher_gram(model, data, likelihood=Softmax()).trace()
    assert abs(sketch.trace().value - exact) < 3 * sketch.trace().stderr


def test_the_sketch_is_drawn_above_its_resolution():
    pytest.importorskip("matplotlib").use("Agg")
    model, data = mlp()
    sketch = fisher_sketch(model, data, columns=64, likelihood=Softmax())
    drawn = sketch.plot().lines[0].get_ydata()
    assert 0 < len(drawn) == int((sketch.spectrum()[:32] > sketch.resolution).sum())


def test_model_and_streams_are_left_as_they_were():
    model, data = cnn()
    F.cross_entropy(model(data.inputs), data.targets).backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grads = [p.grad.clone() for p in model.parameters()]
    stream = torch.get_rng_state()
    fisher_sketch(model, data, columns=16, likelihood=Softmax())
    assert torch.equal(stream, torch.get_rng_state())
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"columns": 7}, ValueError, "columns must be at least 8, got 7"),
        ({"likelihood": Gaussian(None)}, ValueError, "cannot estimate the variance"),
        ({"likelihood": None}, ValueError, "nothing says what the outputs mean"),
        ({"data": Samples(torch.zeros(0, 5))}, ValueError, "no samples"),
        ({"data": Samples(torch.zeros(3, 5), torch.zeros(2))}, ValueError, "3 samples, but 2"),
        ({"data": Samples(torch.full((9, 5), torch.nan))}, ValueError, "outputs are not finite"),
        ({"columns": 10**6}, MemoryEstimateError, "fewer columns"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    model, data = mlp()
    given = {"data": data, "likelihood": Softmax()} | change
    with pytest.raises(error, match=message):
        fisher_sketch(model, **given)


def test_the_batch_of_a_bad_sample_is_named():
    model, data = mlp()
    data.inputs[25, 0] = torch.nan
    with pytest.raises(ValueError, match=r"of samples 20 to 29: .* the first of them sample 5"):
        fisher_sketch(model, data, columns=8, likelihood=Softmax(), batch_size=10)
