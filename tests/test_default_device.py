"""A default device of the user's does not reach what geomprobe makes for itself."""

import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.topology.analyzers import LayerTopology


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    x, y = torch.randn(48, 1, 6, 6), torch.arange(48) % 3
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    watched = gp.Samples(x[:8], y[:8])
    recorder = gp.TrajectoryRecorder(
        model, optimizer=optimizer, samples=watched, loss=nn.functional.cross_entropy
    )
    for step in range(60):
        loss = nn.functional.cross_entropy(model(x[:16]), y[:16])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorder.record(step, loss)
    return model.eval(), x, y, optimizer, recorder.trajectory


#: But for that which asks for an earlier state of the model.
ANALYZERS = sorted({*gp.registered_analyzers()} - {"region_crossings"})


@pytest.mark.parametrize("analyzer", ANALYZERS)
def test_findings_are_the_same(trained, moved, analyzer):
    model, x, y, optimizer, path = trained
    if analyzer == "layer_topology":
        analyzer = LayerTopology(n_neighbors=3)
    options = dict(
        loss=nn.functional.cross_entropy,
        analyzers=analyzer,
        n_train=1000,
        points=48,
        samples=12,
        trajectory=path,
        optimizer=optimizer,
        others={"b": moved(model, 0.02), "c": moved(model, 0.04)},
        progress=False,
    )
    expected = gp.audit(model, (x, y), **options).findings
    torch.set_default_device("meta")  # Nothing that is made there has a value.
    try:
        found = gp.audit(model, (x, y), **options).findings
    finally:
        torch.set_default_device(None)
    assert all(finding.failed is None for finding in expected)
    assert [f.subject for f in found] == [f.subject for f in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.failed is None
        for name, estimate in one.scalars.items():
            assert estimate.value == pytest.approx(other.scalars[name].value, nan_ok=True), name
