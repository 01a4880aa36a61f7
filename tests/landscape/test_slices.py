"""Loss slices against closed forms, symmetries, and plain passes of the model."""

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import geomprobe as gp
from geomprobe import Samples
from geomprobe.information import curvature, top_eigenpairs
from geomprobe.landscape import (
    basin_width,
    loss_slice,
    random_directions,
    trajectory_plane,
)


def perceptron(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    layers = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)
    return nn.Sequential(*layers).to(dtype)


def classes(n=40, shape=(6,), dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, *shape, generator=generator, dtype=dtype)
    return Samples(x, torch.arange(n) % 3)


class Residual(nn.Module):
    """Two convolutions beside a shortcut, and what a fused model must not take for granted."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.norm2 = nn.BatchNorm2d(4, affine=False)
        self.shortcut = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.drop = nn.Dropout()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        inner = torch.relu(self.norm1(self.conv1(x)))
        x = functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))
        return self.head(self.drop(x).mean(dim=(2, 3)))


def residual(dtype=torch.float64):
    torch.manual_seed(3)
    model = Residual().to(dtype)
    model(torch.randn(50, 2, 5, 5, dtype=dtype))
    for norm in (model.norm1, model.shortcut[1]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return model


def by_hand(model, data, loss, columns, coordinates):
    """Losses of copies of the model, each with its parameters set."""
    values = np.empty([len(part) for part in coordinates])
    for index in np.ndindex(values.shape):
        moved = copy.deepcopy(model).eval()
        start = 0
        for parameter in filter(lambda one: one.requires_grad, moved.parameters()):
            here = slice(start, start + parameter.numel())
            step = sum(
                float(part[place]) * column[here]
                for part, place, column in zip(coordinates, index, columns.T, strict=True)
            )
            parameter.data += step.view_as(parameter)
            start = here.stop
        with torch.no_grad():
            values[index] = float(loss(moved(data.inputs), data.targets))
    return values


class Bowl(nn.Module):
    """The loss is half of w'Aw, and that of a sample is weighted by its input."""

    def __init__(self, matrix, start):
        super().__init__()
        self.matrix = matrix
        self.weight = nn.Parameter(start)

    def forward(self, x):
        return x * (self.weight @ self.matrix @ self.weight / 2)


def bowl():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    matrix = root @ root.T
    start = torch.randn(5, generator=generator, dtype=torch.float64)
    x = torch.linspace(0.5, 1.5, 11, dtype=torch.float64)[:, None]
    return Bowl(matrix, start), Samples(x, torch.zeros(11)), lambda out, target: out.mean()


def test_a_quadratic_bowl_in_closed_form():
    model, data, loss = bowl()
    matrix, start = model.matrix.numpy(), model.weight.detach().numpy()
    columns = np.random.default_rng(0).normal(size=(5, 2))
    found = loss_slice(model, data, loss, columns, extent=[(-1, 2), (-3, 1)], points=4)
    for i, a in enumerate(np.linspace(-1, 2, 4)):
        for j, b in enumerate(np.linspace(-3, 1, 4)):
            w = start + columns @ [a, b]
            assert found.values[i, j] == pytest.approx(w @ matrix @ w / 2, rel=1e-12)
    height = start @ matrix @ start / 2
    assert found.centre.value == pytest.approx(height)
    # Losses of samples are x_i times the height, x_i evenly spaced.
    spread = np.linspace(0.5, 1.5, 11).std(ddof=1) / math.sqrt(11)
    assert found.centre.stderr == pytest.approx(height * spread)
    np.testing.assert_allclose(found.stderr, np.abs(found.values - height) * spread, atol=1e-12)
    np.testing.assert_allclose(found.norms, np.linalg.norm(columns, axis=0))
    cosine = columns[:, 0] @ columns[:, 1] / found.norms.prod()
    assert found.cosine == pytest.approx(cosine)


def test_along_an_eigenvector_the_slice_bends_by_half_the_eigenvalue():
    model, data, loss = bowl()
    model.weight.data.zero_()
    pairs = top_eigenpairs(curvature(model, data, loss=loss), 2)
    found = loss_slice(model, data, loss, pairs.vectors, extent=2.0, points=5)
    x, y = np.meshgrid(*found.coordinates, indexing="ij")
    expected = (pairs.values[0] * x**2 + pairs.values[1] * y**2) / 2
    np.testing.assert_allclose(found.values, expected, atol=1e-10)
    one = loss_slice(model, data, loss, pairs.vectors[:, 1], points=3)
    np.testing.assert_allclose(one.values, np.array([0.5, 0, 0.5]) * pairs.values[1], atol=1e-12)


def test_each_filter_of_a_direction_has_the_norm_of_the_weights():
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(4, 6, 3, groups=2),
            "up": nn.ConvTranspose1d(6, 8, 3, groups=2),
            "norm": nn.LayerNorm((3, 5)),
            "batch": nn.BatchNorm1d(4),
            "linear": nn.Linear(5, 4),
            "lookup": nn.Embedding(7, 3),
        }
    )
    model["linear"].weight.data[1] = 0
    named = dict(model.named_parameters())
    sizes = [parameter.numel() for parameter in named.values()]

    def parts(column):
        pieces = column.split(sizes)
        return {n: p.view_as(w) for (n, w), p in zip(named.items(), pieces, strict=True)}

    directions = random_directions(model, 3, seed=5)
    for column in directions.T:
        moved = parts(column)
        for name in ("conv.bias", "up.bias", "norm.weight", "norm.bias", "batch.weight"):
            assert not moved[name].any()
        for name in ("conv.weight", "linear.weight", "lookup.weight"):
            torch.testing.assert_close(moved[name].flatten(1).norm(dim=1),
                                       named[name].detach().flatten(1).norm(dim=1))  # fmt: skip
        # Output channel c of group g of a transposed convolution: all that enters the group.
        grouped, own = (
            part.detach().reshape(2, 3, 4, 3).square().sum(dim=(1, 3)).sqrt()
            for part in (moved["up.weight"], named["up.weight"])
        )
        torch.testing.assert_close(grouped, own)
    assert float(directions[:, 0] @ directions[:, 1]) != 0
    whole = parts(random_directions(model, 1, biases=True)[:, 0])
    for name in ("conv.bias", "norm.weight"):
        assert float(whole[name].norm()) == pytest.approx(float(named[name].data.norm()), rel=1e-5)
    assert not whole["norm.bias"].any()
    raw = random_directions(model, 1, normalize=None)[:, 0]
    entry = random_directions(model, 1, normalize="entry")[:, 0]
    for name, part in parts(entry).items():
        expected = parts(raw)[name] * named[name].detach().abs()
        torch.testing.assert_close(part, expected)
    torch.testing.assert_close(random_directions(model, 3, seed=5), directions, rtol=0, atol=0)


@pytest.mark.parametrize("normalize", ["filter", "entry"])
def test_rescaled_layers_give_the_same_slice(normalize):
    model, data = perceptron(), classes()
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        for place, factor in ((0, 50.0), (2, 0.2), (4, 0.1)):
            scaled[place].weight *= factor
        for place, factor in ((0, 50.0), (2, 10.0)):
            scaled[place].bias *= factor
    torch.testing.assert_close(scaled(data.inputs), model(data.inputs))
    one, other = (
        loss_slice(
            m, data, functional.cross_entropy, random_directions(m, normalize=normalize), points=5
        )
        for m in (model, scaled)
    )
    np.testing.assert_allclose(one.values, other.values, rtol=1e-10)
    raw = random_directions(model, normalize=None)
    moved = loss_slice(scaled, data, functional.cross_entropy, raw, points=5).values
    plain = loss_slice(model, data, functional.cross_entropy, raw, points=5).values
    assert np.abs(moved - plain).max() > 0.1
    first, second = (
        basin_width(m, data, functional.cross_entropy, lines=4, points=11, extent=20.0)
        for m in (model, scaled)
    )
    assert first.value == pytest.approx(second.value, rel=1e-9)
    assert first.stderr > 0


def test_units_rescaled_one_by_one_change_filters_but_not_entries():
    model, data = perceptron(), classes()
    scaled = copy.deepcopy(model)
    factors = torch.logspace(-1, 1, 8, dtype=torch.float64)
    with torch.no_grad():
        scaled[0].weight *= factors[:, None]
        scaled[0].bias *= factors
        scaled[2].weight /= factors
    torch.testing.assert_close(scaled(data.inputs), model(data.inputs))

    def values(m, normalize):
        columns = random_directions(m, normalize=normalize)
        return loss_slice(m, data, functional.cross_entropy, columns, points=5).values

    np.testing.assert_allclose(values(model, "entry"), values(scaled, "entry"), rtol=1e-10)
    assert np.abs(values(model, "filter") - values(scaled, "filter")).max() > 1e-3


def test_filters_before_batch_norm_may_each_have_a_factor():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    layers = nn.Conv2d(2, 4, 3, bias=False), norm, nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    model, data = nn.Sequential(*layers).double(), classes(shape=(2, 5, 5))
    model(data.inputs)
    norm.eps = 0.0  # That the factors leave the function as it is.
    scaled = copy.deepcopy(model)
    factors = torch.tensor([0.1, 1.0, 5.0, 40.0]).double()
    with torch.no_grad():
        scaled[0].weight *= factors[:, None, None, None]
        scaled[1].running_mean *= factors
        scaled[1].running_var *= factors**2
    one, other = (loss_slice(m, data, functional.cross_entropy, points=4) for m in (model, scaled))
    np.testing.assert_allclose(one.values, other.values, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_convolutions_that_take_in_what_follows_give_the_losses_of_the_model(dtype):
    model, data = residual(dtype), classes(23, (2, 5, 5), dtype)
    model.norm1.weight.requires_grad_(False)
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    torch.manual_seed(0)
    columns = torch.randn(sum(map(torch.numel, free)), 2, dtype=dtype) / 10
    found = loss_slice(model, data, functional.cross_entropy, columns, points=4, batch_size=9)
    assert "with 4 fused convolutions, channels last" in found.notes[0]
    expected = by_hand(model, data, functional.cross_entropy, columns, found.coordinates)
    rounding = 1e-12 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(found.values, expected, rtol=rounding)


class Untraceable(Residual):
    def forward(self, x):
        return super().forward(x if x.sum() > 1e9 else x * 1.0)


def test_a_model_that_cannot_be_traced_is_run_as_it_is():
    model, data = residual(), classes(10, (2, 5, 5))
    model.__class__ = Untraceable
    columns = random_directions(model)
    found = loss_slice(model, data, functional.cross_entropy, columns, points=3)
    assert "as the model computes them" in found.notes[0]
    expected = by_hand(model, data, functional.cross_entropy, columns, found.coordinates)
    np.testing.assert_allclose(found.values, expected, rtol=1e-12)


class Flattening(Residual):
    def forward(self, x):
        inner = torch.relu(self.norm1(self.conv1(functional.relu(self.stem(x)))))
        return inner.view(x.size(0), -1)[:, :3]  # Which channels last cannot be seen as.


def test_a_model_that_needs_its_channels_first_has_them_there():
    model, data = residual(), classes(10, (2, 5, 5))
    model.__class__ = Flattening
    columns = random_directions(model)
    found = loss_slice(model, data, functional.cross_entropy, columns, points=3)
    assert "with 2 fused convolutions, " in found.notes[0]
    assert "channels last" not in found.notes[0]
    expected = by_hand(model, data, functional.cross_entropy, columns, found.coordinates)
    np.testing.assert_allclose(found.values, expected, rtol=1e-12)


def test_hooks_of_the_user_are_heard():
    model, data = residual(), classes(10, (2, 5, 5))
    model.norm1.register_forward_hook(lambda module, args, output: 2 * output)
    found = loss_slice(model, data, functional.cross_entropy, points=3)
    assert "as the model computes them" in found.notes[0]


def test_nothing_of_the_model_or_the_streams_is_touched():
    model, data = residual(torch.float32).train(), classes(12, (2, 5, 5), torch.float32)
    model.conv2.eval()
    functional.cross_entropy(model(data.inputs), data.targets).backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    keys = [set(vars(module)) | set(module._modules) for module in model.modules()]
    inputs = data.inputs.clone()
    streams = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    loss_slice(model, data, functional.cross_entropy, points=3)
    basin_width(model, data, functional.cross_entropy, lines=2, points=3)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
        assert parameter.requires_grad
    assert [module.training for module in model.modules()] == modes
    assert [set(vars(module)) | set(module._modules) for module in model.modules()] == keys
    assert torch.equal(data.inputs, inputs)
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert (np.random.get_state()[1] == streams[1]).all()
    assert random.getstate() == streams[2]


def test_losses_that_are_no_mean_have_no_errors_and_those_vmap_cannot_follow_have():
    model, data = perceptron(), classes()
    weights = torch.tensor([1.0, 2.0, 5.0]).double()

    def weighted(outputs, targets):
        return functional.cross_entropy(outputs, targets, weight=weights)

    def stubborn(outputs, targets):
        assert outputs.sum().item() < 1e9
        return functional.cross_entropy(outputs, targets)

    columns = random_directions(model)
    found = loss_slice(model, data, weighted, columns, points=3)
    expected = by_hand(model, data, weighted, columns, found.coordinates)
    np.testing.assert_allclose(found.values, expected, rtol=1e-12)
    assert np.isnan(found.stderr).all()
    assert "no standard errors" in found.notes[1]
    plain, looped = (
        loss_slice(model, data, loss, columns, points=3)
        for loss in (functional.cross_entropy, stubborn)
    )
    np.testing.assert_allclose(plain.stderr, looped.stderr, rtol=1e-9, atol=1e-15)


def test_named_directions_move_only_what_they_name():
    model, data = perceptron(), classes()
    step = torch.ones_like(model[4].bias)
    found = loss_slice(model, data, functional.cross_entropy, {"4.bias": step}, points=3)
    # The same added to every logit changes nothing.
    np.testing.assert_allclose(found.values, found.centre.value)
    assert found.norms == pytest.approx([math.sqrt(3)])
    assert math.isnan(found.cosine)


def test_a_ctrl_c_keeps_what_is_done():
    model, data = perceptron(), classes()
    calls = []

    def loss(outputs, targets):
        if len(outputs) == len(data):
            calls.append(1)
            if len(calls) == 12:
                raise KeyboardInterrupt
        return functional.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 2, 3]).double())

    found = loss_slice(model, data, loss, points=5)
    assert found.interrupted
    assert np.isfinite(found.values).sum() == 10  # The first call was at the centre.
    assert "interrupted: 15 points" in found.notes[-1]
    calls.clear()
    with pytest.raises(KeyboardInterrupt):  # A width of half of the lines is none.
        basin_width(model, data, loss)


def test_curves_contours_and_surfaces_are_drawn():
    from matplotlib import pyplot

    model, data = perceptron(), classes()
    recorder = gp.TrajectoryRecorder(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(6):
        recorder.record(step)
        optimizer.zero_grad()
        functional.cross_entropy(model(data.inputs), data.targets).backward()
        optimizer.step()
    plane = trajectory_plane(recorder.trajectory)
    over = loss_slice(model, data, functional.cross_entropy, plane, points=5)
    line = loss_slice(model, data, functional.cross_entropy, random_directions(model, 1), points=5)
    assert line.plot().get_ylabel() == "loss"
    contour = over.plot()
    assert [text.get_text() for text in contour.get_legend().get_texts()] == ["random walk", "path"]
    np.testing.assert_allclose(contour.get_lines()[-1].get_xydata(), over.path)
    assert over.plot(kind="surface").name == "3d"
    with pytest.raises(ValueError, match="kind must be one of"):
        over.plot(kind="pie")
    pyplot.close("all")


def cross_entropy_nan(outputs, targets):
    return functional.cross_entropy(outputs, targets) * float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 1}, "points must be at least 2"),
        ({"extent": -1.0}, "extent must be a positive number"),
        ({"extent": [(0, 1)]}, "or 2 pairs"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"directions": torch.ones(5)}, r"must have shape \(143, 1\) or \(143, 2\)"),
        ({"directions": torch.ones(143, 3)}, r"got \(143, 3\)"),
        ({"directions": torch.zeros(143)}, "direction 1 is zero or not finite"),
        ({"directions": {"5.weight": torch.ones(3)}}, "no trainable parameters"),
        ({"directions": {"4.bias": torch.ones(4)}}, r"must have shape \(3,\), got \(4,\)"),
        ({"directions": "filter"}, "got str"),
        ({"loss": cross_entropy_nan}, "the loss at the parameters of the model is nan"),
        ({"loss": lambda out, y: out}, "expected one number"),
        ({"data": Samples(torch.ones(3, 6))}, "targets are needed"),
        ({"data": Samples(torch.ones(0, 6), torch.ones(0))}, "no samples"),
        ({"model": nn.Flatten()}, "has no parameters"),
    ],
)
def test_bad_input(change, message):
    given = {
        "model": perceptron(),
        "data": classes(),
        "loss": functional.cross_entropy,
        "directions": None,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        loss_slice(**given)


def test_outputs_that_depend_on_the_batch_are_refused():
    model = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, track_running_stats=False)).double()
    with pytest.raises(ValueError, match="depend on the other samples"):
        loss_slice(model, classes(), functional.cross_entropy)


def test_directions_of_nothing_are_refused():
    model = perceptron()
    for parameter in model.parameters():
        parameter.data.zero_()
    with pytest.raises(ValueError, match="no parameter may move"):
        random_directions(model)
    with pytest.raises(ValueError, match="normalize must be one of"):
        random_directions(model, normalize="layer")
    with pytest.raises(ValueError, match="k must be at least 1"):
        random_directions(model, 0)


def test_widths_of_a_bowl_in_closed_form():
    """Loss 1 + |w - w0|^2 doubles at distance 1, and directions have the norm of w0."""

    class Round(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((1, 4), 2.0, dtype=torch.float64))

        def forward(self, x):
            return x + (self.weight - 2.0).square().sum()

    data = Samples(torch.ones(5, 1).double(), torch.zeros(5))
    options = {"lines": 4, "points": 81}
    found = basin_width(Round(), data, lambda out, y: out.mean(), **options)
    assert found.value == pytest.approx(1 / 4)  # |w0| = 4, and 1/4 is on the grid
    assert found.stderr == pytest.approx(0, abs=1e-9)
    short = basin_width(Round(), data, lambda out, y: out.mean(), extent=0.2, **options)
    assert "on 0 of 8 sides only" in short.note
    low = basin_width(Round(), data, lambda out, y: out.mean() - 1, **options)
    assert "no multiple above it" in low.note
    for bad in ({"factor": 1.0}, {"lines": 0}, {"points": 4}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            basin_width(Round(), data, lambda out, y: out.mean(), **bad)


class Keeping(nn.Module):
    """Code that keeps what it computed."""

    def __init__(self):
        super().__init__()
        self.convolution, self.head, self.log = nn.Conv2d(1, 6, 3), nn.Linear(6, 3), []

    def forward(self, x):
        h = functional.relu(self.convolution(x))
        self.log.append(h.detach())
        return self.head(h.mean((2, 3)))


def test_a_model_keeps_no_proxies_of_a_trace():
    model = Keeping()
    found = loss_slice(
        model, classes(9, (1, 5, 5), torch.float32), functional.cross_entropy, points=3
    )
    assert "fused" in found.notes[0]
    assert {type(one) for one in model.log} == {torch.Tensor}


def test_standard_errors_in_half_precision():
    model, samples = perceptron(dtype=torch.bfloat16), classes(dtype=torch.bfloat16)
    found = loss_slice(model, samples, functional.cross_entropy, points=3)
    assert np.isfinite(found.stderr).all()
