"""What the callbacks for all frameworks share, as far as it needs none of them."""

import copy
import inspect
import pickle
import sys
from pathlib import Path

import pytest

import geomprobe as gp
from geomprobe.callbacks import (
    FrameworkMonitor,
    IgniteMonitor,
    KerasMonitor,
    LightningMonitor,
    SkorchMonitor,
    TrainerMonitor,
)
from geomprobe.exceptions import DetachedProbeWarning
from tests.callbacks.watched import AT_ONCE, X, network


class Callback:
    """A callback of some framework, which calls `super` no further."""

    def __init__(self):
        self.of_the_framework = True

    def on_nothing(self):
        return "nothing"


class Watch(FrameworkMonitor):
    @classmethod
    def _bases(cls):
        return (Callback,)


@pytest.mark.parametrize(
    ("kind", "modules", "extra"),
    [
        (LightningMonitor, ["lightning.pytorch", "pytorch_lightning"], "lightning"),
        (TrainerMonitor, ["transformers"], "hf"),
        (SkorchMonitor, ["skorch", "skorch.callbacks"], "skorch"),
        (IgniteMonitor, ["ignite", "ignite.engine"], "ignite"),
        (KerasMonitor, ["keras"], "keras"),
    ],
)
def test_a_missing_framework_is_an_import_error_that_names_the_extra(
    kind, modules, extra, monkeypatch
):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'geomprobe\[{extra}\]'"):
        kind(X)


def test_shells_are_thin():
    for kind in (LightningMonitor, TrainerMonitor, SkorchMonitor, IgniteMonitor, KerasMonitor):
        assert len(Path(inspect.getfile(kind)).read_text().splitlines()) < 120, kind


def test_it_is_a_callback_of_the_framework_also_when_it_is_copied():
    watch = Watch(X, name="a", log=["geom/*", "re:x"], **AT_ONCE)
    watch._start(network())
    watch._step()
    for one in (watch, copy.deepcopy(watch), pickle.loads(pickle.dumps(watch))):
        assert isinstance(one, Watch)
        assert isinstance(one, Callback)
        assert one.of_the_framework
        assert one.on_nothing() == "nothing"
        assert one.options.keys() == watch.options.keys()
        assert one.monitor.state_dict()["cadence"]["steps"] == 1
    assert type(watch).__name__ == "Watch"
    assert isinstance(type(watch)(X), Callback)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "0"}, TypeError, "unexpected keyword argument 'layer'"),
        ({"steps_per_epoch": 3}, TypeError, "the framework counts the epochs"),
        ({"name": "a/b"}, ValueError, "name must be of letters"),
        ({"log": "re:("}, ValueError, "no regular expression"),
    ],
)
def test_wrong_options_are_refused_at_construction(options, error, message):
    with pytest.raises(error, match=message):
        Watch(X, **options)


def test_what_the_framework_is_told_can_be_chosen_and_has_the_name():
    options = {**AT_ONCE, "layers": ["0", "1"]}
    for log, told in (("*", {"0", "1"}), ("geom/*/1/*", {"1"}), (["re:/0/", "none"], {"0"})):
        watch = Watch(X, name="train", log=log, **options)
        watch._start(network())
        assert watch._epoch_end()
        assert watch.metrics.keys() == {f"train/geom/spread/{layer}/sd" for layer in told}
        assert not watch._take_up()


def test_a_monitor_that_raises_ends_the_watching_and_not_the_training(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no luck")

    watch = Watch(X, every="1 step", **AT_ONCE)
    watch._start(network())
    watch._step()
    monkeypatch.setattr(gp.Monitor, "step", broken)
    with pytest.warns(DetachedProbeWarning, match="watched no longer: RuntimeError: no luck"):
        watch._step()
    watch._step()
    assert not watch._epoch_end()
    watch._close()
    assert [record.step for record in watch.monitor.history] == [1]

    model, watch = network(), Watch(tap=True, **AT_ONCE)
    watch._start(model)
    with pytest.warns(DetachedProbeWarning, match="no luck"):
        watch._step()
    assert not model[0]._forward_hooks

    watch = Watch(X, strict=True, **AT_ONCE)
    watch._start(network())
    with pytest.raises(RuntimeError, match="no luck"):
        watch._step()


def test_with_the_same_model_a_second_training_goes_on_and_with_another_it_begins():
    model, watch = network(), Watch(X, every="2 steps", **AT_ONCE)
    for trained, steps in ((model, [2]), (model, [2, 4]), (network(), [2])):
        watch._start(trained)
        for _ in range(3 if len(steps) == 1 else 1):
            watch._step()
        watch._close()
        assert [record.step for record in watch.monitor.history] == steps


def test_a_state_serves_the_next_training_or_the_one_that_runs():
    first = Watch(X, every="1 step", **AT_ONCE)
    assert first.state_dict() == {}
    first._start(network())
    first._step()
    state = first.state_dict()

    before, within = Watch(X, every="1 step", **AT_ONCE), Watch(X, every="1 step", **AT_ONCE)
    before.load_state_dict(state)
    assert before.state_dict() == state
    before._start(network(), step=1, epoch=7)
    within._start(network())
    within.load_state_dict(state)
    for watch in (before, within):
        watch._step()
        assert [record.step for record in watch.monitor.history] == [1, 2]
        watch._take_up()
        assert len(watch.metrics) == 1


def test_without_a_state_it_goes_on_from_the_steps_of_the_framework():
    watch = Watch(X, every="1 epoch", **AT_ONCE)
    watch._start(network(), step=10, epoch=2)
    watch._step()
    watch._epoch_end()
    (record,) = watch.monitor.history
    assert (record.step, record.epoch) == (11, 3.0)


def test_leaving_the_context_takes_the_hooks_off():
    model = network()
    with pytest.raises(ZeroDivisionError), Watch(tap=True, **AT_ONCE) as watch:
        watch._start(model)
        assert model[0]._forward_hooks
        raise ZeroDivisionError
    assert not model[0]._forward_hooks
