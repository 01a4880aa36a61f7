"""Tangent kernels against dense Jacobians, and in closed form at infinite width."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from geomprobe import Samples
from geomprobe.information import infinite_width_ntk, ntk, relu_kernels


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def mlp(width=6, outputs=3, bias=True):
    return nn.Sequential(
        nn.Linear(4, width, bias=bias),
        nn.ReLU(),
        nn.Linear(width, width, bias=bias),
        nn.ReLU(),
        nn.Linear(width, outputs, bias=bias),
    ).double()


def drawn(width, bias, seed, outputs=1):
    """A network whose weights have variance 2 over the fan-in, and biases 0.1."""
    generator = torch.Generator().manual_seed(seed)
    model = mlp(width, outputs, bias)
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight.normal_(0, math.sqrt(2 / layer.in_features), generator=generator)
            if bias:
                layer.bias.normal_(0, math.sqrt(0.1), generator=generator)
    return model


def inputs(n=5):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(7)).double()


def test_the_kernel_is_that_of_the_dense_jacobian():
    model, x = mlp(), inputs()
    parameters = dict(model.named_parameters())
    jacobian = jacrev(lambda p: functional_call(model, p, (x,)))(parameters)
    flat = torch.cat([part.flatten(2) for part in jacobian.values()], dim=2).flatten(0, 1).detach()
    found = ntk(model, Samples(x, torch.zeros(3)))
    np.testing.assert_allclose(found.matrix, flat @ flat.T, rtol=1e-10, atol=1e-12)
    assert (found.n_samples, found.n_outputs, found.n_parameters) == (5, 3, flat.shape[1])
    blocks = [[float(flat[3 * n : 3 * n + 3].mul(flat[3 * m : 3 * m + 3]).sum()) / 3
               for m in range(5)] for n in range(5)]  # fmt: skip
    np.testing.assert_allclose(found.by_sample, blocks, rtol=1e-10)


def test_the_kernel_of_a_linear_model():
    # f = W x + b: Theta = (x.x' + 1) I_C.
    x = inputs()
    found = ntk(nn.Linear(4, 2).double(), Samples(x))
    expected = np.kron((x @ x.T + 1).numpy(), np.eye(2))
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-12, atol=1e-12)
    values = np.linalg.eigvalsh(x @ x.T + 1)
    assert found.condition_number() == pytest.approx(values[-1] / values[0], rel=1e-8)
    # Rank d + 1 = 5 of six inputs.
    assert ntk(nn.Linear(4, 2).double(), Samples(inputs(6))).condition_number() == math.inf


def test_alignment_by_hand_and_at_its_extremes():
    x = torch.cat([torch.eye(2).repeat(3, 1), -torch.eye(2).repeat(3, 1)]).double()
    kernel = ntk(nn.Linear(2, 1, bias=False).double(), Samples(x))
    assert kernel.alignment(x).value == pytest.approx(1)
    labels = np.arange(12) % 4
    centred = np.eye(12) - 1 / 12
    wanted = np.equal.outer(labels, labels).astype(float)
    a, b = centred @ kernel.matrix @ centred, centred @ wanted @ centred
    expected = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
    found = kernel.alignment(torch.from_numpy(labels))
    assert found.value == pytest.approx(expected)
    assert found.stderr > 0
    constant = kernel.alignment(np.zeros(12, dtype=int))
    assert math.isnan(constant.value)
    assert "constant" in constant.note


def test_drift_and_distance():
    x = inputs()
    before, after = ntk(mlp(), Samples(x)), ntk(mlp(), Samples(x))
    assert before.drift(before) == 0
    assert before.distance(before) == pytest.approx(0, abs=1e-14)
    expected = np.linalg.norm(after.matrix - before.matrix) / np.linalg.norm(before.matrix)
    assert after.drift(before) == pytest.approx(expected)
    a, b = before.matrix.ravel(), after.matrix.ravel()
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert after.distance(before) == pytest.approx(1 - cosine)
    assert before.subset([0, 2]).drift(ntk_of_two(before)) == 0


def ntk_of_two(kernel):
    return kernel.subset(np.array([True, False, True, False, False]))


def test_kernels_of_other_inputs_are_not_compared():
    kernel = ntk(mlp(), Samples(inputs()))
    for compare in (kernel.drift, kernel.distance):
        with pytest.raises(ValueError, match="same inputs and outputs"):
            compare(kernel.subset([0, 1]))
    with pytest.raises(ValueError, match=r"shape \(5,\) or \(5, D\), got \(4,\)"):
        kernel.alignment(np.zeros(4))


def test_the_kernel_is_drawn():
    pytest.importorskip("matplotlib").use("Agg")
    assert ntk(mlp(), Samples(inputs())).plot().get_xlabel() == "input"


# --- infinite width -----------------------------------------------------------------------------


def test_expectations_of_relu_by_quadrature():
    # Two layers: K^2 / sigma_w^2 = E[phi(u) phi(v)] with (u, v) of covariance K^1.
    x = np.array([[1.0, 0.5], [-0.3, 0.8]])
    first, _ = relu_kernels(x, [2.0])
    second, _ = relu_kernels(x, [2.0, 1.0])
    np.testing.assert_allclose(first, x @ x.T, rtol=1e-12)
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    u, v = np.meshgrid(nodes, nodes)
    root = np.linalg.cholesky(first)
    a, b = root[0, 0] * u, root[1, 0] * u + root[1, 1] * v
    mean = (np.outer(weights, weights) * np.maximum(a, 0) * np.maximum(b, 0)).sum() / (2 * np.pi)
    assert second[0, 1] == pytest.approx(mean, rel=5e-3)
    np.testing.assert_allclose(np.diagonal(second), np.diagonal(first) / 2, rtol=1e-12)


def test_the_tangent_kernel_of_one_hidden_layer():
    # Two layers without bias, sigma_w^2 = 2, one input of norm^2 = d: NNGP 2, and the kernel 4.
    x = np.ones((1, 3))
    nngp, kernel = relu_kernels(np.concatenate([x, -x]), [2.0, 2.0])
    assert nngp[0, 0] == pytest.approx(2)
    assert kernel[0, 0] == pytest.approx(4)
    # Opposite inputs never have a neuron on together.
    np.testing.assert_allclose([nngp[0, 1], kernel[0, 1]], 0, atol=1e-7)


@pytest.mark.parametrize("bias", [True, False])
def test_wide_networks_converge_to_the_closed_form_at_the_known_rate(bias):
    # Fluctuations fall as the root of the width (Jacot et al. 2018; Hanin and Nica 2020).
    x = inputs()
    deviations = []
    for width in (32, 128, 512):
        fan_ins = [4, width, width]
        biases = [0.1] * 3 if bias else None
        _, limit = relu_kernels(x, [2.0] * 3, biases, fan_ins=fan_ins)
        errors = [
            ntk(drawn(width, bias, seed), Samples(x)).matrix / limit - 1 for seed in range(24)
        ]
        deviations.append(np.sqrt(np.mean(np.square(errors))))
        assert np.abs(np.mean(errors)) < 0.2 * (32 / width) ** 0.5
    rates = np.diff(np.log(deviations)) / math.log(4)
    np.testing.assert_allclose(rates, -0.5, atol=0.2)


def test_the_limit_of_a_model_is_that_of_its_variances():
    x = inputs()
    model = drawn(2048, True, 0, outputs=2)
    limit, found = infinite_width_ntk(model, Samples(x)), ntk(model, Samples(x))
    assert found.distance(limit) < 3e-3
    assert found.drift(limit) < 0.1
    narrow = drawn(8, True, 0, outputs=2)
    assert ntk(narrow, Samples(x)).distance(infinite_width_ntk(narrow, Samples(x))) > 0.02
    # Images are flattened, and dropout is off.
    deeper = nn.Sequential(nn.Flatten(), model[0], nn.ReLU(), nn.Dropout(), *model[2:])
    again = infinite_width_ntk(deeper, Samples(x.view(5, 2, 2)))
    np.testing.assert_allclose(again.matrix, limit.matrix)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(4, 3), "got Linear"),
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), "got Linear, Tanh, Linear"),
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), "got Linear, Linear"),
        (nn.Sequential(nn.ReLU()), "got ReLU"),
        (nn.Sequential(), "got none"),
        (nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2)), "differ"),
    ],
)
def test_models_without_a_closed_form_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        infinite_width_ntk(model, Samples(inputs().float()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "0 variances of weights"),
        (([2.0], [0.1, 0.1]), "1 variances of weights, 2 of biases"),
        (([-1.0],), "must not be negative"),
    ],
)
def test_bad_variances_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        relu_kernels(inputs(), *arguments)
