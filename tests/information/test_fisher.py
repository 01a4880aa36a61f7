"""Fisher Gram matrices against closed forms and against dense matrices built another way."""

import functools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe import Samples
from geomprobe.exceptions import MemoryEstimateError
from geomprobe.information import Bernoulli, Gaussian, Softmax, fisher_gram, setting


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def mlp():
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4)).double()


def cnn():
    """A small CNN whose batch norm has seen data, so that its statistics are not trivial."""
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(27, 4),
    ).double()
    model(torch.randn(16, 1, 8, 8).double() * 2 + 1)
    return model.eval()


def vectors(n=6):
    return Samples(torch.randn(n, 5).double(), torch.randint(4, (n,)))


def images(n=6):
    return Samples(torch.randn(n, 1, 8, 8).double(), torch.randint(4, (n,)))


def dense_fisher(model, data, output_fisher):
    """(1/N) sum_n J_n^T H_n J_n with each row of J_n by its own backward pass."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    modes = [module.training for module in model.modules()]
    model.eval()
    total = 0.0
    for sample in data.batches(1):
        x = sample.inputs
        outputs = (model(**x) if isinstance(x, dict) else model(x))[0]
        jacobian = torch.stack(
            [
                torch.cat(
                    [
                        g.reshape(-1)
                        for g in torch.autograd.grad(entry, parameters, retain_graph=True)
                    ]
                )
                for entry in outputs
            ]
        )
        total = total + jacobian.T @ output_fisher(outputs.detach()) @ jacobian
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return (total / len(data)).numpy()


def softmax_fisher(outputs):
    p = outputs.softmax(0)
    return torch.diag(p) - torch.outer(p, p)


def assert_same_spectrum(gram, dense, rtol=1e-10):
    """Nonzero eigenvalues agree to rtol of the largest, and the others are rounding."""
    expected = np.linalg.eigvalsh(dense)[::-1]
    found = np.zeros(max(len(expected), len(gram.gram)))
    found[: len(gram.gram)] = gram.spectrum()
    expected = np.pad(expected, (0, len(found) - len(expected)))
    np.testing.assert_allclose(found, expected, atol=rtol * expected[0], rtol=0)
    assert gram.trace() == pytest.approx(np.trace(dense), rel=rtol)


# --- closed forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [1.0, 0.3])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_gaussian_model(variance, bias):
    # F = I_C (x) E[z z^T] / variance, with z = (x, 1) where there is a bias.
    x = torch.randn(9, 4).double()
    model = nn.Linear(4, 3, bias=bias).double()
    gram = fisher_gram(model, Samples(x), likelihood=Gaussian(variance))
    z = torch.cat([x, torch.ones(9, 1)], 1) if bias else x
    dense = np.kron(np.eye(3), (z.T @ z / 9 / variance).numpy())
    assert_same_spectrum(gram, dense, 1e-13)
    assert gram.n_parameters == model.weight.numel() + 3 * bias
    assert gram.rows_per_sample == 3


def test_logistic_regression():
    # F = E[p (1 - p) z z^T].
    x = torch.randn(9, 4).double()
    model = nn.Linear(4, 1).double()
    gram = fisher_gram(model, Samples(x), likelihood=Bernoulli())
    p = model(x).sigmoid().detach()
    z = torch.cat([x, torch.ones(9, 1)], 1)
    assert_same_spectrum(gram, ((p * (1 - p) * z).T @ z / 9).numpy(), 1e-13)


def test_softmax_regression():
    # F = E[(diag(p) - p p^T) (x) z z^T].
    x = torch.randn(9, 4).double()
    model = nn.Linear(4, 3).double()
    gram = fisher_gram(model, Samples(x), likelihood=Softmax())
    z = torch.cat([x, torch.ones(9, 1)], 1)
    dense = sum(
        np.kron(softmax_fisher(f).numpy(), torch.outer(row, row).numpy())
        for f, row in zip(model(x).detach(), z, strict=True)
    )
    assert_same_spectrum(gram, dense / 9, 1e-13)
    assert gram.rows_per_sample == 2


# --- dense matrices -----------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "data"), [(mlp, vectors), (cnn, images)])
@pytest.mark.parametrize(
    ("likelihood", "output_fisher"),
    [
        (Softmax(), softmax_fisher),
        (Gaussian(0.5), lambda f: 2 * torch.eye(len(f)).double()),
        (Bernoulli(), lambda f: torch.diag(f.sigmoid() * (1 - f.sigmoid()))),
    ],
)
def test_spectrum_is_that_of_the_dense_matrix(make, data, likelihood, output_fisher):
    model, samples = make(), data()
    gram = fisher_gram(model, samples, likelihood=likelihood)
    assert gram.route == "layer by layer"
    assert_same_spectrum(gram, dense_fisher(model, samples, output_fisher))


def test_empirical_fisher_is_the_second_moment_of_gradients():
    model, samples = mlp(), vectors()
    rows = []
    for one in samples.batches(1):
        loss = F.cross_entropy(model(one.inputs), one.targets)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        rows.append(torch.cat([g.reshape(-1) for g in gradients]))
    gradients = torch.stack(rows).numpy()
    gram = fisher_gram(model, samples, kind="empirical", loss=F.cross_entropy)
    np.testing.assert_allclose(gram.gram, gradients @ gradients.T / 6, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(gram.sample_traces(), (gradients**2).sum(1), rtol=1e-12)


def test_mean_empirical_fisher_over_all_labels_is_the_true_one():
    # The definition: F = E_{y ~ p(.|x)}[g g^T], for one sample over its four labels.
    model, x = mlp(), torch.randn(1, 5).double()
    true = fisher_gram(model, Samples(x), likelihood=Softmax()).trace()
    p = model(x).softmax(1)[0].tolist()
    empirical = [
        fisher_gram(
            model, Samples(x, torch.tensor([y])), kind="empirical", likelihood=Softmax()
        ).trace()
        for y in range(4)
    ]
    assert true == pytest.approx(np.dot(p, empirical), rel=1e-12)


def test_drawn_labels_estimate_the_true_fisher_without_bias():
    model, samples = mlp(), vectors()
    true = fisher_gram(model, samples, likelihood=Softmax())
    traces = [
        fisher_gram(model, samples, kind="mc", likelihood=Softmax(), draws=4, seed=seed).trace()
        for seed in range(50)
    ]
    error = np.std(traces) / np.sqrt(50)
    assert abs(np.mean(traces) - true.trace()) < 4 * error
    many = fisher_gram(model, samples, kind="mc", draws=400, loss=F.cross_entropy)
    assert many.rows_per_sample == 400
    assert many.trace() == pytest.approx(true.trace(), abs=4 * np.std(traces) / 10)
    assert many.spectrum()[0] == pytest.approx(true.spectrum()[0], rel=0.2)
    again = fisher_gram(model, samples, kind="mc", draws=400, loss=F.cross_entropy)
    assert again == many


class Tagger(nn.Module):
    """Logits of four classes at each of some positions, of shape (N, T, C)."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 5)
        self.mixed = nn.GRU(5, 5, batch_first=True)
        self.head = nn.Linear(5, 4)

    def forward(self, tokens):
        return self.head(self.mixed(self.embedding(tokens))[0])


def padded_tags():
    targets = torch.randint(4, (5, 3))
    targets[0, 1:] = targets[3, 2] = -100
    return Samples(torch.randint(9, (5, 3)), targets)


@pytest.mark.parametrize("kind", ["true", "empirical"])
def test_the_gradients_of_positions_add_up_before_they_are_squared(kind):
    model, samples = Tagger().double(), padded_tags()
    parameters = list(model.parameters())
    total = 0
    for sample in samples.batches(1):
        logits = model(sample.inputs)[0]
        gradient = 0
        for place, label in enumerate(sample.targets[0].tolist()):
            if label == -100:
                continue
            jacobian = torch.stack(
                [
                    torch.cat(
                        [
                            part.flatten()
                            for part in torch.autograd.grad(one, parameters, retain_graph=True)
                        ]
                    )
                    for one in logits[place]
                ]
            )
            p = logits[place].detach().softmax(0)
            if kind == "true":
                total = total + jacobian.T @ softmax_fisher(logits[place].detach()) @ jacobian
            else:
                gradient = gradient + (p - F.one_hot(torch.tensor(label), 4)) @ jacobian
        if kind == "empirical":
            total = total + torch.outer(gradient, gradient)
    gram = fisher_gram(model, samples, kind=kind, likelihood=Softmax(axis=-1))
    assert_same_spectrum(gram, (total / 5).numpy())
    assert gram.route.startswith("layer by layer")


def test_any_loss_of_a_sample_gives_an_empirical_fisher():
    model, samples = mlp(), vectors()

    def weighted(outputs, targets):
        return F.cross_entropy(outputs, targets) * 3 + outputs.square().sum()

    rows = []
    for one in samples.batches(1):
        gradients = torch.autograd.grad(
            weighted(model(one.inputs), one.targets), list(model.parameters())
        )
        rows.append(torch.cat([g.reshape(-1) for g in gradients]))
    expected = torch.stack(rows)
    gram = fisher_gram(model, samples, kind="empirical", loss=weighted)
    np.testing.assert_allclose(gram.gram, (expected @ expected.T / 6).numpy(), rtol=1e-12)


@pytest.mark.parametrize("kind", ["true", "empirical"])
@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (F.cross_entropy, lambda: torch.randint(4, (6,))),
        (F.mse_loss, lambda: torch.randn(6, 4).double()),
        (F.binary_cross_entropy_with_logits, lambda: torch.rand(6, 4).round().double()),
    ],
)
def test_reduction_of_the_loss_changes_nothing(kind, loss, targets):
    model, samples = mlp(), Samples(torch.randn(6, 5).double(), targets())
    by_reduction = [
        fisher_gram(model, samples, kind=kind, loss=functools.partial(loss, reduction=reduction))
        for reduction in ("mean", "sum", "none")
    ]
    assert by_reduction[0] == by_reduction[1] == by_reduction[2]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batch_size_changes_nothing(batch_size):
    model, samples = mlp(), vectors()
    gram = fisher_gram(model, samples, likelihood=Softmax(), batch_size=batch_size)
    expected = fisher_gram(model, samples, likelihood=Softmax())
    np.testing.assert_allclose(gram.gram, expected.gram, rtol=1e-12, atol=1e-15)


def test_float32_model_agrees_with_float64():
    model, samples = mlp(), vectors()
    expected = fisher_gram(model, samples, likelihood=Softmax())
    single = Samples(samples.inputs.float())
    gram = fisher_gram(model.float(), single, likelihood=Softmax())
    assert gram.gram.dtype == np.float64
    assert gram.noise_floor > expected.noise_floor
    np.testing.assert_allclose(
        gram.spectrum(), expected.spectrum(), rtol=1e-5, atol=gram.noise_floor
    )


def test_confident_float32_input_gives_no_nan_and_the_right_information():
    # One input at a margin of 60: its trace is about 2 e^-60 |z|^2, not NaN and not rounding.
    model = nn.Linear(2, 3)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([60.0, 0.0, 0.0]))
    data = Samples(torch.tensor([[1.0, 2.0]]))
    gram = fisher_gram(model, data, likelihood=Softmax())
    # tr(diag(p) - p p^T) = 1 - sum p^2 = 2 (1 - p_0) to first order; |z|^2 = 1 + 4 + 1.
    tail = 2 * np.exp(-60.0)
    first_order = 6 * (tail + tail)
    assert gram.trace() == pytest.approx(first_order, rel=1e-4)


# --- parameters ---------------------------------------------------------------------------------


def test_frozen_parameters_are_left_out():
    model, samples = mlp(), vectors()
    model[0].weight.requires_grad_(False)
    gram = fisher_gram(model, samples, likelihood=Softmax())
    assert gram.n_parameters == 7 + 28 + 4
    assert_same_spectrum(gram, dense_fisher(model, samples, softmax_fisher))


class Tied(nn.Module):
    """A token model whose head is its embedding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 3)
        self.head = nn.Linear(3, 6, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.embedding(tokens).mean(1)))


def test_tied_parameters_count_once_and_add_their_gradients():
    model = Tied().double()
    samples = Samples(torch.randint(6, (5, 4)))
    gram = fisher_gram(model, samples, likelihood=Softmax())
    assert gram.n_parameters == 18
    assert_same_spectrum(gram, dense_fisher(model, samples, softmax_fisher))


class Reused(nn.Module):
    """A module called twice, a raw parameter, and a parameter of dimension zero."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)
        self.shift = nn.Parameter(torch.randn(5))
        self.scale = nn.Parameter(torch.tensor(1.3))

    def forward(self, x):
        return self.scale * self.layer(torch.tanh(self.layer(x)) + self.shift)


def test_reused_modules_and_raw_parameters():
    model, samples = Reused().double(), vectors()
    gram = fisher_gram(model, samples, likelihood=Softmax())
    assert gram.n_parameters == 36
    assert_same_spectrum(gram, dense_fisher(model, samples, softmax_fisher))


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


def test_transformer_layer():
    model, samples = Attentive().double().eval(), Samples(torch.randn(4, 5, 6).double())
    gram = fisher_gram(model, samples, likelihood=Softmax())
    # Attention uses its weights without calling the modules that own them.
    attention = "layer.self_attn"
    left = [f"{attention}.in_proj_weight", f"{attention}.in_proj_bias"]
    left += [f"{attention}.out_proj.weight", f"{attention}.out_proj.bias"]
    assert gram.route == f"layer by layer; vmap: {', '.join(left)}"
    assert_same_spectrum(gram, dense_fisher(model, samples, softmax_fisher))


# --- inputs -------------------------------------------------------------------------------------


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 4)

    def forward(self, x, gate, scale=1.0):
        return scale * self.layer(x) * gate


def test_dict_tuple_and_list_inputs():
    model = TwoInputs().double()
    x, gate = torch.randn(6, 5).double(), torch.rand(6, 1).double()
    as_dict = Samples({"x": x, "gate": gate, "scale": torch.tensor(1.0).double()})
    expected = fisher_gram(model, Samples((x, gate)), likelihood=Softmax())
    assert expected.route == "layer by layer"
    for samples in (as_dict, Samples([x, gate])):
        gram = fisher_gram(model, samples, likelihood=Softmax())
        assert gram.route == "layer by layer"
        np.testing.assert_allclose(gram.gram, expected.gram, rtol=1e-13)
    assert_same_spectrum(expected, dense_fisher(model, as_dict, softmax_fisher))


def test_one_sample():
    model, samples = cnn(), images(1)
    gram = fisher_gram(model, samples, likelihood=Softmax())
    assert gram.gram.shape == (3, 3)
    assert_same_spectrum(gram, dense_fisher(model, samples, softmax_fisher))


@pytest.mark.parametrize("likelihood", [Gaussian(), Bernoulli()])
@pytest.mark.parametrize("kind", ["true", "empirical"])
def test_outputs_of_shape_n_are_read_as_one_column(likelihood, kind):
    column = nn.Linear(5, 1).double()
    flat = nn.Sequential(column, nn.Flatten(0))
    x, y = torch.randn(6, 5).double(), torch.rand(6).double()
    expected = fisher_gram(column, Samples(x, y[:, None]), kind=kind, likelihood=likelihood)
    gram = fisher_gram(flat, Samples(x, y), kind=kind, likelihood=likelihood)
    np.testing.assert_allclose(gram.gram, expected.gram, rtol=1e-13)


# --- routes -------------------------------------------------------------------------------------


class DataDependent(nn.Module):
    """Control flow that torch.func.vmap cannot follow."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return -self.inner(x) if float(x.sum()) > 1e9 else self.inner(x)


@pytest.mark.parametrize("kind", ["true", "empirical"])
@pytest.mark.parametrize(("make", "data"), [(mlp, vectors), (cnn, images)])
def test_loop_gives_the_same_gram_as_vmap(make, data, kind, monkeypatch):
    monkeypatch.setattr(setting, "covered_layers", lambda *arguments: {})
    model, samples = make(), data()
    expected = fisher_gram(model, samples, kind=kind, likelihood=Softmax())
    gram = fisher_gram(DataDependent(model), samples, kind=kind, likelihood=Softmax())
    assert expected.route == "vmap"
    assert gram.route.startswith("loop (vmap cannot follow the model: RuntimeError")
    np.testing.assert_allclose(gram.gram, expected.gram, rtol=1e-10, atol=1e-14)


def test_loop_leaves_out_frozen_and_unused_parameters():
    model, samples = mlp(), vectors()
    model[0].weight.requires_grad_(False)
    expected = fisher_gram(model, samples, likelihood=Softmax())
    looped = DataDependent(model)
    looped.unused = nn.Linear(2, 2).double()
    gram = fisher_gram(looped, samples, likelihood=Softmax())
    assert gram.n_parameters == expected.n_parameters + 6
    np.testing.assert_allclose(gram.gram, expected.gram, rtol=1e-10)


@pytest.mark.parametrize("wrap", [nn.Sequential, DataDependent])
def test_works_where_the_caller_has_switched_gradients_off(wrap):
    model, samples = wrap(mlp()), vectors()
    expected = fisher_gram(model, samples, likelihood=Softmax())
    with torch.no_grad():
        assert fisher_gram(model, samples, likelihood=Softmax()) == expected


# --- neutrality ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [nn.Sequential, DataDependent])
def test_model_and_random_streams_are_left_as_they_were(wrap):
    model, samples = wrap(cnn()), images()
    next(model.modules()).training = True
    F.cross_entropy(model(samples.inputs), samples.targets).backward()
    model.get_parameter(next(iter(dict(model.named_parameters())))).grad = None
    before = snapshot(model)
    fisher_gram(model, samples, kind="true", likelihood=Softmax())
    fisher_gram(model, samples, kind="empirical", loss=F.cross_entropy)
    after = snapshot(model)
    assert before.keys() == after.keys()
    for name, value in before.items():
        same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
        assert same(value, after[name]), name


def snapshot(model):
    facts = {f"state {name}": value.clone() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        facts[f"grad {name}"] = None if grad is None else grad.clone()
        facts[f"requires_grad {name}"] = parameter.requires_grad
    facts |= {f"mode {name}": module.training for name, module in model.named_modules()}
    facts["torch"] = torch.get_rng_state()
    facts["numpy"] = torch.from_numpy(np.random.get_state()[1].astype(np.int64))
    facts["python"] = random.getstate()
    return facts


# --- refusals -----------------------------------------------------------------------------------


class Outputs(nn.Module):
    """A model that turns logits into something else."""

    def __init__(self, change):
        super().__init__()
        self.inner = nn.Linear(5, 4).double()
        self.change = change

    def forward(self, x):
        return self.change(self.inner(x))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda y: y.argmax(1), ValueError, "outputs are int64.*logits"),
        (lambda y: {"logits": y}, TypeError, "outputs are a dict.*wrap the model"),
        (lambda y: y[:, 0], ValueError, r"shape \(6,\), expected logits of shape \(N, C\)"),
        (lambda y: y.sum(), ValueError, "first axis must be the samples"),
        (lambda y: y[:3], ValueError, "first axis must be the samples"),
        (lambda y: y / 0, ValueError, "outputs are not finite for 6 of 6 samples"),
        (lambda y: y[:, :1], ValueError, "one class"),
        (lambda y: y - y.mean(0), ValueError, "depend on the other samples or on chance"),
        (lambda y: F.dropout(y, 0.5, True), ValueError, "depend on the other samples or on"),
        (lambda y: (y - y.detach()).abs().sqrt() + y, ValueError, "gradients are not finite"),
    ],
)
def test_outputs_without_meaning_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        fisher_gram(Outputs(change), vectors(), likelihood=Softmax())


def test_the_sample_that_is_not_finite_is_named():
    data = vectors()
    data.inputs[4, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of 6 samples, the first of them sample 4"):
        fisher_gram(mlp(), data, likelihood=Softmax())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Flatten(), "no parameters"),
        (nn.Linear(5, 4).requires_grad_(False), "all 2 parameters .* requires_grad=False"),
        (nn.Linear(5, 4, dtype=torch.complex64), "'weight' is torch.complex64"),
    ],
)
def test_models_without_real_trainable_parameters_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        fisher_gram(model, vectors(), likelihood=Softmax())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "monte carlo"}, ValueError, "kind must be one of"),
        ({"kind": "mc", "draws": 0}, ValueError, "draws must be at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"likelihood": None}, ValueError, "nothing says what the outputs mean"),
        ({"likelihood": None, "loss": F.l1_loss}, ValueError, "'l1_loss' does not say"),
        ({"likelihood": Softmax}, TypeError, r"such as Softmax\(\)"),
        ({"likelihood": "softmax"}, TypeError, r"such as Softmax\(\)"),
        ({"data": Samples(torch.zeros(0, 5))}, ValueError, "no samples"),
        ({"kind": "empirical"}, ValueError, "needs the targets"),
        ({"memory_share": 1e-12}, MemoryEstimateError, "fewer samples"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    given = {"data": Samples(torch.randn(6, 5).double()), "likelihood": Softmax()} | arguments
    with pytest.raises(error, match=message):
        fisher_gram(mlp(), **given)


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (F.cross_entropy, torch.tensor([0, 1, 2, 3, 4, 0]), "from 0 to 4"),
        (F.cross_entropy, torch.tensor([0, 1]), r"shape \(6,\)"),
        (F.mse_loss, torch.randn(6), "real numbers"),
        (lambda y, t: y.sum(), torch.zeros(3), "6 samples, but 3 targets"),
        (
            lambda y, t: y,
            torch.zeros(6),
            r"one differentiable number, got Tensor of shape \(1, 4\)",
        ),
        (lambda y, t: 0.5, torch.zeros(6), "one differentiable number, got float"),
        (lambda y, t: y.detach().sum(), torch.zeros(6), "one differentiable number"),
    ],
)
def test_targets_and_losses_that_do_not_fit_are_refused(loss, targets, message):
    data = Samples(torch.randn(6, 5).double(), targets)
    with pytest.raises(ValueError, match=message):
        fisher_gram(mlp(), data, kind="empirical", loss=loss)


def test_memory_is_refused_before_any_gradient():
    class Huge(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1).expand(2**40))

        def forward(self, x):
            return x[:, :2] * self.weight[0]

    with pytest.raises(MemoryEstimateError, match=r"6 samples, 1 a sample.*fewer samples"):
        fisher_gram(Huge(), Samples(torch.randn(6, 5)), likelihood=Softmax())
