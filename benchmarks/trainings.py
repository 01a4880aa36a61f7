"""The same training in a plain loop and in five frameworks, with and without a Monitor.

Run by callbacks.py in a process each: ``trainings.py NAME EPOCHS`` trains without a monitor, with
one that never observes and is told of about half of the steps, by a coin, and with one of default
options, and prints the seconds of steps of both kinds, what observing took by the monitor's own
account, and by how much the trained parameters differ.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import geomprobe as gp
from geomprobe.callbacks.shell import FrameworkMonitor

SAMPLES, WIDTH, CLASSES, BATCH = 6_400, 784, 10, 64

#: Options of the monitor by kind; None: there is none.
KINDS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "counted": {"every": "1000000000 steps"},
    "watched": {},
}
Watched = tuple[nn.Module, gp.Monitor | None]


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Return clouds around ten means, like flat images of digits."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    means = torch.randn(CLASSES, WIDTH, generator=generator)
    return means[labels] + 2 * torch.randn(SAMPLES, WIDTH, generator=generator), labels


def network() -> nn.Sequential:
    """Return a perceptron of 670,000 parameters."""
    torch.manual_seed(0)
    layers = [nn.Linear(WIDTH, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(512, CLASSES))


def probe() -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a monitor is shown."""
    x, y = data()
    return x[:400], y[:400]


def plain_loop(epochs: int, options: dict[str, Any] | None) -> Watched:
    """Train in a loop of one's own."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(*data()), batch_size=BATCH)
    monitor = None
    if options is not None:
        monitor = gp.Monitor(model, probe(), steps_per_epoch=len(loader), **options)
    for _ in range(epochs):
        for x, y in loader:
            loss = functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor.step(loss)
    if monitor is not None:
        monitor.close()
    return model, monitor


def lightning(epochs: int, options: dict[str, Any] | None) -> Watched:
    """Train by a Trainer of Lightning."""
    import lightning.pytorch as pl

    from geomprobe.callbacks import LightningMonitor

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def training_step(self, batch: Any) -> torch.Tensor:
            return functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    watch = None if options is None else LightningMonitor(probe(), **options)
    model = Module()
    silent = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        enable_model_summary=False,
        callbacks=[watch] if watch else [],
        **silent,
    )
    loader = DataLoader(TensorDataset(*data()), batch_size=BATCH)
    trainer.fit(model, loader)
    return model, watch and watch.monitor


def hugging_face(epochs: int, options: dict[str, Any] | None) -> Watched:
    """Train by a Trainer of transformers."""
    from transformers import Trainer, TrainingArguments

    from geomprobe.callbacks import TrainerMonitor

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(
            self, x: torch.Tensor, labels: torch.Tensor | None = None
        ) -> dict[str, torch.Tensor]:
            logits = self.net(x)
            if labels is None:
                return {"logits": logits}
            return {"loss": functional.cross_entropy(logits, labels), "logits": logits}

    model, (x, y) = Model(), data()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH,
            optim="sgd",
            learning_rate=0.01,
            use_cpu=True,
            disable_tqdm=True,
            report_to=[],
            save_strategy="no",
        )
        rows = [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
        trainer = Trainer(model, arguments, train_dataset=rows)
        shown = [{"x": probe()[0], "labels": probe()[1]}]
        watch = None if options is None else TrainerMonitor(shown, **options).attach(trainer)
        trainer.train()
        return model, watch and watch.monitor


def skorch(epochs: int, options: dict[str, Any] | None) -> Watched:
    """Train by a net of skorch."""
    from skorch import NeuralNetClassifier

    from geomprobe.callbacks import SkorchMonitor

    watch = None if options is None else SkorchMonitor(probe(), **options)
    net = NeuralNetClassifier(
        network(),
        criterion=nn.CrossEntropyLoss,
        callbacks=[watch] if watch else [],
        max_epochs=epochs,
        batch_size=BATCH,
        lr=0.01,
        train_split=None,
        verbose=0,
    )
    x, y = data()
    net.fit(x, y)
    return net.module_, watch and watch.monitor


def ignite(epochs: int, options: dict[str, Any] | None) -> Watched:
    """Train by an engine of Ignite."""
    from ignite.engine import create_supervised_trainer

    from geomprobe.callbacks import IgniteMonitor

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trainer = create_supervised_trainer(model, optimizer, functional.cross_entropy)
    watch = None
    if options is not None:
        watch = IgniteMonitor(probe(), **options).attach(trainer, model, optimizer)
    loader = DataLoader(TensorDataset(*data()), batch_size=BATCH)
    trainer.run(loader, max_epochs=epochs)
    return model, watch and watch.monitor


def keras(epochs: int, options: dict[str, Any] | None) -> Watched:
    """Train by ``fit`` of Keras on PyTorch."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    from geomprobe.callbacks import KerasMonitor

    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    model = keras.Sequential(
        [keras.layers.Input((WIDTH,)), dense(512, "relu"), dense(512, "relu"), dense(CLASSES)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    watch = None if options is None else KerasMonitor(probe(), **options)
    x, y = (part.numpy() for part in data())
    callbacks = [watch] if watch else []
    model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    return model, watch and watch.monitor


TRAININGS: dict[str, Callable[[int, dict[str, Any] | None], Watched]] = {
    one.__name__: one for one in (plain_loop, lightning, hugging_face, skorch, ignite, keras)
}


@contextmanager
def by_a_coin(name: str) -> Iterator[tuple[list[float], list[bool]]]:
    """Let a coin say at each step whether the monitor is told of it; note when, and what it said.

    What is left out is what the framework calls its callback by: Monitor.step in a loop of one's
    own, and else all that follows on it.
    """
    owner, method = (gp.Monitor, "step") if name == "plain_loop" else (FrameworkMonitor, "_step")
    told, coin = getattr(owner, method), np.random.default_rng(0)
    moments: list[float] = []
    shown: list[bool] = []

    def maybe(self: Any, loss: Any = None) -> None:
        moments.append(time.perf_counter())
        shown.append(bool(coin.random() < 0.5))
        if shown[-1]:
            told(self, loss)

    setattr(owner, method, maybe)
    try:
        yield moments, shown
    finally:
        setattr(owner, method, told)


def measured(name: str, epochs: int) -> dict[str, Any]:
    """Return seconds of steps with and without a monitor, and what one that observes says."""

    def run(kind: str) -> tuple[float, gp.Monitor | None]:
        model, monitor = TRAININGS[name](epochs, KINDS[kind])
        return float(sum(p.detach().double().sum() for p in model.parameters())), monitor

    expected, _ = run("plain")  # It also loads and compiles what training needs.
    with by_a_coin(name) as (moments, shown):
        counted, _ = run("counted")
    started = time.perf_counter()
    found, monitor = run("watched")
    seconds = time.perf_counter() - started
    assert monitor is not None
    took = np.diff(moments)
    return {
        "with": took[shown[:-1]].tolist(),
        "without": took[~np.array(shown[:-1])].tolist(),
        "observing": monitor.overhead * seconds,
        "observations": len(monitor.history),
        "difference": max(abs(counted - expected), abs(found - expected)),
    }


if __name__ == "__main__":
    _, name, epochs = sys.argv
    print(json.dumps(measured(name, int(epochs))))
