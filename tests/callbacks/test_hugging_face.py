"""TrainerMonitor in a real Trainer of transformers."""

import shutil
import sys

import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.callbacks import TrainerMonitor
from tests.callbacks.watched import AT_ONCE, TIME, Clock, Spread, X, Y, facts, network, spread

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.long

SD = "geom/spread/net.0/sd"
NET = {**AT_ONCE, "layers": "net.0"}
ROWS = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.fails = network(), False

    def forward(self, x, labels=None):
        if self.fails and self.training:
            raise ZeroDivisionError
        logits = self.net(x)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def trainer(folder, *watches, epochs=3, model=None, callbacks=(), **options):
    """With 8 batches an epoch, of which every second ends with a step of the optimizer."""
    options = {"save_strategy": "epoch", "eval_strategy": "epoch", "report_to": [], **options}
    one = transformers.Trainer(
        model or Model(),
        transformers.TrainingArguments(
            str(folder),
            num_train_epochs=epochs,
            per_device_train_batch_size=5,
            gradient_accumulation_steps=2,
            logging_strategy="epoch",
            lr_scheduler_type="constant",
            use_cpu=True,
            disable_tqdm=True,
            **options,
        ),
        train_dataset=ROWS,
        eval_dataset=ROWS[:5],
        callbacks=list(callbacks),
    )
    for watch in watches:
        watch.attach(one)
    return one


def probe():
    return [{"x": X, "labels": Y}]


def test_steps_are_the_optimizers_and_the_log_has_the_numbers(tmp_path):
    plain = trainer(tmp_path / "plain")
    plain.train()
    watch = TrainerMonitor(probe(), **NET)
    other = TrainerMonitor(probe(), name="time", every="3 steps", **{**NET, "analyzers": Clock()})
    watched = trainer(tmp_path / "watched", watch, other)
    watched.train()
    for a, b in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [(r.step, r.epoch) for r in watch.monitor.history] == [(4, 1.0), (8, 2.0), (12, 3.0)]
    assert watch.metrics == {SD: spread(watched.model.net)}
    assert [record.step for record in other.monitor.history] == [3, 6, 9, 12]
    log = watched.state.log_history
    assert [row["step"] for row in log if SD in row] == [4, 8, 12]
    assert [row["step"] for row in log if f"time/{TIME}" in row] == [4, 8, 12]
    # What the trainer logs itself is all there, and the loss is the last one that it has logged.
    losses = [row["loss"] for row in log if "loss" in row]
    assert len(losses) == 3
    assert [record.loss for record in watch.monitor.history] == [None, *losses[:2]]


def test_it_goes_on_from_a_checkpoint_of_the_trainer(tmp_path):
    def watches():
        options = {**NET, "every": "3 steps"}
        return [
            TrainerMonitor(probe(), **options),
            TrainerMonitor(name="b", tap=True, **options),
        ]

    whole, parts = watches(), watches()
    trainer(tmp_path / "whole", *whole).train()
    trainer(tmp_path / "parts", *parts, epochs=3).train()
    shutil.rmtree(tmp_path / "parts" / "checkpoint-12")
    parts = watches()
    trainer(tmp_path / "parts", *parts).train(resume_from_checkpoint=True)
    for one, other in zip(whole, parts, strict=True):
        assert facts(one.monitor) == facts(other.monitor)
        assert len(one.monitor.history) == 4

    (tmp_path / "parts" / "checkpoint-8" / "geomprobe.pt").unlink()
    watch = TrainerMonitor(probe(), **NET)
    with pytest.warns(gp.GeomprobeWarning, match="goes on at step 8 without its past"):
        trainer(tmp_path / "parts", watch).train(
            resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-8")
        )
    assert [(record.step, record.epoch) for record in watch.monitor.history] == [(12, 3.0)]


def test_early_stopping_and_the_best_model_by_a_number_of_geometry(tmp_path):
    stop = transformers.EarlyStoppingCallback(1)
    watch = TrainerMonitor(probe(), **{**NET, "analyzers": Clock()})
    one = trainer(
        tmp_path,
        watch,
        epochs=9,
        callbacks=[stop],
        metric_for_best_model=TIME,
        greater_is_better=False,
        load_best_model_at_end=True,
    )
    one.train()
    assert one.state.global_step == 8
    assert one.state.best_metric == 4
    assert one.state.best_model_checkpoint.endswith("checkpoint-4")


@pytest.mark.filterwarnings("ignore::geomprobe.GeomprobeWarning")
def test_a_number_that_is_missing_chooses_no_model_and_ends_no_training(tmp_path):
    class Broken(Clock):
        def __call__(self, evidence):
            raise RuntimeError("no luck")

    watch = TrainerMonitor(probe(), **{**NET, "analyzers": Broken()})
    one = trainer(tmp_path, watch, metric_for_best_model=TIME, greater_is_better=False)
    one.train()
    assert one.state.global_step == 12
    assert one.state.best_model_checkpoint is None


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_two_processes_observe_as_one_and_stop_together(tmp_path, in_processes):
    def job(rank, processes):
        watch = TrainerMonitor(probe(), **{**NET, "analyzers": [Spread(), Clock()]})
        one = trainer(
            tmp_path,
            watch,
            epochs=9,
            callbacks=[transformers.EarlyStoppingCallback(1)],
            metric_for_best_model=TIME,
            greater_is_better=False,
            load_best_model_at_end=True,
            learning_rate=0.0,
            ddp_backend="gloo",
        )
        one.train()
        assert one.args.world_size == processes
        return facts(watch.monitor), one.state.best_model_checkpoint[-1]

    one, other = in_processes(job, 2)
    assert one == other
    # 4 batches an epoch in each process, of which every second ends with a step of the optimizer.
    history, best = one
    assert [step for step, *_ in history] == [2, 4]
    assert [values[SD] for *_, values in history] == pytest.approx([spread(network())] * 2)
    assert best == "2"


def test_leaving_the_context_after_an_exception_takes_the_hooks_off(tmp_path):
    model = Model()
    watch = TrainerMonitor(tap=True, **NET)
    one = trainer(tmp_path, watch, model=model)
    model.fails = True
    with pytest.raises(ZeroDivisionError), watch:
        one.train()
    assert not model.net[0]._forward_hooks
    with pytest.raises(ValueError, match="has a TrainerMonitor named ''"):
        TrainerMonitor(probe()).attach(one)
