"""SkorchMonitor in real nets of skorch."""

import sys
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.nn import functional as F

from geomprobe.callbacks import SkorchMonitor
from tests.callbacks.watched import AT_ONCE, TIME, Clock, Spread, X, Y, facts, network, spread

skorch = pytest.importorskip("skorch")
callbacks = pytest.importorskip("skorch.callbacks")

SD = "geom/spread/0/sd"


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(*network())


class Accumulating(skorch.NeuralNetClassifier):
    """Steps of the optimizer after every second batch, as skorch's FAQ has it."""

    def train_step(self, batch, **fit_params):
        step = self.train_step_single(batch, **fit_params)
        if len(self.history[-1, "batches"]) % 2 == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


def net(
    *watches,
    epochs=3,
    kind=skorch.NeuralNetClassifier,
    criterion=nn.CrossEntropyLoss,
    lr=0.1,
):
    return kind(
        Net,
        criterion=criterion,
        callbacks=list(watches),
        max_epochs=epochs,
        batch_size=5,
        lr=lr,
        train_split=None,
        iterator_train__shuffle=False,
        verbose=0,
    )


def fitted(*watches, **options):
    return net(*watches, **options).fit(X.numpy(), Y.numpy().astype(np.int64))


@pytest.mark.parametrize(
    ("kind", "steps"), [(skorch.NeuralNetClassifier, 8), (Accumulating, 4)], ids=["plain", "two"]
)
def test_steps_are_the_optimizers_and_the_history_has_the_numbers(kind, steps):
    watch = SkorchMonitor((X, Y), **AT_ONCE)
    other = SkorchMonitor((X, Y), name="time", every="3 steps", **{**AT_ONCE, "analyzers": Clock()})
    one = fitted(("a", watch), ("b", other), kind=kind)
    plain = fitted(kind=kind)
    for a, b in zip(plain.module_.parameters(), one.module_.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [record.step for record in watch.monitor.history] == [steps, 2 * steps, 3 * steps]
    assert one.history[:, SD] == [record.values[SD] for record in watch.monitor.history]
    assert watch.metrics == {SD: spread(one.module_)}
    assert one.history[:, f"time/{TIME}"][-1] == 3 * steps // 3 * 3
    assert watch.monitor.history[-1].loss == one.history[-1, "batches", -1, "train_loss"]


def test_it_goes_on_from_a_checkpoint_of_skorch(tmp_path):
    def watched(epochs, folder):
        watch = SkorchMonitor(X, every="3 steps", trajectory=8, **AT_ONCE)
        files = callbacks.Checkpoint(None, f_geometry="geometry.pt", dirname=folder)
        fitted(watch, files, callbacks.LoadInitState(files), epochs=epochs)
        return watch.monitor

    whole = watched(4, tmp_path / "whole")
    watched(2, tmp_path / "parts")
    rest = watched(2, tmp_path / "parts")
    assert facts(whole) == facts(rest)
    assert whole.trajectory == rest.trajectory


def test_early_stopping_and_the_best_model_by_a_number_of_geometry(tmp_path):
    watch = SkorchMonitor((X, Y), **{**AT_ONCE, "analyzers": Clock()})
    stop = callbacks.EarlyStopping(TIME, patience=1)
    best = callbacks.Checkpoint(
        lambda net: net.history[-1, TIME] == min(net.history[:, TIME]), dirname=tmp_path
    )
    history = fitted(watch, best, stop, epochs=9).history
    assert history[:, "event_cp"] == [True, False]


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_two_processes_of_accelerate_observe_as_one_and_stop_together(in_processes):
    """skorch has processes by its AccelerateMixin alone."""
    accelerate = pytest.importorskip("accelerate")
    mixin = pytest.importorskip("skorch.hf").AccelerateMixin

    class Accelerated(mixin, skorch.NeuralNetClassifier):
        pass

    def job(rank, processes):
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        watch = SkorchMonitor((X, Y), **{**AT_ONCE, "analyzers": [Spread(), Clock()]})
        stop = callbacks.EarlyStopping(TIME, patience=1)
        kind = partial(Accelerated, accelerator=accelerate.Accelerator(cpu=True))
        # On CPUs accelerate cannot wrap a module without parameters, which a function is not.
        fitted(watch, stop, epochs=9, kind=kind, lr=0.0, criterion=lambda: F.cross_entropy)
        return facts(watch.monitor)

    one, other = in_processes(job, 2)
    assert one == other
    assert [step for step, *_ in one] == [4, 8]
    assert [values[SD] for *_, values in one] == pytest.approx([spread(network())] * 2)


def test_a_clone_is_like_the_original_and_its_parameters_can_be_set():
    watch = SkorchMonitor((X, Y), log="none", **AT_ONCE)
    copy = clone(net(("geometry", watch)))
    copy.set_params(callbacks__geometry__every="2 epochs")
    copy.fit(X.numpy(), Y.numpy())
    used = dict(copy.callbacks_)["geometry"]
    assert isinstance(used, SkorchMonitor)
    assert used is not watch
    assert watch.monitor is None
    assert [record.epoch for record in used.monitor.history] == [2.0]
    assert used.metrics == {}


def test_leaving_the_context_after_an_exception_takes_the_hooks_off():
    watch = SkorchMonitor(tap=True, **AT_ONCE)
    one = net(watch).initialize()

    def fails(*_, **__):
        raise ZeroDivisionError

    one.criterion_.forward = fails
    with pytest.raises(ZeroDivisionError), watch:
        one.partial_fit(X.numpy(), Y.numpy())
    assert not one.module_[0]._forward_hooks
    assert not one.optimizer_._optimizer_step_post_hooks
