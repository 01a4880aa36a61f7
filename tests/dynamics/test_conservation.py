"""Conservation laws: found by structure, verified by gradients, and drifting as theory says."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe import Samples, TrajectoryRecorder
from geomprobe.dynamics import (
    conservation_drift,
    conserved_quantities,
    count_conserved,
    drift_order,
    gradient_identities,
    n_conserved,
    parameter_states,
)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


class Residual(nn.Module):
    """A block with a skip connection: only what is inside the branch is a chain."""

    def __init__(self):
        super().__init__()
        self.first, self.inner = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.outer, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4 * 9, 3)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = x + self.outer(self.inner(x).relu())
        x = F.max_pool2d(x, 2)
        return self.head(x.view(x.size(0), -1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        mixed, _ = self.attention(x, x, x, need_weights=False)
        return self.head(self.norm(x + mixed))[:, 0]


class Pooled(nn.Module):
    """Three logits of what a layer makes of a sequence."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x).mean(dim=1)[:, :3]


def mlp():
    return nn.Sequential(nn.Linear(4, 7), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.LeakyReLU(),
        nn.Conv2d(4, 8, 3, groups=2),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 4, 1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.LayerNorm(6),
        nn.Linear(6, 3),
        nn.LogSoftmax(dim=1),
    )


IMAGES, ROWS = (10, 2, 6, 6), (10, 4)
CASES = {
    "mlp": (
        mlp,
        ROWS,
        ["0 to 1", "1 to 3", "3.weight before softmax", "3.bias before softmax"],
    ),
    "cnn": (
        cnn,
        IMAGES,
        [
            *("0 before 1", "1 to 3", "3 to 5", "5 to 8", "8 before 9", "8.weight before 9"),
            *("8.bias before 9", "9 to 10"),
            *("10.weight before softmax", "10.bias before softmax"),
        ],
    ),
    "residual": (
        Residual,
        IMAGES,
        ["inner to outer", "head.weight before softmax", "head.bias before softmax"],
    ),
    "transformer": (
        lambda: Pooled(nn.TransformerEncoderLayer(6, 1, 8, batch_first=True)),
        (10, 5, 6),
        [
            "layer.linear1 to layer.linear2",
            "layer.self_attn head 0 queries to keys",
            "layer.self_attn head 0 values to output",
        ],
    ),
    "attention": (
        Attention,
        (10, 5, 6),
        [f"attention head {h} {w}" for h in (0, 1) for w in ("queries to keys", "values to output")]
        + ["norm to head"],
    ),
}


def loss_of(model):
    last = list(model.modules())[-1]
    return F.nll_loss if isinstance(last, nn.LogSoftmax) else F.cross_entropy


@pytest.mark.parametrize("case", CASES)
def test_what_is_found_is_what_gradients_obey(case):
    build, shape, names = CASES[case]
    model = build().double()
    data = Samples(torch.randn(shape, dtype=torch.float64), torch.arange(10) % 3)
    found = conserved_quantities(model, softmax=True)
    assert [one.name for one in found] == names
    before = copy.deepcopy(model.state_dict())
    residuals = gradient_identities(model, data, loss_of(model), found)
    for one in found:
        # LayerNorm has no term of eps in closed form: its scale holds as far as eps is small.
        limit = 1e-3 if one.kind == "scale" and "8 before" in one.name else 1e-12
        assert residuals[one.name].residual < limit, one.name
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_the_scale_before_batch_norm_needs_its_eps():
    model = cnn().double()
    model[1].eps = 0.1
    data = Samples(torch.randn(IMAGES, dtype=torch.float64), torch.arange(10) % 3)
    found = conserved_quantities(model)
    one = gradient_identities(model, data, F.nll_loss, found)["0 before 1"]
    assert one.residual < 1e-13
    assert one.without_eps > 1e-3


def test_forms_and_counts_are_those_of_the_theory():
    model = mlp()
    found = conserved_quantities(model)
    linear, bent = found["0 to 1"], found["1 to 3"]
    assert (linear.kind, linear.form, linear.count(model.state_dict())) == ("balance", "matrix", 28)
    assert (bent.kind, bent.form, bent.count(model.state_dict())) == ("rescaling", "diagonal", 5)
    w = {name: value.detach().double() for name, value in model.named_parameters()}
    outer = torch.outer(w["0.bias"], w["0.bias"])
    expected = w["0.weight"] @ w["0.weight"].T + outer - w["1.weight"].T @ w["1.weight"]
    assert torch.allclose(linear.evaluate(w), expected)
    into = w["1.weight"].square().sum(1) + w["1.bias"] ** 2
    assert torch.allclose(bent.evaluate(w), into - w["3.weight"].square().sum(0))


def changed(build):
    def make():
        model = mlp()
        build(model)
        return model

    return make


def tie(model):
    model[1] = nn.Linear(7, 7)
    model[3] = nn.Linear(7, 7)
    model[3].weight = model[1].weight


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(self.a(x)) + self.a.weight.sum()


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(self.a(self.a(x)))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(x) if x.sum() > 0 else self.b(self.a(x))


@pytest.mark.parametrize(
    ("model", "layer", "reason"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)), "0", "commute"),
        (Residual, "first", "goes to 2 places"),
        (Residual, "outer", "together with something else"),
        (changed(tie), "1", "used elsewhere"),
        (Reads, "a", "used elsewhere"),
        (Twice, "a", "called 2 times"),
        (changed(lambda m: m[1].bias.requires_grad_(False)), "1", "frozen"),
        (changed(lambda m: nn.utils.parametrizations.weight_norm(m[1])), "1", "not a plain layer"),
        (Branches, "(root)", "torch.fx cannot follow"),
        (mlp, "3", "softmax"),
        (lambda: nn.Sequential(nn.Linear(8, 8), nn.MaxPool1d(2), nn.Linear(4, 3)), "0", "mix"),
    ],
)
def test_what_is_left_out_has_a_reason(model, layer, reason):
    found = conserved_quantities(model())
    assert reason in found.left_out[layer]
    assert all(not one.name.startswith(f"{layer} ") for one in found)


# --- Drift ---------------------------------------------------------------------------------------


def train(lr, steps, *, momentum=0.0, decay=0.0, build=mlp):
    torch.manual_seed(0)
    model = build().double()
    x = torch.randn(12, 4, dtype=torch.float64)
    y = torch.arange(12) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
    states, gradients = [copy.deepcopy(model.state_dict())], []
    for step in range(steps):
        batch = torch.arange(12)[step % 2 :: 2]  # Identities hold for every mini-batch.
        optimizer.zero_grad()
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        optimizer.step()
        states.append(copy.deepcopy(model.state_dict()))
    return model, states, gradients


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_the_drift_of_sgd_is_known_to_rounding(momentum, decay):
    model, states, gradients = train(0.05, 30, momentum=momentum, decay=decay)
    quantities = conserved_quantities(model, softmax=True)
    found = conservation_drift(
        states, quantities, lr=0.05, gradients=gradients, momentum=momentum, weight_decay=decay
    )
    assert len(quantities) == 4
    assert max(found.misfit.values()) < 1e-13
    assert found.drift["0 to 1"][-1] > 1e-6
    if not decay:
        assert found.drift["3.weight before softmax"].max() < 1e-13
    frame = found.to_frame()
    assert frame.loc["0 to 1", "predicted"] == pytest.approx(frame.loc["0 to 1", "drift"])


def test_the_drift_of_a_deep_linear_network_halves_with_the_learning_rate():
    # Arora et al. (2018): exact under gradient flow. Ratios of 2.04 and 2.02 were published.
    def deep():
        return nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(3)), nn.Linear(4, 3))

    lrs, drifts = [0.1, 0.05, 0.025, 0.0125], []
    for lr in lrs:
        model, states, _ = train(lr, round(4 / lr), build=deep)
        quantities = conserved_quantities(model)
        found = conservation_drift([states[0], states[-1]], quantities, lr=lr, steps=[0, 4 / lr])
        drifts.append(found.drift["0 to 1"][-1])
    order = drift_order(lrs, drifts)
    assert order.value == pytest.approx(1, abs=0.05)
    assert drifts[2] / drifts[3] == pytest.approx(2, abs=0.05)


def test_pure_weight_decay_follows_the_exponential_law():
    model = mlp().double()
    lr, decay = 1e-3, 0.5
    states = [
        {k: v * (1 - lr * decay) ** t for k, v in model.state_dict().items()} for t in (0, 2000)
    ]
    found = conservation_drift(
        states, conserved_quantities(model), lr=lr, steps=[0, 2000], weight_decay=decay
    )
    # (1 - x)^(2 T) and exp(-2 x T) differ by x^2 T of themselves, x = lr * decay.
    for drift in found.drift.values():
        assert drift[-1] < 2 * (lr * decay) ** 2 * 2000
    plain = conservation_drift(states, conserved_quantities(model), lr=lr, steps=[0, 2000])
    assert plain.drift["1 to 3"][-1] > 0.1


def test_states_of_a_recorded_trajectory():
    model = mlp()
    recorder = TrajectoryRecorder(model)
    recorder.record(0)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model[0].weight.add_(1)
    recorder.record(1)
    first, last = parameter_states(model, recorder.trajectory)
    assert all(torch.equal(first[name], value) for name, value in before.items())
    assert torch.equal(last["0.weight"], model[0].weight)
    with pytest.raises(ValueError, match="trainable parameters"):
        next(parameter_states(nn.Linear(2, 2), recorder.trajectory))


# --- Counts --------------------------------------------------------------------------------------


def product(n, m, r):
    return lambda theta: theta[: n * r].view(n, r) @ theta[n * r :].view(m, r).T


@pytest.mark.parametrize(
    ("n", "m", "r", "expected"),
    [(5, 4, 3, 6), (2, 2, 3, 6), (1, 1, 3, 5), (1, 1, 4, 7), (2, 1, 5, 12)],
)
def test_products_of_two_matrices_conserve_as_many_as_published(n, m, r, expected):
    # Marcotte, Gribonval and Peyré (2023): the formula, and the rank of the Lie algebra.
    assert n_conserved(n, m, r) == expected
    point = torch.randn((n + m) * r, dtype=torch.float64)
    found = count_conserved(product(n, m, r), point)
    assert found.conserved == expected
    assert found.gap > 1e4


def test_a_relu_unit_conserves_one_number_and_a_third_layer_adds_another_balance():
    # Of one unit with d inputs and e outputs: |u|^2 - |v|^2.
    unit = count_conserved(lambda t: torch.outer(t[:3], t[3:]), torch.randn(5))
    assert unit.conserved == 1

    def three(t):
        a, b, c = t[:4].view(2, 2), t[4:8].view(2, 2), t[8:].view(2, 2)
        return c @ b @ a

    deep = count_conserved(three, torch.randn(12))
    assert deep.conserved == 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: n_conserved(0, 1, 1), "at least 1"),
        (lambda: count_conserved(torch.sin, torch.ones(2, 2)), "real vector"),
        (lambda: conservation_drift([{}], conserved_quantities(mlp()), lr=0.1), "two states"),
        (lambda: conservation_drift([{}, {}], (), lr=0.1, gradients=[]), "0 gradients"),
        (lambda: conservation_drift([{}, {}], (), lr=0.0), "lr must be positive"),
        (lambda: drift_order([0.1, 0.1], [1.0, 1.0]), "two or more"),
        (lambda: drift_order([0.1, 0.2], [1.0, 0.0]), "must be positive"),
        (
            lambda: gradient_identities(mlp(), Samples(torch.ones(3, 4)), F.mse_loss, ()),
            "targets are needed",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_bias_before_batch_norm_has_a_gradient_of_zero_beside_the_others():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    data = Samples(torch.randn(32, 6), torch.randint(3, (32,)))
    found = gradient_identities(model, data, F.cross_entropy, conserved_quantities(model))
    assert found["0.bias before 1"].residual < 1e-6
    # One that is no symmetry: the bias of a layer without batch norm.
    model[1] = nn.Identity()
    names = conserved_quantities(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)))
    false = replace(names, quantities=(names["0.bias before 1"],))
    found = gradient_identities(model, data, F.cross_entropy, false)
    assert found["0.bias before 1"].residual > 1e-2


class Weighed(nn.Module):
    """Positions, or outputs, weighed by a softmax over an axis."""

    def __init__(self, dim, softmax=F.softmax, units=1, pool=True):
        super().__init__()
        self.score, self.head, self.pool = nn.Linear(4, units), nn.Linear(4, 3), pool
        self.weigh = softmax(dim=dim) if isinstance(softmax, type) else None
        self.softmax, self.dim = softmax, dim

    def forward(self, h):
        score = self.score(h)
        weight = self.weigh(score) if self.weigh is not None else self.softmax(score, dim=self.dim)
        return self.head((weight * h).sum(dim=1)) if self.pool else weight


@pytest.mark.parametrize("softmax", [F.softmax, F.log_softmax, torch.softmax, nn.Softmax])
def test_a_softmax_over_another_axis_conserves_no_sum(softmax):
    found = conserved_quantities(Weighed(1, softmax))
    assert not [q for q in found if q.kind == "translation"]
    assert "is not over its units" in found.left_out["score"]
    for model in (Weighed(-1, softmax, 4), Weighed(1, softmax, 4, pool=False)):
        assert "score.weight before softmax" in {q.name for q in conserved_quantities(model)}


def test_finding_leaves_nothing_in_what_a_forward_pass_keeps():
    class Keeps(nn.Sequential):
        kept: list

        def forward(self, x):
            self.kept.append(x)
            return super().forward(x)

    model = Keeps(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model.kept = []
    assert len(conserved_quantities(model)) == 1
    assert model.kept == []


def test_a_wide_balance_counts_what_is_independent():
    model = nn.Sequential(nn.Linear(2, 10, bias=False), nn.Linear(10, 1, bias=False))
    (balance,) = conserved_quantities(model)
    # Marcotte et al. (2023): fewer than the 55 entries of a symmetric matrix of ten rows.
    assert balance.count(model.state_dict()) == n_conserved(2, 1, 10) == 27


def test_a_pool_of_more_axes_than_the_convolution_is_not_followed():
    tail = [nn.ReLU(), nn.Conv1d(4, 2, 1)]
    over = nn.Sequential(nn.Conv1d(2, 4, 3), nn.MaxPool2d((1, 2)), *tail)
    along = nn.Sequential(nn.Conv1d(2, 4, 3), nn.MaxPool1d(2), *tail)
    assert "may mix its units" in conserved_quantities(over).left_out["0"]
    assert [q.kind for q in conserved_quantities(along)] == ["rescaling"]


def test_identities_are_checked_on_samples_of_tensors_only():
    model = nn.Linear(3, 2)
    loader = torch.utils.data.DataLoader(torch.randn(6, 3))
    with pytest.raises(TypeError, match=r"must be Samples.*got DataLoader"):
        gradient_identities(model, loader, F.cross_entropy, conserved_quantities(model))
