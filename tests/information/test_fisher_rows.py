"""Maps between rows and parameters against dense matrices, and what the metric gives."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe import Samples
from geomprobe.information import Gaussian, Softmax, fisher_gram


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Attentive(nn.Module):
    """Attention, a tied weight, a parameter of no use and one that is frozen."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
        self.head = nn.Linear(4, 4)
        self.again = nn.Linear(4, 3)
        self.unused = nn.Parameter(torch.randn(2))
        self.head.bias.requires_grad_(False)

    def forward(self, x):
        pooled = self.layer(x).mean(1)
        return self.again(torch.tanh(F.linear(self.head(pooled), self.head.weight)))


def attentive():
    return Attentive().double().eval(), Samples(
        torch.randn(5, 3, 4).double(), torch.randint(3, (5,))
    )


def mlp():
    model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Tanh(), nn.Linear(5, 3)).double()
    return model.eval(), Samples(torch.randn(7, 4).double(), torch.randint(3, (7,)))


def dense_rows(model, samples):
    """B, by a backward pass for each row."""
    owned = [p for p in model.parameters() if p.requires_grad]
    modes = [module.training for module in model.modules()]
    outputs = model.eval()(samples.inputs)
    rows = []
    for n, vectors in enumerate(Softmax().rows(outputs.detach())):
        for vector in vectors:
            grads = torch.autograd.grad(
                outputs[n], owned, vector, retain_graph=True, materialize_grads=True
            )
            rows.append(torch.cat([grad.flatten() for grad in grads]))
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return torch.stack(rows) / len(samples) ** 0.5


def split(model, vector):
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    parts = torch.split(vector, [p.numel() for p in named.values()])
    return {n: part.view(p.shape) for (n, p), part in zip(named.items(), parts, strict=True)}


def joined(parts):
    return torch.cat([part.flatten() for part in parts.values()])


@pytest.mark.parametrize("make", [mlp, attentive])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_both_ways_are_those_of_the_dense_matrix(make, batch_size):
    model, samples = make()
    dense = dense_rows(model, samples)
    rows = fisher_gram(model, samples, likelihood=Softmax(), batch_size=batch_size).rows
    assert rows.shape == dense.shape
    v, u = torch.randn(dense.shape[1]).double(), torch.randn(dense.shape[0]).double()
    torch.testing.assert_close(rows.into_rows(split(model, v)), dense @ v, rtol=1e-10, atol=1e-12)
    found = joined(rows.into_parameters(u))
    torch.testing.assert_close(found, dense.T @ u, rtol=1e-10, atol=1e-12)
    columns = torch.stack([u, 2 * u], dim=1)
    for j, part in enumerate(
        torch.cat([p.flatten(1) for p in rows.into_parameters(columns).values()], 1)
    ):
        torch.testing.assert_close(part, (j + 1) * found)


def test_a_direction_may_leave_parameters_out():
    model, samples = mlp()
    rows = fisher_gram(model, samples, likelihood=Softmax()).rows
    bias = torch.randn(3).double()
    zeros = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    expected = rows.into_rows(zeros | {"3.bias": bias})
    torch.testing.assert_close(rows.into_rows({"3.bias": bias}), expected)


@pytest.mark.parametrize("make", [mlp, attentive])
def test_eigenvectors_are_those_of_the_dense_fisher(make):
    model, samples = make()
    dense = dense_rows(model, samples)
    values, vectors = fisher_gram(model, samples, likelihood=Softmax()).eigenvectors(3)
    expected = torch.linalg.eigvalsh(dense.T @ dense).flip(0)[:3]
    np.testing.assert_allclose(values, expected, rtol=1e-10)
    for value, vector in zip(values, map(joined, vectors), strict=True):
        assert float(vector.norm()) == pytest.approx(1)
        torch.testing.assert_close(dense.T @ (dense @ vector), value * vector, rtol=0, atol=1e-9)


@pytest.mark.parametrize("make", [mlp, attentive])
def test_the_natural_gradient_is_that_of_the_dense_fisher(make):
    model, samples = make()
    dense = dense_rows(model, samples)
    gram = fisher_gram(model, samples, likelihood=Softmax())
    gradient = torch.randn(dense.shape[1]).double()
    damped = dense.T @ dense + 0.03 * torch.eye(dense.shape[1]).double()
    found = joined(gram.natural_gradient(split(model, gradient), damping=0.03))
    expected = torch.linalg.solve(damped, gradient)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    some = {"head.weight": torch.randn(4, 4).double()} if make is attentive else {}
    sparse = joined(
        {n: some.get(n, torch.zeros_like(p)) for n, p in split(model, gradient).items()}
    )
    found = joined(gram.natural_gradient(some, damping=0.03))
    torch.testing.assert_close(found, torch.linalg.solve(damped, sparse), rtol=1e-8, atol=1e-8)


def test_half_the_squared_norm_of_a_step_is_its_divergence():
    # KL(p_theta || p_theta + v) = v^T F v / 2 + O(|v|^3).
    model, samples = mlp()
    gram = fisher_gram(model, samples, likelihood=Softmax())
    step = {name: 1e-4 * torch.randn_like(p) for name, p in model.named_parameters()}
    model.eval()
    with torch.no_grad():
        before = model(samples.inputs).log_softmax(1)
        after = torch.func.functional_call(
            model, {n: p + step[n] for n, p in model.named_parameters()}, (samples.inputs,)
        ).log_softmax(1)
    divergence = float((before.exp() * (before - after)).sum(1).mean())
    assert gram.norm(step) ** 2 / 2 == pytest.approx(divergence, rel=1e-3)


def test_the_fisher_rao_norm_of_a_homogeneous_network():
    # Liang et al. (2019), theorem 3.1 with L layers of weights: L^2 E[<dl/df, f>^2].
    model = nn.Sequential(
        nn.Linear(4, 6, bias=False),
        nn.ReLU(),
        nn.Linear(6, 6, bias=False),
        nn.ReLU(),
        nn.Linear(6, 3, bias=False),
    ).double()
    x, y = torch.randn(9, 4).double(), torch.randint(3, (9,))
    outputs = model(x).detach()
    slopes = outputs.softmax(1) - F.one_hot(y, 3)
    expected = 9 * float((slopes * outputs).sum(1).square().mean())
    gram = fisher_gram(model, Samples(x, y), kind="empirical", loss=F.cross_entropy)
    assert gram.fisher_rao_norm() == pytest.approx(expected, rel=1e-10)
    true = fisher_gram(model, Samples(x), likelihood=Gaussian())
    assert true.fisher_rao_norm() == pytest.approx(9 * float(outputs.square().sum(1).mean()))


def test_rescaling_a_relu_network_leaves_the_fisher_rao_norm():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    samples = Samples(torch.randn(9, 4).double())
    before = fisher_gram(model, samples, likelihood=Softmax())
    with torch.no_grad():
        model[0].weight.mul_(7), model[0].bias.mul_(7), model[2].weight.div_(7)
    after = fisher_gram(model, samples, likelihood=Softmax())
    assert after.fisher_rao_norm() == pytest.approx(before.fisher_rao_norm(), rel=1e-10)
    assert after.trace() > 1.5 * before.trace()


def test_the_logarithm_of_the_determinant_is_that_of_the_spectrum():
    model, samples = mlp()
    gram = fisher_gram(model, samples, likelihood=Softmax())
    expected = np.log1p(50 * gram.spectrum()).sum()
    assert gram.log_determinant(50.0) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["true", "empirical"])
def test_the_layers_are_the_blocks_on_the_diagonal(kind):
    model, samples = attentive()
    gram = fisher_gram(model, samples, kind=kind, likelihood=Softmax(), by_layer=True)
    attention = {"layer.self_attn", "layer.self_attn.out_proj"}  # without a rule, as is head
    rest = {"layer.linear1", "layer.linear2", "layer.norm1", "layer.norm2", "head", "again"}
    assert gram.layers.keys() == {"(root)"} | attention | rest
    whole = fisher_gram(model, samples, kind=kind, likelihood=Softmax())
    assert not whole.layers
    np.testing.assert_allclose(gram.gram, whole.gram, rtol=1e-12, atol=1e-18)
    assert gram.layers["(root)"].trace() == 0
    for name, layer in gram.layers.items():
        prefix = "" if name == "(root)" else f"{name}."
        owned = {n for n, p in model.named_parameters() if p.requires_grad and
                 n.rpartition(".")[0] == prefix[:-1]}  # fmt: skip
        for n, p in model.named_parameters():
            p.requires_grad_(n in owned)
        alone = fisher_gram(model, samples, kind=kind, likelihood=Softmax())
        for n, p in model.named_parameters():
            p.requires_grad_(n != "head.bias")
        np.testing.assert_allclose(layer.gram, alone.gram, rtol=1e-10, atol=1e-16)
        assert layer.n_parameters == alone.n_parameters
        assert layer.rows.names == alone.rows.names
        some = layer.subset([3, 1])
        assert some == gram.subset([3, 1]).layers[name]
    values, vectors = gram.layers["again"].eigenvectors(1)
    assert vectors[0].keys() == {"again.weight", "again.bias"}
    assert gram.norm(vectors[0]) ** 2 == pytest.approx(values[0])


def test_layers_that_do_not_fit_are_refused_before_they_are_computed(monkeypatch):
    from geomprobe import memory
    from geomprobe.exceptions import MemoryEstimateError

    model, samples = mlp()
    needed = 24 * 14**2 + 64 * 2**20 + 8 * 7 * (4 + 5 + 2 * 5 + 5 + 2 * 3)
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * (needed + 16 * 14**2))
    fisher_gram(model, samples, likelihood=Softmax())
    with pytest.raises(MemoryEstimateError, match="of 14 rows"):
        fisher_gram(model, samples, likelihood=Softmax(), by_layer=True)


def test_a_subset_maps_its_own_rows():
    model, samples = mlp()
    gram = fisher_gram(model, samples, likelihood=Softmax())
    some = gram.subset([1, 4, 5])
    expected = fisher_gram(model, samples.take([1, 4, 5]), likelihood=Softmax())
    step = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    assert some.norm(step) == pytest.approx(expected.norm(step), rel=1e-10)


def test_the_model_and_its_gradients_are_left_alone():
    model, samples = mlp()
    F.cross_entropy(model(samples.inputs), samples.targets).backward()
    before = [(p.clone(), p.grad.clone()) for p in model.parameters()]
    stream = torch.get_rng_state()
    gram = fisher_gram(model, samples, likelihood=Softmax())
    model.train()
    gram.natural_gradient({name: p.grad for name, p in model.named_parameters()}, 0.1)
    gram.eigenvectors(2)
    assert torch.equal(stream, torch.get_rng_state())
    assert all(module.training for module in model.modules())
    for p, (value, gradient) in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, value)
        assert torch.equal(p.grad, gradient)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: g.natural_gradient({}, 0.0), ValueError, "damping must be positive"),
        (
            lambda g: g.norm({"3.weights": torch.zeros(3)}),
            ValueError,
            "'3.weights' is no trainable",
        ),
        (lambda g: g.norm({"3.bias": torch.zeros(4)}), ValueError, r"shape \(3,\), got \(4,\)"),
        (lambda g: g.eigenvectors(0), ValueError, "k must be from 1 to 14"),
        (lambda g: g.eigenvectors(15), ValueError, "k must be from 1 to 14"),
        (lambda g: g.log_determinant(0.0), ValueError, "scale must be positive"),
        (
            lambda g: g.rows.into_parameters(torch.zeros(3)),
            ValueError,
            r"shape \(14,\) or \(14, j\), got \(3,\)",
        ),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    model, samples = mlp()
    with pytest.raises(error, match=message):
        call(fisher_gram(model, samples, likelihood=Softmax()))


def test_without_rows_nothing_is_mapped():
    model, samples = mlp()
    gram = fisher_gram(model, samples, likelihood=Softmax())
    bare = type(gram)(gram.gram, 7, gram.n_parameters, "true", "", 2)
    with pytest.raises(RuntimeError, match="no rows to map"):
        bare.fisher_rao_norm()
