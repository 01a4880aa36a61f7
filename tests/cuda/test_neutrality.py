"""Training on a GPU gives the same bits with a probe, a monitor and a recorder as without."""

import os

import pytest
import torch
from torch import nn

import geomprobe as gp

STEPS = 40


def mlp():
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 4)), (8,)


def cnn():
    norm = nn.BatchNorm2d(4)
    layers = [nn.Conv2d(1, 4, 3, padding=1), norm, nn.ReLU(inplace=True), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(), nn.Linear(64, 4)), (1, 4, 4)


@pytest.fixture(autouse=True)
def deterministic(monkeypatch):
    """The sums of two trainings are then the same."""
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def trained(build, watched):
    torch.manual_seed(0)
    model, shape = build()
    model.cuda()
    x, y = torch.randn(64, *shape, device="cuda"), torch.arange(64, device="cuda") % 4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    monitor = probe = None
    if watched:
        probe = gp.Probe(model, "*", exclude="(root)", max_width=16, strict=True).attach()
        monitor = gp.Monitor(
            model,
            (x, y),
            every=f"{STEPS // 2} steps",
            budget=None,
            strict=True,
            loss=nn.functional.cross_entropy,
            analyzers=["persistent_homology", "fisher_information", "margins", "tangent_kernel"],
            samples=6,
            trajectory=8,
            optimizer=optimizer,
        )
    for step in range(STEPS):
        here = slice(step % 4 * 16, step % 4 * 16 + 16)
        loss = nn.functional.cross_entropy(model(x[here]), y[here])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if monitor is not None:
            monitor.step(loss)
    if monitor is not None:
        probe.detach()
        monitor.close()
        assert len(monitor.history) == 2
    gradients = [parameter.grad for parameter in model.parameters()]
    streams = [torch.random.get_rng_state(), torch.cuda.get_rng_state()]
    return [*model.state_dict().values(), *gradients, *streams]


@pytest.mark.parametrize("build", [mlp, cnn])
def test_every_bit_is_the_same(build):
    for plain, watched in zip(trained(build, False), trained(build, True), strict=True):
        assert torch.equal(plain, watched)
