"""Optimizers beside curvature and likelihoods: known answers are quadratics and a coin."""

import pickle
from dataclasses import replace

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import geomprobe as gp
from geomprobe import Evidence, Samples, Trajectory, TrajectoryRecorder
from geomprobe.auditing.planning import estimated_seconds
from geomprobe.diagnostics.analyzers import EdgeOfStability, NaturalPath
from geomprobe.dynamics import natural_length, step_sizes
from geomprobe.information import Softmax

ROOT = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
HESSIAN = ROOT @ ROOT.T
DUMMY = Samples(torch.zeros(8, 1), torch.zeros(8))


class Bowl(nn.Module):
    """Its five parameters, in two tensors, whatever the inputs."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.b = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x):
        return torch.cat([self.a, self.b]).expand(len(x), 5)


def quadratic(outputs, targets):
    return ((outputs @ HESSIAN) * outputs).sum(dim=1).mean() / 2


def ratio_of(model, optimizer):
    given = Evidence(model=model, data=DUMMY, loss=quadratic, optimizer=optimizer)
    (finding,) = EdgeOfStability()(given)
    return finding.scalars["stability_ratio"]


def in_groups(model, scale, kind, **options):
    """Two groups with step sizes and decays of their own."""
    groups = [
        {"params": [model.a], "lr": 0.1 * scale, "weight_decay": 0.5},
        {"params": [model.b], "lr": 0.4 * scale},
    ]
    return kind(groups, **options)


def frozen(optimizer):
    """Second moments that no step changes any more."""
    for number, parameter in enumerate(p for g in optimizer.param_groups for p in g["params"]):
        square = torch.linspace(1, 4, parameter.numel(), dtype=torch.float64) * (1 + number)
        name = "square_avg" if isinstance(optimizer, torch.optim.RMSprop) else "exp_avg_sq"
        optimizer.state[parameter] = {"step": torch.tensor(1e9), name: square}
        if name == "exp_avg_sq":
            optimizer.state[parameter]["exp_avg"] = torch.zeros_like(parameter)
        else:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


STILL = 1 - 1e-12
OPTIMIZERS = {
    "descent": lambda m, s: in_groups(m, s, torch.optim.SGD),
    "dampened": lambda m, s: in_groups(m, s, torch.optim.SGD, momentum=0.8, dampening=0.3),
    "nesterov": lambda m, s: in_groups(m, s, torch.optim.SGD, momentum=0.8, nesterov=True),
    "adam": lambda m, s: frozen(in_groups(m, s, torch.optim.Adam, betas=(0.8, STILL))),
    "rmsprop": lambda m, s: frozen(in_groups(m, s, torch.optim.RMSprop, momentum=0.8, alpha=STILL)),
    "half": lambda m, s: torch.optim.SGD([m.b], lr=s),
}


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_edge_is_where_the_optimizer_itself_diverges(build):
    model = Bowl()
    edge = 1 / ratio_of(model, build(model, 1.0)).value
    for factor, grows in ((0.97, False), (1.03, True)):
        model = Bowl()
        optimizer = build(model, factor * edge)
        assert ratio_of(model, optimizer).value == pytest.approx(factor)
        if len(optimizer.param_groups) == 1:
            with torch.no_grad():
                model.a.zero_()  # What is not moved would hold the rest in place.
        farthest = 0.0
        for _ in range(600):
            optimizer.zero_grad()
            quadratic(model(DUMMY.inputs), None).backward()
            optimizer.step()
            farthest = max(farthest, float(model.b.detach().norm()))
        # Far out gradients are large enough to change even these second moments.
        assert (farthest > 100) == grows


def test_gradient_descent_on_a_bowl_is_exact():
    model = Bowl()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    given = Evidence(model=model, data=DUMMY, loss=quadratic, optimizer=optimizer)
    # As it comes out of another process, where model and optimizer must still belong together.
    sent, analyzer = pickle.loads(cloudpickle.dumps((given, EdgeOfStability(max_samples=5))))
    (finding,) = analyzer(sent)
    largest = float(torch.linalg.eigvalsh(HESSIAN)[-1])
    assert set(finding.scalars) == set(EdgeOfStability.readings)
    assert finding.scalars["sharpness"].value == pytest.approx(largest)
    ratio = finding.scalars["stability_ratio"]
    assert ratio.value == pytest.approx(0.01 * largest / 2)
    # All samples are alike.
    assert ratio.stderr == pytest.approx(0, abs=1e-9)
    assert (ratio.n, finding.notes) == (5, ("A uniform sample of 5 of 8 inputs.",))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda m: torch.optim.Adagrad(m.parameters()), "Adagrad are not known; known are SGD"),
        (lambda m: torch.optim.AdamW(m.parameters()), "no second moments yet"),
        (lambda m: torch.optim.SGD(Bowl().parameters(), lr=1.0), "moves none"),
        (lambda m: torch.optim.SGD(m.parameters(), lr=1.0, maximize=True), "maximizes"),
        (
            lambda m: torch.optim.SGD(
                [{"params": [m.a], "momentum": 0.5}, {"params": [m.b]}], lr=1.0
            ),
            "different momenta",
        ),
    ],
)
def test_what_has_no_known_edge_is_undefined_with_the_reason(build, reason):
    model = Bowl()
    with pytest.raises(ValueError, match=reason):
        step_sizes(model, build(model))
    assert reason in ratio_of(model, build(model)).note


def test_where_no_parameter_moves_the_ratio_is_zero():
    model = Bowl()
    given = Evidence(model=model, data=DUMMY, loss=quadratic)
    (finding,) = EdgeOfStability()(replace(given, optimizer=torch.optim.SGD(model.parameters(), 0)))
    assert finding.scalars["stability_ratio"].value == 0
    assert "step sizes are 0" in finding.scalars["sharpness"].note


def test_the_edge_is_that_of_the_moved_parameters_where_the_loss_bends_down():
    model = Bowl()

    def saddle(outputs, targets):
        return (outputs[:, 3:].square().sum(1) - outputs[:, :3].square().sum(1)).mean() / 2

    optimizer = torch.optim.SGD([model.a], lr=0.1)
    (finding,) = EdgeOfStability()(
        Evidence(model=model, data=DUMMY, loss=saddle, optimizer=optimizer)
    )
    assert finding.scalars["sharpness"].value == pytest.approx(-1)
    assert finding.scalars["stability_ratio"].value == pytest.approx(-0.05)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.RMSprop])
def test_a_parameter_without_gradients_has_size_zero(kind):
    model = Bowl()
    optimizer = kind(model.parameters(), lr=0.1)
    model.a.square().sum().backward()
    optimizer.step()
    sizes = step_sizes(model, optimizer).sizes
    assert (sizes[:3] > 0).all()
    assert (sizes[3:] == 0).all()
    for state in optimizer.state.values():
        state["step"] = torch.tensor(0.0)
    with pytest.raises(ValueError, match="no second moments yet"):
        step_sizes(model, optimizer)


def test_step_sizes_do_not_know_the_default_dtype_and_device():
    model = Bowl()
    torch.set_default_dtype(torch.float16)
    torch.set_default_device("meta")
    try:
        sizes = step_sizes(model, torch.optim.SGD([model.a], lr=1e-8)).sizes
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert sizes.tolist() == [1e-8] * 3 + [0.0] * 2


def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


X = torch.randn(30, 4, generator=torch.Generator().manual_seed(2))
Y = torch.arange(30) % 3


def trained(model, steps, **options):
    """Gradient descent with the whole batch; its optimizer and its exact path."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, **options)
    recorder = TrajectoryRecorder(model)
    for step in range(steps):
        recorder.record(step)
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return optimizer, recorder.trajectory


def test_a_monitor_takes_the_learning_rate_of_the_moment():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    monitor = gp.Monitor(
        model,
        (X, Y),
        every="1 steps",
        budget=None,
        analyzers="edge_of_stability",
        loss=F.cross_entropy,
        optimizer=optimizer,
        workers=0,
    )
    with monitor:
        for rate in (0.5, 0.05, 0.005):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()
            monitor.step()
            schedule.step()
            scalars = monitor.history[-1].findings[0].scalars
            expected = rate * scalars["sharpness"].value / (2 * 1.9)
            assert scalars["stability_ratio"].value == pytest.approx(expected)
            assert scalars["stability_ratio"].stderr > 0


class Coin(nn.Module):
    """Two classes with logits (theta, 0), whatever the input."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return torch.stack([self.theta.expand(len(x)), torch.zeros(len(x))], dim=1)


def test_the_path_of_a_coin_in_closed_form():
    # Arc length of the Bernoulli family in its logit: the integral of sech(t / 2) / 2.
    points = np.linspace(-3, 3, 301)[:, None]
    path = Trajectory(points, np.arange(301), np.zeros(301))
    data = Samples(torch.zeros(5, 1), torch.zeros(5, dtype=torch.long))
    given = Evidence(model=Coin(), data=data, loss=F.cross_entropy, trajectory=path)
    (finding,) = NaturalPath()(given)
    expected = 4 * np.arctan(np.tanh(3 / 4))
    assert set(finding.scalars) == set(NaturalPath.readings)
    assert finding.scalars["natural_length"].value == pytest.approx(expected, rel=1e-4)
    assert finding.scalars["natural_per_unit"].value == pytest.approx(expected / 6, rel=1e-4)
    assert finding.notes == ("Length through 101 of the 301 points of the path.",)
    # The class is the first: the loss falls along the path, and there is no other direction.
    for angle in ("to_natural", "to_gradient", "between"):
        assert finding.scalars[angle].value == pytest.approx(0, abs=1e-3)
    assert list(finding.arrays["angle_steps"][[0, -1]]) == [0, 299]


def test_an_update_without_a_gradient_or_a_finite_one_has_no_angles():
    # From logit 200 on the probability of the class rounds to one.
    points = np.array([0.0, 1.0, 200.0, 201.0])[:, None]
    given = Evidence(
        model=Coin(),
        data=Samples(torch.zeros(5, 1), torch.zeros(5, dtype=torch.long)),
        loss=F.cross_entropy,
        trajectory=Trajectory(points, [0, 1, 2, 12], np.zeros(4)),
    )
    (finding,) = NaturalPath()(given)
    assert finding.scalars["to_gradient"].value == pytest.approx(0, abs=1e-3)
    assert finding.scalars["to_gradient"].n == 2
    np.testing.assert_array_equal(np.isnan(finding.arrays["to_gradient"]), [False, False, True])
    assert "1 of 3 updates have no angles: the gradient is zero here" in finding.notes[-1]
    assert "An update is the sum of 1 to 10 steps." in finding.notes
    assert "each the sum of 1 to 10 steps" in finding.scalars["between"].method
    undefined = replace(given, loss=lambda outputs, targets: outputs.sum() * torch.nan)
    (finding,) = NaturalPath(likelihood=Softmax())(undefined)
    assert "gradient is not finite" in finding.scalars["to_natural"].note


class Positions(nn.Module):
    """Five logits at each position of a sequence, along the last axis or the second."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis
        self.layer = nn.Linear(4, 5).double()

    def forward(self, x):
        return self.layer(x).movedim(-1, self.axis)


class Tempered(Softmax):
    """Its rows are halved, and so its information quartered."""

    def rows(self, outputs, targets=None):
        return super().rows(outputs, targets) / 2


def test_the_length_counts_positions_that_are_no_padding_along_the_axis_of_classes():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 3, 4, dtype=torch.float64, generator=generator)
    y = torch.randint(0, 5, (8, 3), generator=generator)
    y[:, 1:] = -100
    points = np.random.default_rng(0).normal(size=(3, 25))
    path = Trajectory(points, np.arange(3), np.zeros(3))

    def measured(axis, data, likelihood):
        def loss(outputs, targets):
            return F.cross_entropy(outputs.movedim(axis, 1), targets)

        given = Evidence(model=Positions(axis), data=data, loss=loss, trajectory=path)
        (finding,) = NaturalPath(likelihood)(given)
        assert finding.scalars["to_natural"].value > 0
        return finding.scalars["natural_length"].value

    first = measured(1, Samples(x[:, :1], y[:, :1]), Softmax())
    assert measured(1, Samples(x, y), Softmax()) == pytest.approx(first)
    assert measured(-1, Samples(x, y), Softmax(axis=-1)) == pytest.approx(first)
    # A subclass is asked for its own rows.
    assert measured(-1, Samples(x, y), Tempered(axis=-1)) == pytest.approx(first / 2)


def test_a_model_that_cannot_be_copied_has_a_length_without_angles():
    class Keeps(Coin):
        def __init__(self):
            super().__init__()
            self.kept = self.theta * 2

    path = Trajectory(np.linspace(-1, 1, 5)[:, None], np.arange(5), np.zeros(5))
    data = Samples(torch.zeros(5, 1), torch.zeros(5, dtype=torch.long))
    given = Evidence(model=Keeps(), data=data, loss=F.cross_entropy, trajectory=path)
    (finding,) = NaturalPath()(given)
    assert finding.scalars["natural_length"].value > 0
    assert "cannot be copied" in finding.scalars["to_natural"].note


def test_a_path_along_which_outputs_overflow_is_undefined():
    model = nn.Linear(4, 3)
    points = np.arange(45, dtype=np.float32).reshape(3, 15)
    data = Samples(torch.full((4, 4), 1e38), torch.arange(4) % 3)
    path = Trajectory(points, np.arange(3), np.zeros(3))
    given = Evidence(model=model, data=data, loss=F.cross_entropy, trajectory=path)
    (finding,) = NaturalPath()(given)
    assert "not finite along the path" in finding.scalars["natural_length"].note


def test_the_time_of_an_analyzer_of_a_path_and_data_is_foretold_from_parts_of_the_data():
    seen = []

    class Counts(NaturalPath):
        def __call__(self, evidence):
            seen.append((len(evidence.data), len(evidence.trajectory)))
            return iter(())

    model = network()
    _, path = trained(model, 3)
    given = Evidence(model=model, data=Samples(X, Y), loss=F.cross_entropy, trajectory=path)
    assert estimated_seconds(NaturalPath(), given) > 0
    estimated_seconds(Counts(), given)
    assert {points for _, points in seen} == {3}
    assert max(samples for samples, _ in seen) < len(X)


def test_an_audit_of_gradient_descent_says_that_it_is():
    model = network()
    optimizer, path = trained(model, 12)
    before = [p.detach().clone() for p in model.parameters()]
    report = gp.audit(
        model,
        (X, Y),
        loss=F.cross_entropy,
        trajectory=path,
        optimizer=optimizer,
        analyzers=["natural_path", "edge_of_stability"],
        progress=False,
        strict=True,
    )
    natural, edge = report.findings
    assert natural.scalars["to_gradient"].value < 0.1
    angles = [natural.scalars[name].value for name in ("to_natural", "between")]
    assert angles[0] == pytest.approx(angles[1], abs=0.1)
    assert angles[0] > 5
    whole = natural_length(model, Samples(X, Y), path)
    assert natural.scalars["natural_length"].value == pytest.approx(whole.length.value)
    assert 0 < edge.scalars["stability_ratio"].value < 1
    assert all(map(torch.equal, before, model.parameters()))


def test_what_a_path_does_not_tell_is_undefined_with_the_reason():
    model = network()
    _, path = trained(model, 5)
    given = dict(model=model, data=Samples(X, Y), loss=F.cross_entropy)
    short = Trajectory(path.points[:, :7], path.steps, path.losses)
    (finding,) = NaturalPath()(Evidence(**given, trajectory=short))
    assert "7 coordinates, and the model 51 trainable" in finding.scalars["natural_length"].note
    still = Trajectory(path.points[[0, 0, 0]], path.steps[:3], path.losses[:3])
    (finding,) = NaturalPath()(Evidence(**given, trajectory=still))
    assert finding.scalars["natural_length"].value == 0
    assert "stands still" in finding.scalars["natural_per_unit"].note
    assert "stands still" in finding.scalars["to_natural"].note
    for analyzer, field in ((NaturalPath, "segments"), (EdgeOfStability, "max_samples")):
        with pytest.raises(ValueError, match=f"{field} must be at least 1"):
            analyzer(**{field: 0})
        (finding,) = analyzer()(Evidence(**{**given, "loss": None}, trajectory=path))
        assert "pass loss=" in finding.failed


@pytest.mark.parametrize("bias", [True, False])
def test_a_bias_before_batch_norm_is_named_where_adam_steps_out_of_all_proportion_there(bias):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(1, 4, 3, bias=bias), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(56, 2)
    )
    data = Samples(torch.randn(64, 1, 16), torch.arange(64) % 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(model(data.inputs), data.targets).backward()
        optimizer.step()
    given = Evidence(model=model, data=data, loss=F.cross_entropy, optimizer=optimizer)
    (finding,) = EdgeOfStability()(given)
    assert any("direction lies in 0.bias" in note for note in finding.notes) == bias
    assert (finding.scalars["stability_ratio"].value > 100) == bias
