"""SkorchMonitor in real nets of skorch."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from geomprobe.callbacks import SkorchMonitor
from tests.callbacks.watched import AT_ONCE, TIME, Clock, X, Y, facts, network, spread

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


def net(*watches, epochs=3, kind=skorch.NeuralNetClassifier):
    return kind(
        Net,
        criterion=nn.CrossEntropyLoss,
        callbacks=list(watches),
        max_epochs=epochs,
        batch_size=5,
        lr=0.1,
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


def test_early_stopping_by_a_number_of_geometry():
    watch = SkorchMonitor((X, Y), **{**AT_ONCE, "analyzers": Clock()})
    stop = callbacks.EarlyStopping(TIME, patience=1)
    assert len(fitted(watch, stop, epochs=9).history) == 2


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
