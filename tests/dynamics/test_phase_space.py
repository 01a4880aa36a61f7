"""Optimizers as maps of phase space: symplectic to rounding, or by a factor."""

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe import Trajectory, TrajectoryRecorder
from geomprobe.dynamics import (
    heavy_ball,
    leapfrog,
    modified_energy,
    symplectic_defect,
    symplectic_euler,
    training_energy,
)

Q, P = (torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).unbind()


def loss(q):
    return (q**4).sum() / 4 + torch.sin(q).prod() + (q[:-1] * q[1:]).sum()


@pytest.mark.parametrize(
    ("update", "factor"),
    [
        (leapfrog(loss, 0.01), 1.0),
        (symplectic_euler(loss, 0.01), 1.0),
        (heavy_ball(loss, 0.01, 0.9), 0.9),
    ],
)
def test_the_form_is_kept_to_rounding_or_scaled(update, factor):
    found = symplectic_defect(update, Q, P)
    assert found.factor == pytest.approx(factor, abs=1e-14)
    assert found.defect < 1e-14
    # Liouville: phase space shrinks by beta^n; 0.9^6 = 0.531441.
    assert found.determinant == pytest.approx(factor**6, rel=1e-12)


def test_a_step_scaled_by_the_gradient_has_a_defect():
    def normalized(q, p):
        g = torch.func.grad(loss)(q)
        p = 0.9 * p - 0.1 * g / g.norm()
        return q + 0.1 * p / (1 + p.norm()), p

    assert symplectic_defect(normalized, Q, P).defect > 1e-3


def test_heavy_ball_is_sgd_with_momentum():
    parameter = nn.Parameter(Q.clone())
    optimizer = torch.optim.SGD([parameter], lr=0.02, momentum=0.8)
    q, p = Q, torch.zeros_like(Q)
    update = heavy_ball(loss, 0.02, 0.8)
    for _ in range(10):
        optimizer.zero_grad()
        loss(parameter).backward()
        optimizer.step()
        q, p = update(q, p)
    assert torch.allclose(q, parameter.detach(), atol=1e-13)


CURVATURES = torch.tensor([0.5, 3.0], dtype=torch.float64)


def bowl(q):
    return (CURVATURES * q**2).sum() / 2


def run(update, steps, lr):
    q, p = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    plain, modified = [], []
    for _ in range(steps):
        plain.append(float(bowl(q) + p.dot(p) / 2))
        modified.append(float(modified_energy(update, q, p, lr)))
        q, p = update(q, p)
    return np.array(plain), np.array(modified)


def test_the_energy_of_an_oscillator_stays_bounded_and_the_modified_one_stays():
    lr = 0.04
    plain, modified = run(symplectic_euler(bowl, lr), 1000, lr)
    np.testing.assert_allclose(modified, modified[0], rtol=1e-12)
    # |H - H~| = h |a q p| / 2 <= (h / 2) sqrt(a) H~ / (1 - h sqrt(a) / 2), by curvature a.
    h, root = lr**0.5, float(CURVATURES.max()) ** 0.5
    assert abs(plain - modified[0]).max() <= h / 2 * root / (1 - h * root / 2) * modified[0]
    assert abs(plain - modified[0]).max() > 0.01


def test_momentum_takes_energy_at_the_known_rate():
    lr, momentum = 0.04, 0.9
    _, modified = run(heavy_ball(bowl, lr, momentum), 200, lr)
    np.testing.assert_allclose(modified[1:] / modified[:-1], momentum, rtol=1e-10)


def test_the_energy_of_a_recorded_training_falls_by_friction():
    model = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.99)
    recorder = TrajectoryRecorder(model, optimizer=optimizer)
    for step in range(400):
        value = model.weight.square().sum() / 2
        recorder.record(step, value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    found = training_energy(recorder.trajectory, momentum=0.99)
    # Independent: the velocity of the optimizer.
    velocity = optimizer.state[model.weight]["momentum_buffer"]
    last = 1e-4 * float(velocity.square().sum()) / 2
    assert found.kinetic[-1] == pytest.approx(last, rel=0.05)
    lost = found.total[:-1] - found.total[1:]
    assert (lost > 0).mean() > 0.95
    assert lost.sum() == pytest.approx(found.friction[:-1].sum(), rel=0.03)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="one length"):
        symplectic_defect(leapfrog(loss, 0.1), Q, P[:2])
    with pytest.raises(ValueError, match="lr must be positive"):
        leapfrog(loss, -1.0)
    with pytest.raises(ValueError, match="not finite"):
        symplectic_defect(lambda q, p: (q / 0, p), Q, P)
    path = Trajectory(np.ones((3, 2)), np.array([0, 2, 3]), np.ones(3))
    with pytest.raises(ValueError, match="every step"):
        training_energy(path, momentum=0.9)
    path = Trajectory(np.ones((3, 2)), np.arange(3), np.ones(3))
    with pytest.raises(ValueError, match="give lr="):
        training_energy(path, momentum=0.9)
