"""An audit of a model on a GPU says what it says of the same model on the CPU."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
import geomprobe.landscape
import geomprobe.tropical
from geomprobe.topology.analyzers import LayerTopology


@pytest.fixture(scope="module")
def trained():
    """A small network in double precision, its data, optimizer and path."""
    torch.manual_seed(0)
    x, y = torch.randn(96, 1, 6, 6).double(), torch.arange(96) % 3
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    ).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    recorder = gp.TrajectoryRecorder(
        model,
        optimizer=optimizer,
        samples=gp.Samples(x[:16], y[:16]),
        loss=nn.functional.cross_entropy,
    )
    for step in range(120):
        batch = torch.randint(96, (16,))
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorder.record(step, loss.item())
    return model.eval(), x, y, optimizer, recorder.trajectory


def audited(trained, moved, analyzer, device):
    model, x, y, optimizer, path = trained
    model = copy.deepcopy(model).to(device)
    twin = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    twin.load_state_dict(optimizer.state_dict())
    return gp.audit(
        model,
        (x, y),
        loss=nn.functional.cross_entropy,
        analyzers=analyzer,
        n_train=1000,
        samples=32,
        trajectory=path,
        optimizer=twin,
        others={"b": moved(model, 0.02), "c": moved(model, 0.04)},
        progress=False,
    ).findings


#: But for that which asks for an earlier state of the model.
ANALYZERS = sorted({*gp.registered_analyzers()} - {"region_crossings"})


@pytest.mark.parametrize("analyzer", ANALYZERS)
def test_findings_are_those_of_the_cpu(trained, moved, analyzer):
    if analyzer == "layer_topology":
        analyzer = LayerTopology(n_neighbors=4)
    # What draws from the device's own stream is equal within its error.
    ours, theirs = (audited(trained, moved, analyzer, device) for device in ("cuda", "cpu"))
    assert all(finding.failed is None for finding in (*ours, *theirs))
    assert [finding.subject for finding in ours] == [finding.subject for finding in theirs]
    for finding, other in zip(ours, theirs, strict=True):
        assert list(finding.scalars) == list(other.scalars)
        for name, estimate in finding.scalars.items():
            expected = other.scalars[name]
            room = 1e-3 * abs(expected.value) + 5 * (expected.stderr or 0) + 1e-6
            if "seconds" in name:
                continue
            assert math.isclose(estimate.value, expected.value, rel_tol=0, abs_tol=room) or (
                math.isnan(estimate.value) and math.isnan(expected.value)
            ), name


class Reader(nn.Module):
    """A recurrent layer, an embedding and a norm."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.read, self.norm, self.head = (
            nn.LSTM(4, 5, batch_first=True),
            nn.LayerNorm(5),
            nn.Linear(5, 3),
        )

    def forward(self, tokens):
        return self.head(self.norm(self.read(self.table(tokens))[0].mean(dim=1)))


def convolutional():
    norm = nn.BatchNorm2d(3)
    return nn.Sequential(nn.Conv2d(1, 3, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))


@pytest.mark.parametrize(
    ("build", "inputs", "route"),
    [
        (Reader, torch.arange(84).view(12, 7) % 7, "layer by layer; vmap"),
        (convolutional, torch.linspace(-1, 1, 432).view(12, 1, 6, 6).double(), "layer by layer"),
    ],
)
def test_a_fisher_information_is_that_of_the_cpu_and_goes_the_same_way(build, inputs, route):
    torch.manual_seed(0)
    model, data = build().double().eval(), gp.Samples(inputs, torch.arange(12) % 3)
    softmax = gp.information.Softmax()
    theirs = gp.information.fisher_gram(model, data, likelihood=softmax)
    ours = gp.information.fisher_gram(model.cuda(), data.to("cuda"), likelihood=softmax)
    assert ours.route.startswith(route)
    assert ours.route == theirs.route
    np.testing.assert_allclose(ours.gram, theirs.gram, atol=1e-10)
    drawn = gp.information.fisher_gram(
        model, data.to("cuda"), likelihood=softmax, kind="mc", draws=50
    )
    assert drawn.trace() == pytest.approx(theirs.trace(), rel=0.5)


def test_networks_are_aligned_and_joined_as_on_the_cpu():
    torch.manual_seed(0)
    a, data = convolutional().double().eval(), gp.Samples(torch.randn(24, 1, 6, 6).double())
    b = gp.landscape.random_equivalent(a, data, random_state=1)
    for match in ("weights", "activations"):
        theirs = gp.landscape.align(a.cpu(), b.cpu(), data, match=match)
        ours = gp.landscape.align(a.cuda(), b.cuda(), data.to("cuda"), match=match)
        np.testing.assert_array_equal(ours.source, theirs.source)
        assert ours.distance_after == pytest.approx(theirs.distance_after)


def test_regions_are_those_of_the_cpu():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))
    counts = [
        gp.tropical.region_complex(model.to(device), ([-3.0, -3.0], [3.0, 3.0])).activation_regions
        for device in ("cpu", "cuda")
    ]
    assert counts[0] == counts[1]
    form = gp.tropical.tropical_form(model.double(), torch.zeros(2, device="cuda").double())
    assert form.deviation < 1e-9
