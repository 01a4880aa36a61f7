"""Traps of what is called, how often, and what is done with what comes out."""

import gc
import types
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import geomprobe as gp
from geomprobe.exceptions import DetachedProbeWarning, SkippedLayerWarning


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize("points", [4, 100], ids=["some rows", "all rows"])
@pytest.mark.parametrize("shape", [(6, 3), (6, 5, 3)], ids=["rows", "sequences"])
def test_trap_01_in_place_operation_after_the_hook(bare_hook, points, shape):
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True)), torch.randn(shape)
    with torch.no_grad():
        stored = bare_hook(model[0])
        with gp.Probe(model, layers="0", pool="tokens", points=points) as probe:
            model(x)
        truth = model[0](x)
    assert stored[0].min() == 0 > truth.min()
    cloud = probe.clouds["0"]
    rows = truth.reshape(len(x), -1, 4)
    assert len(cloud) == min(points, rows[..., 0].numel())
    for point, sample in zip(cloud.points, cloud.sample_ids, strict=True):
        assert np.abs(rows[sample].numpy() - point).max(axis=-1).min() < 1e-6
    assert cloud.points.min() < 0


def test_trap_02_module_called_twice_in_a_forward(bare_hook):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.relu = nn.Linear(3, 4), nn.Linear(4, 2), nn.ReLU()

        def forward(self, x):
            return self.relu(self.b(self.relu(self.a(x))))

    model, x = Shared(), torch.randn(6, 3)
    fired = bare_hook(model.relu)
    with gp.Probe(model, layers="relu") as probe, torch.no_grad():
        first = model(x[:4])
        second = model(x[4:])
    assert len(fired) == 4
    assert list(probe.clouds) == ["relu", "relu#1"]
    assert probe.clouds["relu"].points.shape == (6, 4)
    assert np.array_equal(probe.clouds["relu#1"].points, torch.cat([first, second]))


def test_trap_03_tied_module_under_two_names():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = self.decode = nn.Linear(3, 3)

        def forward(self, x):
            return self.decode(self.encode(x).relu())

    model, x = Tied(), torch.randn(4, 3)
    assert [name for name, _ in model.named_modules()] == ["", "encode"]
    with gp.Probe(model, layers="decode") as probe, torch.no_grad():
        out = model(x)
        assert len(model.encode._forward_hooks) == 1
    assert list(probe.clouds) == ["encode", "encode#1"]
    assert np.array_equal(probe.clouds["encode#1"].points, out)
    assert probe.manifest[0]["aliases"] == ["decode"]


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.reentrant = reentrant
        self.block = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Dropout(0.3))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(checkpoint(self.block, x, use_reentrant=self.reentrant))


def checkpointed_step(model, x):
    torch.manual_seed(1)
    model.zero_grad()
    model(x.requires_grad_()).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("private_name", ["there", "missing"])
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "non-reentrant"])
def test_trap_04_gradient_checkpointing_runs_the_forward_again(
    bare_hook, monkeypatch, reentrant, private_name
):
    model, x = Checkpointed(reentrant), torch.randn(6, 3)
    fired = bare_hook(model.block[0])
    plain = checkpointed_step(model, x)
    assert len(fired) == 2
    if private_name == "missing":
        # Then the guard is that a recomputation lies outside any forward pass of the whole model.
        private = {k: v for k, v in vars(torch._C).items() if k != "_current_graph_task_id"}
        without = {**vars(torch), "_C": types.SimpleNamespace(**private)}
        monkeypatch.setattr("geomprobe.hooks.tap.torch", types.SimpleNamespace(**without))
    with gp.Probe(model, layers="*", strict=True) as probe:
        for _ in range(2):
            probed = checkpointed_step(model, x)
    assert all(map(torch.equal, plain, probed))
    assert {name: cloud.meta["seen"] for name, cloud in probe.clouds.items()} == dict.fromkeys(
        ["(root)", "block", "block.0", "block.1", "block.2", "head"], 12
    )
    if private_name == "there":  # Of a model that is checkpointed as a whole nothing else tells.
        with gp.Probe(model, layers="head") as probe:
            checkpoint(model, x, use_reentrant=reentrant).sum().backward()
        assert probe.samples_seen == probe.clouds["head"].meta["seen"] == 6


def test_trap_05_reentrant_checkpointing_runs_the_first_forward_without_grad():
    model, grad_enabled = Checkpointed(reentrant=True), []
    model.block.register_forward_hook(lambda *_: grad_enabled.append(torch.is_grad_enabled()))
    with gp.Probe(model, layers=["block", "head"]) as probe:
        checkpointed_step(model.train(), torch.randn(6, 3))
    assert grad_enabled == [False, True]
    assert probe.phases == ("train",)
    assert {len(cloud) for cloud in probe.clouds.values()} == {6}


def test_trap_10_weights_that_are_used_without_calling_their_module(bare_hook):
    class SelfAttention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    model, x = SelfAttention(), torch.randn(2, 5, 8)
    fired = bare_hook(model.attention.out_proj)
    probe = gp.Probe(model, layers="attention*")
    with pytest.warns(SkippedLayerWarning, match=r"attention\.out_proj': never called"), probe:
        model(x)
    assert not fired
    assert list(probe.clouds) == ["attention"]
    rows = {row["name"]: row["status"] for row in probe.manifest}
    assert rows == {"attention": "observed", "attention.out_proj": "skipped"}


def test_trap_13_what_a_hook_returns_replaces_the_output(bare_hook):
    model, x = mlp(), torch.randn(6, 3)
    plain = model(x)
    with model[0].register_forward_hook(lambda *_: torch.zeros(6, 4)):
        assert not torch.equal(model(x), plain)
    layers, outputs = ["*", "0#in", "2#in"], [bare_hook(model[0]), bare_hook(model)]
    inputs = []
    with (
        model[1].register_forward_pre_hook(lambda module, args: inputs.extend(args)),
        gp.Probe(model, layers=layers, points=3, max_width=4, sampler="farthest") as probe,
    ):
        outputs.append([model(x)])
    assert torch.equal(outputs[2][0], plain)
    # Not even a copy has taken its place.
    assert outputs[0][0] is inputs[0]
    assert outputs[1][0] is outputs[2][0]
    assert len(probe.clouds) == 6


def test_trap_14_an_exception_in_a_hook_kills_the_forward():
    def fail(module, args, output):
        raise RuntimeError("disk full")

    model, x = mlp(), torch.randn(6, 3)
    with model[0].register_forward_hook(fail), pytest.raises(RuntimeError, match="disk full"):
        model(x)
    plain = model(x)
    for strict in (False, True):
        probe = gp.Probe(model, layers=["0", "2"], strict=strict).attach()
        model(x)
        probe.identify(labels=np.arange(6))  # Labels that come late are an error.
        if strict:
            with pytest.raises(ValueError, match="with labels, or none"):
                model(x)
        else:
            with pytest.warns(DetachedProbeWarning, match="layer '0' failed") as caught:
                assert torch.equal(model(x), plain)
            assert len(caught) == 1
        assert torch.equal(model(x), plain)
        assert len(probe.clouds["2"]) == 6
        assert not model[0]._forward_hooks


def test_trap_15_kept_outputs_keep_the_autograd_graph_alive(bare_hook):
    source, model = nn.Linear(3, 3), mlp()

    def alive_after_a_pass(z):
        x = source(z)
        passing = [weakref.ref(x)]
        inner = model[0].register_forward_hook(lambda m, a, out: passing.append(weakref.ref(out)))
        model(x)
        inner.remove()
        del x
        gc.collect()
        return [ref() is not None for ref in passing]

    z = torch.randn(6, 3)
    assert alive_after_a_pass(z) == [False, False]
    with gp.Probe(model, layers=["0", "0#in", "2"]) as probe:
        assert alive_after_a_pass(z) == [False, False]
    assert len(probe.clouds) == 3
    stored = bare_hook(model[0])
    assert alive_after_a_pass(z)[1]
    assert stored[0].grad_fn is not None
