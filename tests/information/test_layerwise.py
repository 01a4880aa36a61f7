"""Gram matrices layer by layer against dense Jacobians of torch.func."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from geomprobe import Samples
from geomprobe.information import Gaussian, Softmax, fisher_gram, fisher_trace


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def dense_gram(model, samples, likelihood):
    """(1/N) B B^T from the whole Jacobian, one sample at a time."""
    model.eval()
    parameters = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

    def outputs(values, x):
        return functional_call(model, values, (x[None],))[0]

    jacobians = vmap(jacrev(outputs), in_dims=(None, 0), randomness="error")(
        parameters, samples.inputs
    )
    with torch.no_grad():
        factor = likelihood.rows(model(samples.inputs))
    flat = torch.cat([j.flatten(2) for j in jacobians.values()], dim=2)
    rows = (factor.flatten(2) @ flat).flatten(0, 1)
    return (rows @ rows.T / len(samples)).numpy()


class Positions(nn.Module):
    """Tokens, a table of positions, attention by linear layers, and a pooled head."""

    def __init__(self, vocabulary=11, width=6, length=7, look_up=lambda table, at: table(at)):
        super().__init__()
        self.look_up = look_up
        self.tokens = nn.Embedding(vocabulary, width, padding_idx=0)
        self.places = nn.Embedding(length, width)
        self.before = nn.LayerNorm(width)
        self.mixed = nn.Linear(width, 3 * width)
        self.after = nn.RMSNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.head = nn.Linear(4 * width, 3)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.look_up(self.places, torch.arange(tokens.shape[1]))
        q, k, v = self.mixed(self.before(x)).chunk(3, dim=-1)
        x = x + (q @ k.transpose(1, 2)).softmax(-1) @ v
        return self.head(F.gelu(self.wide(self.after(x))).mean(1))


class SequenceFirst(nn.Module):
    """Samples along the second axis within."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.layer(x.transpose(0, 1)))).mean(0))


class Flattened(nn.Module):
    """Positions folded into the samples, and out again."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        rows = torch.tanh(self.norm(self.layer(x.flatten(0, 1))))
        return self.head(rows.view(len(x), -1, 5).mean(1))


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


def images(n=5, channels=2, size=7):
    return torch.randn(n, channels, size, size).double()


def pooled(*layers, channels, classes=3):
    return nn.Sequential(*layers, nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(4 * channels, classes))  # fmt: skip


def conv1d():
    body = nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2, padding_mode="circular")
    return nn.Sequential(body, nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)), torch.randn(5, 2, 7)


def conv3d():
    body = nn.Conv3d(2, 4, (1, 2, 3), padding=(0, 1, 1), groups=2)
    return nn.Sequential(body, nn.ReLU(True), nn.Flatten(), nn.Linear(144, 3)), torch.randn(
        4, 2, 3, 3, 3
    )


def transposed1d():
    body = nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
    return nn.Sequential(body, nn.Tanh(), nn.Flatten(), nn.Linear(60, 3)), torch.randn(4, 4, 5)


COVERED = {
    "mlp": lambda: (nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)), torch.randn(6, 5)),
    "inplace": lambda: (
        nn.Sequential(nn.Linear(5, 7, bias=False), nn.ReLU(True), nn.Linear(7, 3)),
        torch.randn(6, 5),
    ),
    "positions of a linear layer": lambda: (
        nn.Sequential(nn.Linear(2, 9), nn.Tanh(), nn.Flatten(), nn.Linear(108, 3)),
        torch.randn(4, 3, 4, 2),
    ),
    "conv1d": conv1d,
    "conv2d": lambda: (
        pooled(nn.Conv2d(2, 4, 3, padding="same", dilation=2), nn.GroupNorm(2, 4), channels=4),
        images(),
    ),
    "depthwise": lambda: (
        pooled(nn.Conv2d(2, 2, 3, groups=2, bias=False), nn.Conv2d(2, 5, 1), channels=5),
        images(),
    ),
    "conv3d": conv3d,
    "transposed1d": transposed1d,
    "transposed2d": lambda: (
        pooled(nn.ConvTranspose2d(2, 3, (2, 3), (1, 2), (1, 0), dilation=(1, 2)), channels=3),
        images(),
    ),
    "batch norm": lambda: (
        pooled(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(True), channels=3),
        images(),
    ),
    "instance norm": lambda: (pooled(nn.InstanceNorm2d(2, affine=True), channels=2), images()),
    "layer norm of maps": lambda: (pooled(nn.LayerNorm((2, 7, 7)), channels=2), images()),
    "sequence first": lambda: (SequenceFirst(), torch.randn(6, 4, 4)),
    "as many positions as samples": lambda: (SequenceFirst(), torch.randn(3, 3, 4)),
    "flattened": lambda: (Flattened(), torch.randn(5, 3, 4)),
    "reused": lambda: (Reused(), torch.randn(5, 4)),
}


def same(model, x, route, likelihood=None):
    likelihood = likelihood or Softmax()
    model = model.double().eval()
    samples = Samples(x.double() if x.is_floating_point() else x)
    found = fisher_gram(model, samples, likelihood=likelihood)
    expected = dense_gram(model, samples, likelihood)
    np.testing.assert_allclose(found.gram, expected, rtol=1e-10, atol=1e-12 * expected.max())
    assert found.route == route
    trace = fisher_trace(model, samples, likelihood=likelihood, batch_size=4)
    assert trace.value == pytest.approx(expected.trace(), rel=1e-10)
    assert trace.stderr == pytest.approx(found.sample_traces().std(ddof=1) / len(samples) ** 0.5)
    single = fisher_gram(model, samples, likelihood=likelihood, dtype=torch.float32)
    np.testing.assert_allclose(single.gram, expected, atol=1e-5 * expected.max())
    assert single.noise_floor > found.noise_floor


@pytest.mark.parametrize("name", COVERED)
def test_covered_layers_give_the_dense_gram(name):
    same(*COVERED[name](), "layer by layer")


def test_several_outputs_with_a_gaussian():
    same(*COVERED["conv2d"](), "layer by layer", Gaussian(0.3))


# 6 samples, 3 of which are tried; more positions than entries of a row, or fewer.
@pytest.mark.parametrize("length", [7, 3])
@pytest.mark.parametrize(
    ("look_up", "route"),
    [
        (lambda table, at: table(at), "layer by layer"),
        (lambda table, at: table(at[None]), "layer by layer"),
        (lambda table, at: table(at[None]) + table(0 * at[None]), "layer by layer; vmap"),
        # With an axis for each sample this would have one too many.
        (lambda table, at: table(at)[None], "layer by layer; vmap"),
    ],
)
def test_a_table_of_positions_that_is_looked_up_once_for_all_samples(look_up, route, length):
    left = ": places.weight" if "vmap" in route else ""
    same(Positions(look_up=look_up), torch.randint(11, (6, length)), route + left)


class ClassToken(nn.Module):
    """A class token and places as raw parameters, as vision transformers have them."""

    def __init__(self, places, for_all):
        super().__init__()
        self.for_all = for_all
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.places = nn.Parameter(torch.randn(places))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.cat([self.for_all(self.token, len(x)), x], dim=1) + self.places
        return self.head(torch.tanh(x).mean(1))


@pytest.mark.parametrize(
    ("places", "for_all", "left"),
    [
        ((1, 4, 4), lambda token, n: token.expand(n, -1, -1), ""),
        ((4, 4), lambda token, n: token.expand(n, -1, -1), "; vmap: places"),
        # Of a token for each sample these would be n times too many.
        ((1, 4, 4), lambda token, n: token.repeat(n, 1, 1), "; vmap: token"),
    ],
)
def test_raw_tables_are_taken_without_gradients_of_their_own(places, for_all, left):
    model = ClassToken(places, for_all)
    held = list(model._parameters.items())
    same(model, torch.randn(6, 3, 4), f"layer by layer{left}")
    assert [(name, id(one)) for name, one in model._parameters.items()] == [
        (name, id(one)) for name, one in held
    ]
    by_layer = fisher_gram(
        model, Samples(torch.randn(6, 3, 4).double()), likelihood=Softmax(), by_layer=True
    )
    total = sum(part.gram for part in by_layer.layers.values())
    np.testing.assert_allclose(total, by_layer.gram, rtol=1e-12, atol=1e-14)
    assert set(by_layer.layers) == {"(root)", "head"}


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", [(30, 2, 3), (3, 40, 50), (12, 12, 12), (1, 5, 4), (4, 0, 3)])
def test_every_route_of_positions_gives_the_same(shape, biased, monkeypatch):
    from geomprobe.information import factors

    t, i, o = shape
    values, grads = torch.randn(4, 1, t, i).double(), torch.randn(4, 3, 1, t, o).double()
    outer = factors.Outer(values, grads, biased)
    inputs = torch.cat([values, torch.ones(4, 1, t, int(biased))], dim=3)
    rows = torch.einsum("nti,nkto->nkio", inputs[:, 0], grads[:, :, 0]).flatten(2)
    expected = (rows.flatten(0, 1) @ rows.flatten(0, 1).T).tril()
    for penalty in (0.0, 1e9):  # inner products, gradients
        monkeypatch.setattr(factors, "_INNER_PENALTY", penalty)
        for size in (1, 2**23):
            monkeypatch.setattr(factors, "_BUFFER_BYTES", size)
            monkeypatch.setattr(factors, "_MIXED_BYTES", size)
            gram = torch.zeros(12, 12).double()
            outer.add_to(gram)
            np.testing.assert_allclose(gram.tril(), expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(outer.squares(), rows.square().sum(2), rtol=1e-11)
    np.testing.assert_array_equal(outer.inputs, inputs)


def test_many_blocks_give_the_same(monkeypatch):
    from geomprobe.information import factors

    expected = fisher_gram(*_mlp_and_data(), likelihood=Softmax()).gram
    monkeypatch.setattr(factors, "_BLOCK_ROWS", 5)
    found = fisher_gram(*_mlp_and_data(), likelihood=Softmax()).gram
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_array_equal(found, found.T)


def test_layers_in_several_passes_give_the_same(monkeypatch):
    from geomprobe.information import fisher

    model, data = _mlp_and_data()
    expected = fisher_gram(model, data, likelihood=Softmax()).gram
    monkeypatch.setattr(fisher, "_MOST_PASSING", 1)
    passes = []
    record = fisher.record
    monkeypatch.setattr(
        fisher, "record", lambda *args: passes.append(list(args[1])) or record(*args)
    )
    np.testing.assert_array_equal(fisher_gram(model, data, likelihood=Softmax()).gram, expected)
    assert passes == [["0"], ["2"]]


def _mlp_and_data():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4)).double()
    return model, Samples(torch.randn(9, 5).double())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 3)
        self.hidden = nn.Linear(3, 3)
        self.head = nn.Linear(3, 6, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.hidden(self.embedding(tokens).mean(1))))


class Functional(nn.Module):
    """A weight that is also used outside of its module's call."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(F.linear(torch.tanh(self.layer(x)), self.layer.weight))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(4, 3, batch_first=True)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class TimeMajorRows(nn.Module):
    """Rows of one sample stand apart from each other."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        rows = torch.tanh(self.layer(x.transpose(0, 1).flatten(0, 1)))
        return self.head(rows.view(-1, len(x), 5).mean(0))


class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(4))
        self.head = weight_norm(nn.Linear(4, 3))

    def forward(self, x):
        return self.head(torch.tanh(x + self.shift))


UNCOVERED = {
    "tied": (Tied, "embedding.weight"),
    "functional": (Functional, "layer.weight, layer.bias"),
    "rows apart": (TimeMajorRows, "layer.weight, layer.bias"),
}


@pytest.mark.parametrize("name", UNCOVERED)
def test_what_no_rule_covers_is_named_and_exact(name):
    make, names = UNCOVERED[name]
    x = torch.randint(6, (5, 4)) if name == "tied" else torch.randn(5, 4)
    if name == "rows apart":
        x = torch.randn(5, 2, 4)
    same(make(), x, f"layer by layer; vmap: {names}")


def test_raw_and_parametrized_weights():
    names = "shift, head.bias, head.parametrizations.weight.original0, head.parametrizations.weight"
    model = Shifted().double()
    samples = Samples(torch.randn(5, 4).double())
    found = fisher_gram(model, samples, likelihood=Softmax())
    np.testing.assert_allclose(
        found.gram, dense_gram(model, samples, Softmax()), rtol=1e-9, atol=1e-14
    )
    assert found.route == "vmap" or names in found.route


def test_a_recurrent_layer_falls_back_to_gradients_of_its_own():
    model = Recurrent().double().eval()
    samples = Samples(torch.randn(5, 4, 4).double())
    found = fisher_gram(model, samples, likelihood=Softmax())
    rows = []
    cotangents = Softmax().rows(model(samples.inputs).detach())
    for sample, vectors in zip(samples.batches(1), cotangents, strict=True):
        output = model(sample.inputs)[0]
        for vector in vectors:
            grads = torch.autograd.grad(output, list(model.parameters()), vector, retain_graph=True)
            rows.append(torch.cat([grad.flatten() for grad in grads]))
    rows = torch.stack(rows)
    np.testing.assert_allclose(found.gram, (rows @ rows.T / 5).numpy(), rtol=1e-10, atol=1e-15)
    assert found.route.startswith("layer by layer; ")
    assert "layer.weight_hh_l0" in found.route
    assert "head" not in found.route.partition(";")[2]
    trace = fisher_trace(model, samples, likelihood=Softmax())
    assert trace.value == pytest.approx(found.trace(), rel=1e-10)


@pytest.mark.parametrize("frozen", ["0.weight", "0.bias", "2.weight"])
def test_frozen_parts_of_a_layer_are_constants(frozen):
    model, samples = _mlp_and_data()
    model.get_parameter(frozen).requires_grad_(False)
    found = fisher_gram(model, samples, likelihood=Softmax())
    np.testing.assert_allclose(found.gram, dense_gram(model, samples, Softmax()), rtol=1e-10)
    assert found.route == "layer by layer"


def test_layers_called_otherwise_on_other_samples_are_left_to_gradients():
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

    x = torch.randn(6, 4).double()
    x[:3, 0] = x[:3, 0].abs()
    x[3, 0] = -1.0
    model = Routed().double()
    found = fisher_gram(model, Samples(x), likelihood=Softmax())
    assert found.route.startswith("loop")
    assert found.trace() > 0


def test_hooks_are_gone_and_no_gradient_is_left():
    model, samples = _mlp_and_data()
    fisher_gram(model, samples, likelihood=Softmax())
    assert all(not module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
