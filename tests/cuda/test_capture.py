"""Clouds of a model on a GPU: those of the CPU, and nobody waits for them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.exceptions import SkippedLayerWarning

LAYERS = ["convolve", "convolve.0", "norm", "encoder", "encoder.layers.0", "read"]


class Tagger(nn.Module):
    """Maps, sequences and their padding, in one model."""

    def __init__(self):
        super().__init__()
        self.convolve = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True))
        self.norm = nn.BatchNorm2d(4)
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.read = nn.LSTM(4, 5, batch_first=True)

    def forward(self, image, key_padding_mask=None):
        maps = self.norm(self.convolve(image))
        tokens = maps.flatten(2).transpose(1, 2)
        hidden = self.encoder(tokens, src_key_padding_mask=key_padding_mask)
        return self.read(hidden)[0].mean(dim=1)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Tagger().eval()


@pytest.fixture
def images():
    return torch.randn(48, 1, 5, 5, generator=torch.Generator().manual_seed(1))


def clouds(model, images, padding=None, **options):
    device = next(model.parameters()).device
    given = {} if padding is None else {"key_padding_mask": padding.to(device)}
    with gp.Probe(model, LAYERS, strict=True, **options) as probe, torch.no_grad():
        for batch in images.split(16):
            model(batch.to(device), **given)
    return probe.clouds


@pytest.mark.parametrize("pool", ["flatten", "mean", "positions"])
@pytest.mark.parametrize("max_width", [2048, 8])
def test_the_points_are_those_of_the_cpu(model, images, pool, max_width):
    options = dict(pool=pool, max_width=max_width, points=20)
    ours = clouds(copy.deepcopy(model).cuda(), images, **options)
    theirs = clouds(model, images, **options)
    assert list(ours) == list(theirs)
    for layer, cloud in ours.items():
        np.testing.assert_array_equal(cloud.sample_ids, theirs[layer].sample_ids)
        np.testing.assert_allclose(cloud.points, theirs[layer].points, atol=1e-4)


@pytest.mark.parametrize("pool", ["mean", "tokens", "last", "cls"])
def test_padding_is_left_out_as_on_the_cpu(model, images, pool):
    padding = torch.arange(9) >= torch.arange(16)[:, None] % 9 + 1
    options = dict(pool={"encoder*": pool}, mask={"encoder*": "auto", "*": None})
    ours = clouds(copy.deepcopy(model).cuda(), images, padding, **options)
    theirs = clouds(model, images, padding, **options)
    assert ours["encoder"].meta["masked"]
    for layer in ("encoder", "encoder.layers.0"):
        np.testing.assert_allclose(ours[layer].points, theirs[layer].points, atol=1e-4)


@pytest.mark.parametrize("pool", ["flatten", "mean", "positions"])
def test_the_forward_pass_does_not_wait_for_the_device(model, images, pool):
    model.cuda()
    batch = images[:16].cuda()
    probe = gp.Probe(model, LAYERS, pool=pool, max_width=8, points=1000, strict=True)
    with probe, torch.no_grad():
        model(batch)  # Loads kernels, and brings the projections to the device.
        torch.cuda.synchronize()
        torch.cuda._sleep(2 * 10**9)
        slept = torch.cuda.Event()
        slept.record()
        torch.cuda.set_sync_debug_mode("error")
        try:
            model(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert not slept.query()
    whole = clouds(model, torch.cat([batch, batch]), pool=pool, max_width=8, points=1000)
    for layer, cloud in whole.items():
        np.testing.assert_allclose(probe.clouds[layer].points, cloud.points, atol=1e-5)


def test_a_copy_of_a_probe_has_what_was_on_its_way(model, images):
    model.cuda()
    with gp.Probe(model, "convolve", strict=True) as probe, torch.no_grad():
        model(images[:16].cuda())
        twin = copy.deepcopy(probe)
    np.testing.assert_array_equal(twin.clouds["convolve"].points, probe.clouds["convolve"].points)


def test_the_capture_of_a_cuda_graph_is_named_as_unheard(images):
    model, batch = nn.Sequential(nn.Linear(25, 4), nn.ReLU()).cuda(), images.flatten(1).cuda()
    with torch.no_grad():
        model(batch)
        with gp.Probe(model, "0", strict=True) as probe:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                model(batch)
            graph.replay()
            model(batch[:8])
    assert len(probe.clouds["0"]) == 8
    unheard = pytest.warns(SkippedLayerWarning, match="CUDA graph")
    graph = torch.cuda.graph(torch.cuda.CUDAGraph())
    with torch.no_grad(), unheard, gp.Probe(model, "0", strict=True), graph:
        model(batch)


def test_half_precision_under_autocast_is_kept_as_float32(model, images):
    model.cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        ours = clouds(model, images)
    assert ours["convolve.0"].points.dtype == np.float32
    assert ours["convolve.0"].meta["dtype"] == "bfloat16"
    theirs = clouds(model, images)["convolve.0"].points
    np.testing.assert_allclose(ours["convolve.0"].points, theirs, atol=0.05)


def test_a_trajectory_of_a_gpu_is_that_of_the_cpu(images):
    paths = {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        model = nn.Linear(25, 40).double().to(device)
        recorder = gp.TrajectoryRecorder(model, dim=16)
        for step in range(6):
            with torch.no_grad():
                model.weight += model.weight.cos() / (step + 1)
            recorder.record(step, torch.tensor(step / 2, device=device))
        paths[device] = recorder.trajectory
    ours, theirs = paths["cuda"], paths["cpu"]
    np.testing.assert_allclose(ours.points, theirs.points, rtol=1e-9)
    np.testing.assert_allclose(ours.meta["step_norms"][1:], theirs.meta["step_norms"][1:])
    np.testing.assert_array_equal(ours.losses, theirs.losses)
