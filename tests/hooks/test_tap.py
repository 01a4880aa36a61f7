import copy
import gc
import pickle
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from geomprobe.exceptions import DetachedProbeWarning, SkippedLayerWarning
from geomprobe.hooks import Tap, quiet, select_layers
from geomprobe.hooks.names import key_of

OF_HOOKS = ("hooks_with_kwargs", "hooks_always_called", "pre_hooks", "pre_hooks_with_kwargs")


class Heard(list):
    def __call__(self, site, call, module, value, batch):
        self.append((key_of(site, call), batch.start, batch.size))

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
    def fail(site, call, module, value, batch):
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


@pytest.mark.parametrize("fails", [False, True])
def test_the_first_pass_of_a_copy_takes_the_hooks_off_it(fails):
    model, heard = nn.Sequential(nn.Linear(2, 3)), Heard()
    with tap(model, ["*", "*#in"], heard):
        twin = copy.deepcopy(model)
        own = twin.register_forward_hook(lambda *_: None)
        twin[0](torch.zeros(4, 2))
        if fails:
            with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
                twin(torch.zeros(4, 7))
        else:
            twin(torch.zeros(4, 2))
        assert list(twin._forward_hooks) == [own.id]
        assert not any(vars(twin)[f"_forward_{one}"] for one in OF_HOOKS)
        assert not any(vars(twin[0])[f"_forward_{one}"] for one in ("hooks", *OF_HOOKS))
        assert not heard
        model(torch.zeros(4, 2))
    assert len(heard) == 4


def test_a_copy_of_a_tap_is_detached_and_belongs_to_the_copy_of_the_model():
    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.heard = nn.Linear(3, 2), Heard()
            self.tap = tap(self, "fc", self.heard)

        def forward(self, x):
            return self.fc(x)

    model = Watched()
    model.tap.attach()
    model(torch.zeros(2, 3))
    other = copy.deepcopy(model)
    assert not other.tap.attached
    other(torch.zeros(2, 3))
    assert len(other.heard) == len(model.heard) == 1
    with other.tap:
        other(torch.zeros(2, 3))
    assert len(other.heard) == 2
    model(torch.zeros(2, 3))
    assert len(model.heard) == 2
    assert other.tap.samples_seen == 4
    model.tap.detach()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_passes_of_tracing_are_not_told():
    model, heard = nn.Sequential(nn.Linear(3, 2)), Heard()
    with tap(model, "0", heard):
        torch.jit.trace(model, torch.zeros(2, 3), check_trace=False)
        assert not heard
        model(torch.zeros(2, 3))
    assert len(heard) == 1


def test_a_forgotten_tap_is_collected_and_its_hooks_are_silent():
    model, heard = nn.Sequential(nn.Linear(2, 3)), Heard()
    t = tap(model, "0", heard)
    t.attach()
    del t
    gc.collect()
    model(torch.zeros(4, 2))
    assert not heard
    assert not model._forward_hooks
    assert not model[0]._forward_hooks


def test_inputs_are_told_before_the_layer_can_change_them():
    values = []
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))

    def listen(site, call, module, value, batch):
        values.append(value["input"].clone())

    with tap(model, "1#in", listen):
        x = torch.randn(4, 2)
        model(x)
    assert torch.equal(values[0], model[0](x))


def test_phases_are_named_by_the_flag_of_the_model_or_by_the_caller():
    phases = []
    model = nn.Sequential(nn.Linear(2, 2))
    with tap(model, "0", lambda site, call, module, value, batch: phases.append(batch.phase)) as t:
        model(torch.zeros(1, 2))
        model.eval()(torch.zeros(1, 2))
        with t.phase("sanity check"):
            model(torch.zeros(1, 2))
        model(torch.zeros(1, 2))
    assert phases == ["train", "eval", "sanity check", "eval"]


def test_what_was_not_told_has_a_reason():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with tap(model, ["0", "1"], Heard()) as t:
        model[0](torch.zeros(4, 2))
        torch.func.vmap(model)(torch.zeros(4, 2))
    assert t.unheard["0"] == t.unheard["1"] == "called inside torch.func, where values are not data"
    with tap(model, ["0", "1"], Heard()) as t:
        model[0](torch.zeros(4, 2))
    assert t.unheard == {"0": "called outside a forward pass of the whole model"}
    assert t.passes == 0


@pytest.mark.parametrize("fullgraph", [True, False])
def test_compiled_models_are_heard_eagerly_and_compiled_again_afterwards(fullgraph):
    compilations = []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    inner, heard = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), Heard()
    model = torch.compile(inner, backend=backend, fullgraph=fullgraph)
    model(torch.zeros(4, 2))
    assert len(compilations) == 1
    with tap(model, "0", heard):
        model(torch.zeros(4, 2))
        with tap(model, "1", heard):
            model(torch.zeros(4, 2))
        model(torch.zeros(5, 2))
    assert heard.layers == ["0", "0", "1", "0"]
    model(torch.zeros(4, 2))
    assert len(compilations) == 1


@pytest.mark.parametrize("in_place", [True, False])
def test_compiled_parts_of_a_model_are_heard(in_place):
    model, heard = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU())), Heard()
    if in_place:
        model[1].compile(backend="eager")
    else:
        model[1] = torch.compile(model[1], backend="eager")
    model(torch.zeros(4, 2))
    with tap(model, ["0", "1", "1.0"], heard):
        model(torch.zeros(4, 2))
    assert heard.layers == ["0", "1.0", "1"]


def test_compiling_a_hooked_model_neither_breaks_the_graph_nor_recompiles():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    inner, heard = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), Heard()
    with tap(inner, ["0", "1", "0#in"], heard):
        compiled = torch.compile(inner, backend=backend, fullgraph=True)
        for _ in range(12):
            compiled(torch.zeros(4, 2))
    assert len(graphs) == 1
    assert not heard


def test_a_tap_on_a_part_does_not_hear_a_visit_of_the_whole():
    whole = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    heard = Heard()
    with Tap(whole[0], select_layers(whole[0], "(root)"), heard) as one:
        whole(torch.randn(2, 3))
        with quiet(whole):
            whole(torch.randn(7, 3))
        whole(torch.randn(3, 3))
        assert one.samples_seen == 5
    assert heard == [("(root)", 0, 2), ("(root)", 2, 3)]


class CallsItself(nn.Module):
    """Conditions a pass on the outcome of another, as self-conditioning does."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x, again=True):
        if again:
            x = x + self(x, again=False)
        return self.relu(x)


def test_a_model_that_calls_itself_is_heard_in_both_passes():
    model, heard = CallsItself(), Heard()
    with tap(model, "relu", heard) as one:
        model(torch.randn(4, 2))
        model(torch.randn(3, 2))
        assert one.samples_seen == 7
    assert heard == [("relu", 0, 4), ("relu#1", 0, 4), ("relu", 4, 3), ("relu#1", 4, 3)]


def test_a_pass_cut_off_by_an_interrupt_does_not_count_as_the_outer_one():
    class Interrupted(nn.Module):
        cut = True

        def forward(self, x):
            if self.cut:
                raise KeyboardInterrupt
            return x

    model, heard = nn.Sequential(nn.ReLU(), Interrupted()), Heard()
    with tap(model, "0", heard):
        with pytest.raises(KeyboardInterrupt):
            model(torch.randn(2, 2))
        Interrupted.cut = False
        model(torch.randn(3, 2))
        model(torch.randn(3, 2))
    assert heard[1:] == [("0", 0, 3), ("0", 3, 3)]


def test_of_two_threads_one_at_a_time_is_heard():
    waiting, go_on = threading.Event(), threading.Event()

    class Waits(nn.Module):
        def forward(self, x):
            if len(x) == 2:
                waiting.set()
                assert go_on.wait(60)
            return x

    model, heard = nn.Sequential(nn.ReLU(), Waits(), nn.Tanh()), Heard()
    with tap(model, ["0", "2"], heard) as one:
        thread = threading.Thread(target=model, args=(torch.randn(2, 3),))
        thread.start()
        assert waiting.wait(60)
        with pytest.warns(SkippedLayerWarning, match="another thread"):
            model(torch.randn(5, 3))
        go_on.set()
        thread.join()
        model(torch.randn(4, 3))
        assert one.samples_seen == 6
    assert heard == [("0", 0, 2), ("2", 0, 2), ("0", 2, 4), ("2", 2, 4)]
