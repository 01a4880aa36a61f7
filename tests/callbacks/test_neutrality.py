"""Training with every feature of geomprobe on gives the same bits as training without."""

import random

import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.callbacks import CSVSink
from geomprobe.topology.analyzers import LayerTopology

STEPS = 50
# They make thousands of passes, or ask for a longer path, and so look once, at the last step.
AT_THE_END = ["critical_point", "curvature", "local_learning_coefficient", "trajectory_topology"]
# They look at other models, which a monitor has none of.
OF_SEVERAL = ["mode_connectivity", "low_loss_curve", "connectivity_matrix"]
ONCE = dict(strict=True, every=f"{STEPS} steps", analyzers=AT_THE_END)


def mlp():
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4)), torch.randn(64, 8)


def cnn():
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(64, 4)), torch.randn(64, 1, 4, 4)


def transformer():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.1, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(4, 4)

        def forward(self, x):
            return self.head(self.encoder(x).mean(dim=1))

    return Net(), torch.randn(64, 5, 4)


def options(x, y, folder):
    """Every feature of a monitor."""
    often = {*gp.registered_analyzers()} - {*AT_THE_END, *OF_SEVERAL, "layer_topology"}
    return dict(
        probe_data=(x, y),
        every="25 steps",
        budget=None,
        analyzers=[*sorted(often), LayerTopology(n_neighbors=2)],
        loss=nn.functional.cross_entropy,
        points=64,
        samples=6,
        trajectory=STEPS,
        trajectory_samples=8,
        n_train=1000,
        store=folder,
        sinks=[CSVSink(folder / "numbers.csv")],
    )


def train(build, folder, watch=()):
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    model, x = build()
    frozen, *trained = model.parameters()
    frozen.requires_grad_(False)
    y = torch.randint(4, (64,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loss_function = nn.functional.cross_entropy
    every = {**options(x, y, folder), "optimizer": optimizer}
    monitors = [gp.Monitor(model, **{**every, **one}) for one in watch]
    probe = gp.Probe(model, "*", max_width=16, strict=True)
    if watch:
        probe.attach()
    losses = []
    for _ in range(STEPS):
        batch = torch.randperm(64)[:16]
        loss = loss_function(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        for monitor in monitors:
            monitor.step(loss=losses[-1])
            assert len(monitor.history) <= STEPS // 25  # Waits for a worker.
    probe.detach(warn=False)  # "*" names containers, too.
    for monitor in monitors:
        monitor.close()
        assert monitor.history[-1].step == STEPS
        assert all(f.failed is None for r in monitor.history for f in r.findings)
    assert not frozen.requires_grad
    assert all(p.requires_grad for p in trained)
    assert frozen.grad is None
    gradients = [p.grad for p in trained]
    streams = [torch.random.get_rng_state(), random.random(), np.random.rand()]
    return list(model.state_dict().values()), gradients, losses, streams, model.training


def assert_same(plain, watched):
    for a, b in zip(plain[0] + plain[1], watched[0] + watched[1], strict=True):
        assert torch.equal(a, b)
    assert plain[2] == watched[2]
    assert torch.equal(plain[3][0], watched[3][0])
    assert plain[3][1:] == watched[3][1:]
    assert plain[4] == watched[4]


@pytest.mark.parametrize(
    "build", [mlp, *(pytest.param(build, marks=pytest.mark.long) for build in (cnn, transformer))]
)
def test_training_is_equal_bit_for_bit_with_every_feature_on(build, tmp_path):
    watch = [
        dict(strict=True, sampler="farthest"),
        dict(strict=True, tap=True, sinks=[[].append]),
        {**ONCE, "sinks": [[].append]},
    ]
    assert_same(train(build, tmp_path), train(build, tmp_path, watch))


@pytest.mark.long
def test_training_is_equal_bit_for_bit_while_a_worker_analyzes(tmp_path):
    assert_same(train(cnn, tmp_path), train(cnn, tmp_path, [dict(workers=1)]))
