"""LightningMonitor in real trainers of both packages of Lightning."""

import sys

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from geomprobe.callbacks import CSVSink, LightningMonitor
from tests.callbacks.watched import AT_ONCE, TIME, Clock, Spread, X, Y, facts, network, spread

pytestmark = [
    pytest.mark.long,
    # Lightning's advice on loaders, loggers and checkpoint folders.
    pytest.mark.filterwarnings("ignore:.*:UserWarning:(pytorch_)?lightning.*"),
]

SD = "geom/spread/net.0/sd"
NET = {**AT_ONCE, "layers": "net.0"}


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def pl(request):
    return pytest.importorskip(request.param)


def module(pl, fails=False):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.lr = network(), 0.1

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch):
            if fails and self.trainer.global_step == 3:
                raise ZeroDivisionError
            x, y = batch
            return torch.nn.functional.cross_entropy(self.net(x), y)

        def validation_step(self, batch):
            self.net(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.net.parameters(), lr=self.lr, momentum=0.9)

    return Module()


def fit(pl, folder, callbacks, epochs=3, model=None, ckpt=None, **options):
    """Train with 8 batches an epoch, of which every second ends with a step of the optimizer."""
    model = model or module(pl)
    loader = DataLoader(TensorDataset(X, Y), batch_size=5)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accumulate_grad_batches=2,
        callbacks=callbacks,
        default_root_dir=folder,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, "enable_checkpointing": False, **options},
    )
    trainer.fit(model, loader, loader, ckpt_path=ckpt)
    return trainer, model


def test_steps_are_the_optimizers_and_loggers_get_the_numbers(pl, tmp_path):
    CSVLogger = pytest.importorskip(f"{pl.__name__}.loggers").CSVLogger
    watch = LightningMonitor((X, Y), **NET)
    other = LightningMonitor((X, Y), name="time", every="3 steps", **{**NET, "analyzers": Clock()})
    _, plain = fit(pl, tmp_path, [])
    logger = CSVLogger(tmp_path)
    trainer, model = fit(pl, tmp_path, [watch, other], logger=logger)
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    # The sanity check, of two batches before the first step, has not been observed.
    assert [(r.step, r.epoch) for r in watch.monitor.history] == [(4, 1.0), (8, 2.0), (12, 3.0)]
    assert watch.metrics == {SD: spread(model.net)}
    assert [record.step for record in other.monitor.history] == [3, 6, 9, 12]
    loss = torch.nn.functional.cross_entropy(network()(X[5:10]), Y[5:10]).item()
    assert other.monitor.history[0].loss != watch.monitor.history[0].loss
    assert 0 < watch.monitor.history[0].loss < 3 * loss
    assert trainer.callback_metrics[SD].item() == pytest.approx(watch.metrics[SD])
    written = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()
    assert {SD, f"time/{TIME}"} <= set(written.splitlines()[0].split(","))


def test_it_goes_on_from_a_checkpoint_of_the_trainer(pl, tmp_path):
    def watches():
        options = {**AT_ONCE, "every": "3 steps", "part": "net"}
        return [LightningMonitor(X, **options), LightningMonitor(name="b", tap=True, **options)]

    whole, parts = watches(), watches()
    fit(pl, tmp_path, whole, epochs=4)
    trainer, _ = fit(pl, tmp_path, parts, epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    torch.load(tmp_path / "last.ckpt", weights_only=True)
    parts = watches()
    fit(pl, tmp_path, parts, epochs=4, ckpt=tmp_path / "last.ckpt")
    for one, other in zip(whole, parts, strict=True):
        assert facts(one.monitor) == facts(other.monitor)
        assert len([record for record in one.monitor.history if record.values]) == 5


def test_a_checkpoint_of_the_last_step_of_an_epoch_has_its_end_told_later(pl, tmp_path):
    """Lightning writes it before the epoch's end, and does not tell of that again."""
    kept = pytest.importorskip(f"{pl.__name__}.callbacks").ModelCheckpoint(
        tmp_path, "{step}", every_n_train_steps=4, save_top_k=-1
    )
    whole, parts = LightningMonitor(X, **NET), LightningMonitor(X, **NET)
    fit(pl, tmp_path, [whole, kept], enable_checkpointing=True)
    fit(pl, tmp_path, [parts], ckpt=tmp_path / "step=4.ckpt")
    assert [(r.step, r.epoch) for r in parts.monitor.history] == [(4, 1.0), (8, 2.0), (12, 3.0)]
    assert facts(whole.monitor) == facts(parts.monitor)


def test_early_stopping_and_the_best_model_by_a_number_of_geometry(pl, tmp_path):
    callbacks = pytest.importorskip(f"{pl.__name__}.callbacks")
    stop = callbacks.EarlyStopping(TIME, mode="min", patience=1)
    best = callbacks.ModelCheckpoint(tmp_path, "best", monitor=TIME, mode="min")
    watch = LightningMonitor((X, Y), **{**NET, "analyzers": Clock()})
    trainer, _ = fit(pl, tmp_path, [stop, best, watch], epochs=9, enable_checkpointing=True)
    assert trainer.current_epoch == 2
    assert best.best_model_score == 4


def test_an_exception_takes_the_hooks_off(pl, tmp_path):
    model = module(pl, fails=True)
    watch = LightningMonitor(tap=True, part="net", every="1 step", **AT_ONCE)
    with pytest.raises(ZeroDivisionError):
        fit(pl, tmp_path, [watch], model=model)
    assert not model.net[0]._forward_hooks
    assert len(watch.monitor.history) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_two_processes_observe_as_one_and_stop_together(pl, tmp_path):
    stop = pytest.importorskip(f"{pl.__name__}.callbacks").EarlyStopping(TIME, patience=1)
    model, sinks = module(pl), [CSVSink(tmp_path / "geometry.csv")]
    model.lr = 0.0
    watch = LightningMonitor((X, Y), **{**NET, "analyzers": [Spread(), Clock()]}, sinks=sinks)
    fit(pl, tmp_path, [watch, stop], epochs=9, model=model, devices=2, strategy="ddp_fork")
    rows = pd.read_csv(tmp_path / "geometry.csv")
    # 4 batches an epoch in each process; the clock never falls, so that the second is the last.
    assert rows["step"].tolist() == [2, 2, 4, 4]
    assert rows["metric"].tolist() == [SD, TIME] * 2
    assert rows["value"].tolist()[::2] == pytest.approx([spread(network())] * 2)
