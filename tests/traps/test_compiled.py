"""Traps of code that calls no Python hooks."""

import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.exceptions import SkippedLayerWarning
from geomprobe.sampling import collect

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(3, 4), Head()

    def forward(self, x):
        return self.head(self.first(x).relu())


class Compiled:
    """A small model compiled in one of several ways, and the graphs that this took."""

    def __init__(self, way, model=None, **options):
        torch._dynamo.reset()
        torch.manual_seed(0)
        self.plain = model or Network()
        self.graphs = []
        self.model = self.plain
        options["backend"] = self._backend
        if way == "torch.compile":
            self.model = torch.compile(self.plain, **options)
        elif way == "in place":
            self.plain.compile(**options)
        elif way == "a child":
            self.plain.head = torch.compile(self.plain.head, **options)
        elif way == "a child in place":
            self.plain.head.compile(**options)
        elif way == "a function":
            self.model = torch.compile(lambda x: self.plain(x), **options)

    def _backend(self, graph, inputs):
        self.graphs.append(graph)
        return graph.forward


WAYS = ("torch.compile", "in place", "a child", "a child in place")


@pytest.fixture(autouse=True)
def leave_no_compiled_code():
    yield
    torch._dynamo.reset()


def test_trap_06_hook_added_to_a_compiled_model():
    compiled = Compiled("torch.compile")
    compiled.model(X)
    fired = []
    with compiled.plain.first.register_forward_hook(lambda *_: fired.append(1)):
        compiled.model(X)
    assert not fired
    for way in WAYS:
        compiled = Compiled(way, fullgraph=True)
        truth = compiled.model(X).detach()
        graphs = len(compiled.graphs)
        with gp.Probe(compiled.model, layers=["first", "head.linear"], strict=True) as probe:
            assert torch.allclose(compiled.model(X), truth)
        assert list(probe.clouds) == ["first", "head.linear"], way
        assert np.allclose(probe.clouds["head.linear"].points, truth, atol=1e-6)
        compiled.model(X)
        assert len(compiled.graphs) == graphs >= 1
        findings = gp.Monitor(compiled.model, (X,), points=5, workers=0).observe()
        assert [finding.failed for finding in findings] == [None] * len(findings)
        compiled.model(X)
        assert len(compiled.graphs) == graphs


def test_a_pytorch_that_cannot_run_compiled_code_eagerly_is_told(monkeypatch):
    compiled = Compiled("torch.compile")
    monkeypatch.delattr(torch.compiler, "set_stance")
    with pytest.raises(TypeError, match=r"pass the model as it was before torch\.compile"):
        gp.Probe(compiled.model, layers=["first"]).attach()


class Inside(Network):
    """Runs a layer in a compiled function of its own."""

    def __init__(self):
        super().__init__()
        self.function = torch.compile(lambda x: self.head(x), backend="eager")

    def forward(self, x):
        return self.function(self.first(x).relu())


class Decorated(Network):
    forward = torch.compile(Network.forward, backend="eager")


@torch.compile(backend="eager")
def compiled_call(layer, x):
    return layer(x)


class Elsewhere(Network):
    def forward(self, x):
        return compiled_call(self.head, self.first(x).relu())


LAYERS = ["first", "head.linear"]


@pytest.mark.parametrize("kind", [Inside, Decorated])
def test_layers_in_compiled_functions_of_a_model_are_heard(kind):
    model = kind()
    truth = model(X).detach()
    with gp.Probe(model, LAYERS, strict=True) as probe:
        model(X)
    assert list(probe.clouds) == LAYERS
    assert np.allclose(probe.clouds["head.linear"].points, truth, atol=1e-6)


def test_layers_in_compiled_functions_of_others_are_heard_in_passes_of_geomprobe_and_else_named():
    model = Elsewhere()
    model(X)
    reason = r"'head\.linear': never called; .*; or it is called in compiled code"
    with pytest.warns(SkippedLayerWarning, match=reason), gp.Probe(model, LAYERS) as probe:
        model(X)
    assert list(probe.clouds) == ["first"]
    assert list(collect(gp.Probe(model, LAYERS), X).clouds) == LAYERS


def test_what_is_compiled_behind_the_back_of_a_probe_is_told():
    for way in ("torch.compile", "in place", "a function"):
        model = Compiled("not yet").plain
        with (
            pytest.warns(SkippedLayerWarning, match=r"saw no forward pass.*compiled version"),
            gp.Probe(model, layers=["first", "head.linear"]) as probe,
        ):
            compiled = Compiled(way, model)
            compiled.model(X)
        assert compiled.graphs
        assert not probe.clouds
    model = Compiled("not yet").plain
    with (
        pytest.warns(SkippedLayerWarning, match=r"'head\.linear': .*compiled"),
        gp.Probe(model, layers=["first", "head.linear"]) as probe,
    ):
        Compiled("a child in place", model).model(X)
    assert list(probe.clouds) == ["first"]


def test_trap_07_counter_in_a_hook_compiles_again_and_again():
    class Counter:
        calls = 0

        def __call__(self, *_):
            self.calls += 1

    compiled = Compiled("torch.compile")
    with compiled.plain.first.register_forward_hook(Counter()):
        for _ in range(6):
            compiled.model(X)
    assert len(compiled.graphs) > 2
    for way in WAYS:
        compiled = Compiled(way)
        compiled.model(X)
        graphs = len(compiled.graphs)
        with gp.Probe(compiled.model, layers="head.linear") as probe:
            for _ in range(12):
                compiled.model(X)
        compiled.model(X)
        assert probe.samples_seen == 60
        assert len(compiled.graphs) == graphs


def test_trap_08_hook_that_cannot_be_compiled_breaks_a_full_graph():
    hook = torch.compiler.disable(lambda *_: None)
    compiled = Compiled("torch.compile", fullgraph=True)
    with (
        compiled.plain.first.register_forward_hook(hook),
        pytest.raises(torch._dynamo.exc.Unsupported),
    ):
        compiled.model(X)
    compiled = Compiled("torch.compile", fullgraph=True)
    # Compiling for the first time while a probe is attached, be it to the compiled model or not.
    with gp.Probe(compiled.model, layers="head.linear") as probe:
        compiled.model(X)
    assert len(probe.clouds["head.linear"]) == 5
    assert not compiled.graphs
    with (
        pytest.warns(SkippedLayerWarning),
        gp.Probe(compiled.plain, layers=["first", "head.linear", "first#in"]),
    ):
        compiled.model(X)
    assert len(compiled.graphs) == 1


def test_trap_18_script_modules_call_no_hooks():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.eager, self.scripted = nn.Linear(3, 4), torch.jit.script(nn.Linear(4, 2))

        def forward(self, x):
            return self.scripted(self.eager(x))

    model = Mixed()
    with pytest.raises(RuntimeError, match="not supported on ScriptModules"):
        model.scripted.register_forward_hook(lambda *_: None)
    reason = "'scripted': a ScriptModule does not call hooks"
    probe = gp.Probe(model, layers="*")
    with pytest.warns(SkippedLayerWarning, match=reason), probe:
        model(X)
    assert set(probe.clouds) == {"(root)", "eager"}
    for root in (torch.jit.script(nn.Linear(3, 4)), torch.jit.trace(nn.Linear(3, 4), X)):
        with pytest.raises(TypeError, match="pass the eager model"):
            gp.Probe(root)
        with pytest.raises(TypeError, match="pass the eager model"):
            gp.Monitor(root, (X,))
