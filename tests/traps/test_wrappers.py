"""Traps of what wraps a model, and of what runs in its place."""

import copy

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import geomprobe as gp

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.relu = nn.Linear(3, 4), nn.ReLU()
        self.body = nn.Sequential(nn.Linear(4, 2))

    def forward(self, x):
        return self.body(self.relu(self.first(x)))


LAYERS = {"(root)", "first", "relu", "body", "body.0"}
PARAMETERS = {"first.weight", "first.bias", "body.0.weight", "body.0.bias"}


@pytest.fixture
def group(tmp_path):
    """A process group of this process alone."""
    if not dist.is_available():
        pytest.skip("this PyTorch has no torch.distributed")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def compiled(model):
    return torch.compile(model, backend="eager")


def with_compiled_part(model):
    model.body = compiled(model.body)
    return model


def with_checkpointed_part(model):
    wrappers = pytest.importorskip("torch.distributed.algorithms._checkpoint.checkpoint_wrapper")
    model.body = wrappers.checkpoint_wrapper(model.body)
    return model


def with_parallel_part(model):
    model.body = DistributedDataParallel(model.body)
    return model


WRAPPINGS = {
    "compile": [compiled],
    "DDP": [DistributedDataParallel],
    "compile of DDP": [DistributedDataParallel, compiled],
    "DDP of compile": [compiled, DistributedDataParallel],
    "compiled part": [with_compiled_part],
    "checkpointed part": [with_checkpointed_part],
    "checkpointed part in DDP, compiled": [
        with_checkpointed_part,
        DistributedDataParallel,
        compiled,
    ],
    "DDP part": [with_parallel_part],
}


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_trap_23_wrappers_put_prefixes_before_names(wrapping):
    model = Network()
    truth = model(X)
    for wrap in WRAPPINGS[wrapping]:
        model = wrap(model)
    assert {name for name, _ in model.named_parameters()} != PARAMETERS
    with gp.Probe(model, layers="*") as probe:
        model(X)
    assert set(probe.clouds) == LAYERS
    assert np.allclose(probe.clouds["body.0"].points, truth.detach(), atol=1e-6)
    assert set(gp.Probe(model, layers="body*").selection.selected) == {"body", "body.0"}
    recorder = gp.TrajectoryRecorder(model, parameters=sorted(PARAMETERS))
    recorder.record(0)
    assert recorder.trajectory.points.shape == (1, 26)
    torch._dynamo.reset()


@pytest.mark.usefixtures("group")
def test_trap_24_sharded_parameters():
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("this PyTorch has no fully_shard")
    model, mesh = Network(), torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    whole = copy.deepcopy(model)
    fsdp.fully_shard(model.body, mesh=mesh)
    fsdp.fully_shard(model, mesh=mesh)
    assert all(hasattr(parameter, "full_tensor") for parameter in model.parameters())
    clouds = []
    for one in (model, whole):
        with gp.Probe(one, layers="*") as probe:
            one(X).sum().backward()
        clouds.append(dict(probe.clouds))
    assert set(clouds[0]) == LAYERS
    assert clouds[0] == clouds[1]
    with pytest.raises(ValueError, match=r"'first.weight' cannot be recorded: it is sharded"):
        gp.TrajectoryRecorder(model)
    findings = gp.Monitor(model, (X, torch.arange(6) % 2), workers=0).observe()
    assert findings
    assert [finding.failed for finding in findings] == [None] * len(findings)


@pytest.mark.parametrize("nested", [False, True])
def test_trap_25_replicas_of_data_parallel_share_no_hooks(nested):
    model = nn.DataParallel(Network())
    if nested:
        model = nn.Sequential(model, nn.ReLU())
    for observe in (gp.Probe, gp.TrajectoryRecorder, lambda model: gp.Monitor(model, (X,))):
        with pytest.raises(TypeError, match=r"DataParallel replicates.*DistributedDataParallel"):
            observe(model)
    assert not any(module._forward_hooks for module in model.modules())
    inner = model[0].module if nested else model.module
    with gp.Probe(inner, layers="*") as probe:
        inner(X)
    assert set(probe.clouds) == LAYERS


@pytest.mark.parametrize("grad", [False, True], ids=["fast path", "no fast path"])
def test_trap_27_hooks_turn_the_fast_path_of_transformers_off(monkeypatch, grad):
    fused = []

    def fused_layer(*arguments):
        fused.append(1)
        return original(*arguments)

    original = torch._transformer_encoder_layer_fwd
    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", fused_layer)
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(4, 5, 8)
    with torch.set_grad_enabled(grad):
        plain = model(x)
        assert len(fused) == (0 if grad else 2)
        fused.clear()
        with gp.Probe(model, layers=["layers.0", "layers.0.linear1"]) as probe:
            probed = model(x)
        assert len(fused) == (0 if grad else 1)
        assert torch.equal(model(x), plain)
        first = model.layers[0](x)
    assert torch.allclose(probed, plain, atol=1e-5)
    assert np.allclose(probe.clouds["layers.0"].points, first.mean(dim=1).detach(), atol=1e-5)
    assert probe.clouds["layers.0.linear1"].points.shape == (4, 16)
