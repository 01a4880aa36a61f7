"""The shape of training paths: known answers are straight lines, random walks and quadratics."""

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe import Samples, Trajectory, TrajectoryRecorder
from geomprobe.dynamics import (
    compare_paths,
    diffusion,
    gradient_noise,
    natural_angle,
    natural_length,
    noise_of_batches,
    noise_of_gradients,
    path_statistics,
    stability_ratio,
    walk_participation,
    walk_variances,
)
from geomprobe.dynamics.output_metric import lowered
from geomprobe.findings import Estimate
from geomprobe.information import Bernoulli, Gaussian, Softmax


def path_of(points, **meta):
    points = np.asarray(points, dtype=float)
    return Trajectory(points, np.arange(len(points)), np.zeros(len(points)), meta)


def walk(steps, d, seed=0):
    return np.cumsum(np.random.default_rng(seed).normal(size=(steps, d)), axis=0)


# --- Paths ---------------------------------------------------------------------------------------


def test_a_straight_line_is_straight():
    found = path_statistics(path_of(np.outer(np.arange(60), [3.0, 4.0])))
    scalars = {name: one.value for name, one in found.scalars.items()}
    assert scalars == pytest.approx(
        dict(
            length=59 * 5,
            displacement=59 * 5,
            tortuosity=1,
            turning_angle=0,
            diffusion_exponent=1,
            participation_ratio=1,
            first_component=1,
        ),
        abs=1e-5,
    )
    assert found.tortuosity.exact
    assert found.diffusion.exponent.stderr < 1e-10


def test_a_random_walk_is_what_the_null_says():
    found = path_statistics(path_of(walk(500, 4000)))
    for name, expected in found.walk.items():
        assert found.scalars[name].value == pytest.approx(expected, rel=0.03), name
    np.testing.assert_allclose(found.explained_variance[:5], walk_variances(500, 5), rtol=0.1)


def test_the_interval_of_the_exponent_covers_that_of_random_walks():
    within = 0
    for seed in range(40):
        found = diffusion(walk(200, 3, seed))
        low, high = found.interval
        assert low < found.exponent.value < high
        within += low < 0.5 < high
    # 95 % of 40 are 38; fewer than 33 has a chance of one in a thousand.
    assert within >= 33


def test_a_confined_path_does_not_get_on():
    positions = np.random.default_rng(0).normal(size=(500, 10))
    assert abs(diffusion(positions).exponent.value) < 0.02


def test_a_zigzag_turns_back():
    points = np.zeros((20, 2))
    points[:, 1] = np.arange(20) % 2
    points[:, 0] = 0.01 * np.arange(20)
    found = path_statistics(path_of(points))
    assert found.turning_angle.value == pytest.approx(180, abs=2)
    assert np.isnan(found.scalars["diffusion_exponent"].value)


def test_lengths_are_the_exact_ones_of_the_recorder():
    torch.manual_seed(0)
    model = nn.Linear(30, 10)
    recorder = TrajectoryRecorder(model, dim=8, points=20)
    lengths = []
    for step in range(60):
        recorder.record(step)
        moved = 0.0
        with torch.no_grad():
            for p in model.parameters():
                change = torch.randn_like(p)
                moved += float(change.double().square().sum())
                p.add_(change)
        lengths.append(moved**0.5)
    trajectory = recorder.trajectory
    found = path_statistics(trajectory)
    last = int(trajectory.steps[-1])
    assert found.length.value == pytest.approx(sum(lengths[:last]), rel=1e-5)
    assert found.length.exact
    assert not found.displacement.exact
    assert "projected to 8 dimensions" in found.displacement.note
    assert found.walk["tortuosity"] == pytest.approx(last**0.5)
    assert any("Angles" in note for note in found.notes)


def test_paths_in_one_table():
    table = compare_paths({"a": path_of(walk(60, 20)), "b": path_of(np.outer(range(60), [1, 0]))})
    assert table.loc["b", "tortuosity"] == 1
    assert table.loc["a", "participation_ratio_walk"] == walk_participation(60)
    assert table.loc["a", "diffusion_exponent_stderr"] > 0
    with pytest.raises(ValueError, match="path 'c': the path does not move"):
        compare_paths({"c": path_of(np.ones((5, 2)))})


def test_points_that_are_not_finite_are_left_out():
    points = walk(30, 4)
    points[7] = np.nan
    found = path_statistics(path_of(points))
    assert len(found.steps) == 29
    assert "1 points that are not finite" in found.notes[0]


# --- The Fisher metric ---------------------------------------------------------------------------


class Logits(nn.Module):
    """Two classes with logits (theta, 0), whatever the input."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x):
        return torch.stack([self.theta.expand(len(x)), torch.zeros(len(x), dtype=x.dtype)], dim=1)


def test_the_natural_length_of_a_coin_is_in_closed_form():
    # Arc length of the Bernoulli family in its logit: the integral of sech(t / 2) / 2.
    thetas = np.linspace(-3, 3, 301)[:, None]
    data = Samples(torch.zeros(5, 1, dtype=torch.float64))
    found = natural_length(Logits(), data, path_of(thetas))
    expected = 4 * np.arctan(np.tanh(3 / 4))
    assert found.length.value == pytest.approx(expected, rel=1e-5)
    assert found.length.stderr == pytest.approx(0, abs=1e-12)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


X = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
Y = torch.arange(20) % 3


def test_a_segment_has_the_length_that_the_fisher_matrix_says():
    model = network()
    flat = torch.cat([p.detach().ravel() for p in model.parameters()])
    change = torch.randn(len(flat), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    change *= 1e-4
    points = torch.stack([flat - change / 2, flat + change / 2]).numpy()
    found = natural_length(model, Samples(X), path_of(points), batch_size=7)
    rows = dense_rows(model)
    expected = float((change @ (rows.T @ rows / len(X)) @ change).sqrt())
    assert found.length.value == pytest.approx(expected, rel=1e-6)
    # The other road: rows of a likelihood, of the identity for unit variance.
    gaussian = natural_length(model, Samples(X), path_of(points), metric=Gaussian())
    plain = natural_length(model, Samples(X), path_of(points), metric="euclidean")
    assert gaussian.length.value == pytest.approx(plain.length.value, rel=1e-9)


@pytest.mark.parametrize("metric", [Gaussian(variance=0.3), Bernoulli(), Softmax()])
def test_products_are_those_of_the_rows(metric):
    outputs, moved = torch.randn(2, 6, 4, 2, dtype=torch.float64)
    rows = metric.rows(outputs).flatten(2)
    expected = rows.mT @ (rows @ moved.flatten(1)[:, :, None])
    found = lowered(metric, outputs, moved)
    torch.testing.assert_close(found.flatten(1), expected[:, :, 0])


def dense_rows(model):
    """Rows sqrt(p_c) d log p_c of each sample and class: their products add up to the Fisher."""
    rows = []
    for x in X:
        logs = model(x[None]).log_softmax(dim=1)[0]
        for value in logs:
            slopes = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
            root = value.detach().exp().sqrt()
            rows.append(root * torch.cat([s.ravel() for s in slopes]))
    return torch.stack(rows)


def test_the_natural_gradient_is_that_of_the_dense_system():
    model = network()
    loss = nn.functional.cross_entropy
    slopes = torch.autograd.grad(loss(model(X), Y), list(model.parameters()))
    gradient = torch.cat([s.ravel() for s in slopes])
    rows = dense_rows(model)
    damped = rows.T @ rows / len(X) + 0.01 * torch.eye(len(gradient), dtype=torch.float64)
    natural = torch.linalg.solve(damped, gradient)
    update = torch.randn(len(gradient), dtype=torch.float64)

    def angle(a, b):
        return float(torch.rad2deg(torch.acos(a @ b / (a.norm() * b.norm()))))

    found = natural_angle(model, Samples(X, Y), update, loss=loss, damping=0.01, tolerance=1e-10)
    assert found.to_natural == pytest.approx(angle(update, -natural), abs=1e-4)
    assert found.between == pytest.approx(angle(natural, gradient), abs=1e-4)

    def tiny(outputs, targets):  # Its square is no number.
        return 1e-200 * loss(outputs, targets)

    scaled = natural_angle(model, Samples(X, Y), update, loss=tiny, damping=0.01, tolerance=1e-10)
    assert scaled.to_natural == pytest.approx(found.to_natural)
    assert natural_angle(
        model, Samples(X, Y), -gradient, loss=loss, damping=1.0
    ).to_gradient == pytest.approx(0, abs=1e-3)


# --- Noise and stability -------------------------------------------------------------------------


def test_trace_and_square_are_without_bias():
    rng = np.random.default_rng(0)
    mean, spread = rng.normal(size=10), rng.uniform(0.5, 1.5, size=10)
    found = [noise_of_gradients(mean + spread * rng.normal(size=(16, 10))) for _ in range(200)]
    traces, squares = (np.array([getattr(f, s).value for f in found]) for s in ("trace", "square"))
    for values, truth in ((traces, (spread**2).sum()), (squares, (mean**2).sum())):
        assert abs(values.mean() - truth) < 4 * values.std() / 200**0.5
    # The jackknife's own standard error is that of the spread between draws.
    errors = np.array([f.trace.stderr for f in found])
    assert errors.mean() == pytest.approx(traces.std(), rel=0.3)


def test_the_spectrum_is_that_of_the_covariance():
    gradients = np.random.default_rng(0).normal(size=(12, 5))
    found = noise_of_gradients(gradients)
    expected = np.linalg.eigvalsh(np.cov(gradients.T))[::-1]
    np.testing.assert_allclose(found.spectrum, expected, rtol=1e-9)
    assert found.trace.value == pytest.approx(expected.sum())


def test_batches_of_two_sizes_tell_the_same():
    rng = np.random.default_rng(0)
    mean = np.full(10, 0.5)
    small, large = [], []
    for _ in range(3000):
        gradients = mean + rng.normal(size=(32, 10))
        small.append((gradients[:4].mean(axis=0) ** 2).sum())
        large.append((gradients.mean(axis=0) ** 2).sum())
    found = noise_of_batches(small, 4, large, 32)
    for one, truth in ((found.trace, 10), (found.square, 2.5), (found.scale, 4)):
        assert abs(one.value - truth) < 4 * one.stderr
        assert one.stderr < 0.2 * truth


def test_the_noise_of_a_model_is_that_of_its_gradients():
    model, loss = network(), nn.functional.cross_entropy
    found = gradient_noise(model, Samples(X, Y), loss=loss)
    rows = []
    for x, y in zip(X, Y, strict=True):
        slopes = torch.autograd.grad(loss(model(x[None]), y[None]), list(model.parameters()))
        rows.append(torch.cat([s.ravel() for s in slopes]))
    assert found.trace.value == pytest.approx(float(torch.stack(rows).var(dim=0).sum()))
    assert all(p.grad is None for p in model.parameters())


def test_a_gradient_drowned_in_noise_has_no_scale():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(10, 3))
    found = noise_of_gradients(rows - rows.mean(axis=0))
    assert found.square.value < 0
    assert "not told from zero" in found.scale.note


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_the_edge_of_stability_is_where_quadratics_diverge(momentum, nesterov):
    lr, decay = 0.1, 0.3
    edge = Estimate(1.0 - decay, exact=True)
    ratio = stability_ratio(edge, lr, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    sharpness = 1 / ratio.value - decay
    for factor, grows in ((0.98, False), (1.02, True)):
        x = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD(
            [x], lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=decay
        )
        for _ in range(400):
            optimizer.zero_grad()
            curvature = factor * (sharpness + decay) - decay
            (curvature * x.square().sum() / 2).backward()
            optimizer.step()
        assert (abs(x.item()) > 1) == grows


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: path_statistics(path_of(walk(2, 3))), "3 finite points"),
        (lambda: diffusion(walk(30, 3)), "at least 60"),
        (lambda: compare_paths({}), "no paths"),
        (lambda: natural_length(network(), Samples(X), path_of(walk(5, 3))), "trainable param"),
        (lambda: natural_length(network(), Samples(X), None, metric="no"), "metric must be"),
        (lambda: noise_of_gradients(np.ones((3, 2))), "N of at least 4"),
        (lambda: noise_of_batches([1.0], 8, [1.0], 8), "small < large"),
        (lambda: stability_ratio(1.0, 0.1, momentum=1.0), r"\[0, 1\)"),
        (lambda: stability_ratio(1.0, 0.0), "lr must be positive"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_gradient_noise_refuses_weights_of_classes():
    data = Samples(torch.randn(12, 4), torch.arange(12) % 3)
    weighted = nn.CrossEntropyLoss(torch.tensor([1.0, 5.0, 2.0]))
    with pytest.raises(ValueError, match="not the mean of those of its samples"):
        gradient_noise(nn.Linear(4, 3), data, loss=weighted)


def test_gradient_noise_measures_also_without_gradients():
    model, data = nn.Linear(4, 3), Samples(torch.randn(12, 4), torch.arange(12) % 3)
    loss = nn.CrossEntropyLoss()
    with torch.no_grad():
        found = gradient_noise(model, data, loss=loss)
        assert not torch.is_grad_enabled()
    assert found == gradient_noise(model, data, loss=loss)


def test_a_softmax_of_one_logit_has_no_length():
    model, data = nn.Linear(4, 1), Samples(torch.randn(6, 4), torch.randn(6, 1))
    with pytest.raises(ValueError, match=r"one logit is constant.*Bernoulli"):
        natural_length(model, data, path_of(walk(3, 5)))
    with pytest.raises(ValueError, match=r"one logit is constant.*Bernoulli"):
        natural_angle(model, data, torch.ones(5), loss=nn.MSELoss())


class Mixed(nn.Module):
    """Three logits of what a layer makes of a sequence."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(4, 3)

    def forward(self, x):
        attends = isinstance(self.layer, nn.MultiheadAttention)
        h = self.layer(x, x, x, need_weights=False) if attends else self.layer(x)
        return self.head((h[0] if isinstance(h, tuple) else h).mean(1))


@pytest.mark.parametrize(
    "layer",
    [
        nn.MultiheadAttention(4, 2, batch_first=True),
        nn.TransformerEncoderLayer(4, 2, 6, batch_first=True),
        nn.LSTM(4, 4, batch_first=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_natural_lengths_and_angles_of_fused_layers(layer):
    model, data = Mixed(layer).eval(), Samples(torch.randn(6, 5, 4), torch.arange(6) % 3)
    start = nn.utils.parameters_to_vector(model.parameters()).detach()
    step = 1e-2 * torch.randn_like(start)
    found = natural_length(model, data, path_of(np.stack([start, start + step])))
    # The Kullback-Leibler divergence, to second order.
    logs = []
    for values in (start, start + step):
        nn.utils.vector_to_parameters(values, model.parameters())
        logs.append(model(data.inputs).detach().double().log_softmax(dim=1))
    divergence = (logs[0].exp() * (logs[0] - logs[1])).sum(dim=1).mean()
    assert found.length.value == pytest.approx(float(2 * divergence) ** 0.5, rel=0.05)
    angle = natural_angle(model, data, step, loss=nn.CrossEntropyLoss(), damping=1.0)
    assert angle.residual < 1e-4
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mkldnn.enabled


def test_data_that_are_no_samples_are_refused():
    model, loader = nn.Linear(4, 3), torch.utils.data.DataLoader(torch.randn(6, 4))
    arrays = Samples(np.zeros((6, 4)), np.zeros(6))
    for data, match in ((loader, "got DataLoader"), (arrays, "got ndarray")):
        with pytest.raises(TypeError, match=match):
            gradient_noise(model, data, loss=nn.CrossEntropyLoss())
        with pytest.raises(TypeError, match=match):
            natural_length(model, data, path_of(walk(3, 15)))
        with pytest.raises(TypeError, match=match):
            natural_angle(model, data, torch.ones(15), loss=nn.CrossEntropyLoss())
