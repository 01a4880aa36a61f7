import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from geomprobe import topology
from geomprobe.topology.differentiable import (
    bottleneck_distance,
    diagrams,
    total_persistence,
    wasserstein_distance,
)


def cloud(seed, n=12, d=3):
    points = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return points.requires_grad_()


def loop(n=10, noise=0.05):
    """Points about a circle, in general position, so that H1 has a bar for certain."""
    angles = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    return (circle + noise * cloud(0, n, 2)).detach().requires_grad_()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_dim", [0, 1, 2])
def test_diagrams_are_those_of_rips_persistence(seed, max_dim):
    points = cloud(seed, n=30)
    expected = topology.rips_persistence(points.detach().numpy(), max_dim, return_edges=True)
    found = diagrams(points, max_dim)
    assert len(found) == max_dim + 1
    for dgm, bars in zip(found, expected, strict=True):
        np.testing.assert_allclose(dgm.detach(), bars, rtol=1e-14)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("dim", [0, 1])
def test_total_persistence_has_the_gradient_of_finite_differences(dim, alpha):
    assert gradcheck(lambda X: total_persistence(X, dim, alpha), loop())


def test_total_persistence_of_voids_has_the_gradient_of_finite_differences():
    # A cross-polytope, moved a little, has one void (its boundary is a sphere).
    corners = torch.cat([torch.eye(3), -torch.eye(3)]).to(torch.float64)
    points = (corners + 0.05 * cloud(1, 6)).detach().requires_grad_()
    assert total_persistence(points, 2) > 0.3
    assert gradcheck(lambda X: total_persistence(X, 2), points)


def test_diagrams_have_the_gradient_of_finite_differences():
    def finite(X):
        dgms = diagrams(X)
        return dgms[0][:-1], dgms[1]

    assert gradcheck(finite, loop())


def test_distances_that_torch_computed_pass_the_gradient_on():
    def by_distances(X):
        return total_persistence(torch.cdist(X, X, p=1.0), 1, metric="precomputed")

    assert by_distances(loop()) > 0
    assert gradcheck(by_distances, loop())


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("ground_norm", [1.0, 2.0, np.inf])
def test_wasserstein_distance_has_the_gradient_of_finite_differences(order, ground_norm):
    target = topology.rips_persistence(cloud(7, n=9).detach().numpy())[1]
    target = np.concatenate([target, [[0.3, 1.9]]])

    def distance(X):
        return wasserstein_distance(diagrams(X)[1], target, order, ground_norm=ground_norm)

    points = loop()
    bars = diagrams(points)[1].detach().numpy()
    expected = topology.wasserstein_distance(bars, target, order, ground_norm=ground_norm)
    assert float(distance(points).detach()) == pytest.approx(expected, rel=1e-12)
    assert gradcheck(distance, points)


@pytest.mark.parametrize("dim", [0, 1])
def test_bottleneck_distance_has_the_gradient_of_finite_differences(dim):
    target = topology.rips_persistence(cloud(3, n=10).detach().numpy())[dim]

    def distance(X):
        return bottleneck_distance(diagrams(X)[dim], target)

    points = loop()
    expected = topology.bottleneck_distance(diagrams(points)[dim].detach().numpy(), target)
    assert float(distance(points).detach()) == pytest.approx(expected, rel=1e-12)
    assert gradcheck(distance, points)


def test_both_diagrams_of_a_distance_may_carry_a_gradient():
    assert gradcheck(
        lambda X, Y: wasserstein_distance(diagrams(X)[1], diagrams(Y)[1]), (loop(), loop(9, 0.2))
    )


def test_two_points_in_closed_form():
    # One bar, of length r = 5; the derivative of r^alpha along the pair is alpha r^(alpha - 1).
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    value = total_persistence(points, 0, alpha=2)
    value.backward()
    assert float(value.detach()) == 25
    np.testing.assert_allclose(points.grad, [[-6, -8], [6, 8]])


def test_a_rectangle_in_closed_form():
    # Its loop is born with the longer side and dies with the diagonal.
    sides = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    corners = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=torch.float64)
    (bar,) = diagrams(corners * sides)[1]
    np.testing.assert_allclose(bar.detach(), [4, 5])
    (bar[1] - bar[0]).backward()
    np.testing.assert_allclose(sides.grad, [3 / 5, 4 / 5 - 1])


def test_a_distance_of_equal_diagrams_has_no_gradient():
    points = loop()
    bars = diagrams(points)[1]
    for distance in (wasserstein_distance, bottleneck_distance):
        value = distance(bars, bars.detach())
        (gradient,) = torch.autograd.grad(value, points, retain_graph=True)
        assert value == 0
        assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_dtype_gets_its_gradient(dtype):
    points = loop().detach().to(dtype).requires_grad_()
    value = total_persistence(points, 1)
    value.backward()
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert points.grad.dtype == dtype
    assert points.grad.abs().sum() > 0


def test_duplicate_points_keep_the_gradient_finite():
    points = torch.cat([loop(), loop()[:3]]).detach().requires_grad_()
    (total_persistence(points, 0) + total_persistence(points, 1)).backward()
    assert torch.isfinite(points.grad).all()


def test_loops_grow_out_of_noise():
    generator = torch.Generator().manual_seed(0)
    points = (0.3 * torch.randn(40, 2, generator=generator)).requires_grad_()
    before = topology.longest_bar(diagrams(points)[1].detach())
    optimizer = torch.optim.Adam([points], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        beyond = (torch.linalg.vector_norm(points, dim=1) - 1).clamp(min=0).sum()
        (beyond - total_persistence(points, 1, alpha=2)).backward()
        optimizer.step()
    assert topology.longest_bar(diagrams(points)[1].detach()) > 4 * before


def test_diagrams_with_other_numbers_of_infinite_bars_are_infinitely_far():
    one = torch.tensor([[0.0, np.inf]])
    two = torch.tensor([[0.0, np.inf], [1.0, np.inf]])
    assert torch.isinf(wasserstein_distance(one, two))
    assert torch.isinf(bottleneck_distance(one, two))
    # Matched in the order of births, 0 with 0 and 1 with 3.
    assert bottleneck_distance(two, [[3.0, np.inf], [0.0, np.inf]]) == 2


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (TypeError, lambda: diagrams(np.ones((3, 2))), "tensor of floating point, got ndarray"),
        (TypeError, lambda: diagrams(torch.ones(3, 2).long()), "got a tensor of torch.int64"),
        (ValueError, lambda: diagrams(cloud(0), metric="cityblock"), "pass them as precomputed"),
        (ValueError, lambda: diagrams(torch.ones(3, 2)), "all 3 points are equal"),
        (ValueError, lambda: total_persistence(cloud(0), alpha=0), "alpha must be positive"),
        (TypeError, lambda: bottleneck_distance([[0, 1]], [[0, 1]]), "neither diagram is a tensor"),
        (ValueError, lambda: wasserstein_distance(torch.ones(1, 3), []), r"shape \(n, 2\)"),
        (ValueError, lambda: wasserstein_distance(torch.ones(1, 2), [], 0.5), "at least 1"),
    ],
)
def test_bad_input_is_refused(error, call, message):
    with pytest.raises(error, match=message):
        call()
