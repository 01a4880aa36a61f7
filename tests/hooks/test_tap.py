import copy
import gc
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from geomprobe.exceptions import DetachedProbeWarning
from geomprobe.hooks import Tap, quiet, select_layers


class Heard(list):
    def __call__(self, layer, module, output, batch):
        self.append((layer, batch.start, batch.size))

    @property
    def layers(self):
        return [layer for layer, _, _ in self]


def tap(model, layers, listener, **options):
    return Tap(model, select_layers(model, layers), listener, **options)


def test_each_output_is_told_once_with_the_place_of_its_batch():
    model, heard = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), Heard()
    with tap(model, ["0", "1", "(root)"], heard) as t:
        model(torch.zeros(4, 2))
        model(torch.zeros(3, 2))
    model(torch.zeros(5, 2))
    assert heard == [(n, s, k) for s, k in [(0, 4), (4, 3)] for n in ("0", "1", "(root)")]
    assert t.samples_seen == 7


def test_attach_twice_hooks_once_and_detach_leaves_nothing():
    model, heard = nn.Sequential(nn.Linear(2, 3)), Heard()
    t = tap(model, "0", heard)
    t.attach()
    t.attach()
    model(torch.zeros(4, 2))
    t.detach()
    t.detach()
    model(torch.zeros(4, 2))
    assert heard.layers == ["0"]
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert not model[0]._forward_hooks


def test_repeated_calls_in_one_forward_are_numbered():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(self.relu(self.relu(x) - 1) - 1)

    model, heard = Shared(), Heard()
    with tap(model, "relu", heard):
        model(torch.zeros(2, 2))
        model(torch.zeros(2, 2))
    assert heard.layers == ["relu", "relu#1", "relu#2"] * 2


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputation_of_gradient_checkpointing_is_not_told(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=reentrant)

    model, heard = Checkpointed(), Heard()
    with tap(model, "inner", heard):
        model(torch.randn(4, 3, requires_grad=True)).sum().backward()
    assert heard.layers == ["inner"]


def test_calls_of_a_layer_outside_the_model_are_not_told():
    model, heard = nn.Sequential(nn.Linear(2, 3)), Heard()
    with tap(model, "0", heard):
        model[0](torch.zeros(4, 2))
    assert not heard


def test_transformations_of_torch_func_are_not_told():
    model, heard = nn.Sequential(nn.Linear(2, 3)), Heard()
    with tap(model, "0", heard):
        torch.func.vmap(model)(torch.zeros(4, 2))
        torch.func.grad(lambda x: model(x).sum())(torch.zeros(4, 2))
        torch.func.vmap(torch.func.grad(lambda x: model(x).sum()))(torch.zeros(4, 2))
    assert not heard


def test_passes_of_other_observers_are_not_told():
    model, mine, theirs = nn.Sequential(nn.Linear(2, 3)), Heard(), Heard()
    with tap(model, "0", mine) as t:
        with quiet(model), tap(model, "0", theirs):
            model(torch.zeros(4, 2))
        assert not mine
        assert t.samples_seen == 0
        model(torch.zeros(5, 2))
    assert mine == [("0", 0, 5)]
    assert theirs == [("0", 0, 4)]


def test_outputs_are_never_replaced():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    x = torch.randn(5, 2)
    plain = model(x)
    with tap(model, ["0", "1"], lambda *args: torch.zeros(5, 3)):
        assert torch.equal(model(x), plain)


def test_a_failing_listener_detaches_and_the_forward_goes_on():
    def fail(layer, module, output, batch):
        raise RuntimeError("disk on fire")

    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    t = tap(model, ["0", "1"], fail)
    t.attach()
    with pytest.warns(DetachedProbeWarning, match="layer '0' failed.*disk on fire") as caught:
        assert model(torch.zeros(4, 2)).shape == (4, 3)
    assert len(caught) == 1
    assert not t.attached
    strict = tap(model, "0", fail, strict=True)
    with strict, pytest.raises(RuntimeError, match="disk on fire"):
        model(torch.zeros(4, 2))


def test_a_forward_that_raises_leaves_the_tap_ready_for_the_next():
    model, heard = nn.Sequential(nn.Linear(2, 3)), Heard()
    with tap(model, "0", heard):
        with pytest.raises(RuntimeError):
            model(torch.zeros(4, 7))
        model(torch.zeros(4, 2))
    assert heard.layers == ["0"]


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_copies_of_a_hooked_model_do_not_speak(twin):
    model, heard = nn.Sequential(nn.Linear(2, 3)), Heard()
    with tap(model, "0", heard):
        twin(model)(torch.zeros(4, 2))
        assert not heard
        model(torch.zeros(4, 2))
    assert heard.layers == ["0"]


def test_a_forgotten_tap_is_collected_and_its_hooks_are_silent():
    model, heard = nn.Sequential(nn.Linear(2, 3)), Heard()
    t = tap(model, "0", heard)
    t.attach()
    del t
    gc.collect()
    model(torch.zeros(4, 2))
    assert not heard
