"""Training the models of a zoo, in parallel, with what is done on disk."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from geomprobe.diagnostics.measures import GROUPS, measure
from geomprobe.diagnostics.trained import TrainedModel
from geomprobe.findings import Estimate
from geomprobe.hooks.quiet import streams_kept
from geomprobe.named_objects import load_object
from geomprobe.storage import PathLike
from geomprobe.sweeps import Lost, one_at_a_time, sweep
from geomprobe.zoos.protocol import Model, ZooProtocol
from geomprobe.zoos.records import Record, ZooFolder
from geomprobe.zoos.task import Task
from geomprobe.zoos.training import TRAINING, Training, gaps


def run_zoo(
    protocol: ZooProtocol,
    folder: PathLike,
    *,
    n_jobs: int | None = None,
    progress: bool = False,
) -> ZooFolder:
    """Train and measure every model of a protocol that a folder does not hold yet.

    Parameters
    ----------
    protocol : ZooProtocol
    folder : path
        Where the records go: a file a model at once, tables at the end.
    n_jobs : int, optional
        Models at a time, by joblib; by default what ``joblib.parallel_config`` says, or one. Its
        backend is that of ``joblib.parallel_config`` too.
    progress : bool
        Show a bar.

    Returns
    -------
    ZooFolder
        After Ctrl-C, with the models that were done by then: run again to go on.

    Raises
    ------
    ValueError
        The folder holds models of another protocol; what the protocol names cannot be imported, or
        its hyper-parameters are not enough for training.
    ImportError
        pyarrow is missing.

    Notes
    -----
    A model that does not converge is a record that says so, and so is one whose training or
    measuring raises or whose worker is lost twice, which the next run tries again. Each is trained
    by one thread, so that the result does not depend on how many there are.
    """
    from tqdm.auto import tqdm

    load_object(protocol.build)
    missing = {"lr", "batch_size"} - {*protocol.axes, *protocol.fixed}
    if missing:
        raise ValueError(f"the protocol must say {sorted(missing)}, as an axis or fixed")
    home = ZooFolder(Path(folder))
    home.open_for(protocol)
    done = home.finished
    left = [model for model in protocol.models if model.number not in done]
    try:
        with tqdm(
            total=len(protocol.models),
            initial=len(protocol.models) - len(left),
            desc=f"zoo {protocol.name}",
            unit="model",
            disable=not progress,
        ) as bar:
            train = partial(train_and_measure, protocol)
            for model, record in sweep(train, left, folder=home.path, n_jobs=n_jobs):
                home.write(_lost(model, record) if isinstance(record, Lost) else record)
                bar.update()
    except KeyboardInterrupt:
        pass
    home.gather()
    return home


def train_and_measure(protocol: ZooProtocol, model: Model) -> Record:
    """Train one model of a protocol, and take its measures.

    Parameters
    ----------
    protocol : ZooProtocol
    model : Model
        One of ``protocol.models``.
    """
    started = time.perf_counter()
    facts: dict[str, float] = {}
    seconds: dict[str, float] = {}
    measures: dict[str, Estimate] = {}
    found: dict[str, float] = {}
    raised = False
    try:
        with one_at_a_time(), streams_kept(model.seed):
            training = Training(_task(protocol, model), model.settings, model.seed)
            failed = training.until(protocol.stop)
            seconds["training"] = time.perf_counter() - started
            loss, error = training.fit(training.train)
            facts |= {"steps_taken": training.steps, "train_loss": loss, "train_error": error}
            found = gaps(training, training.task.test)
            if not failed:
                measures = _measured(protocol, model, training, seconds)
    except Exception as error:
        failed, raised = f"{type(error).__name__}: {error}", True
    return Record(
        number=model.number,
        seed=model.seed,
        settings=model.settings,
        failed=failed or None,
        facts=facts,
        measures=measures,
        seconds=seconds,
        gaps=found,
        raised=raised,
    )


def _lost(model: Model, lost: Lost) -> Record:
    """Return the record of a model whose worker died."""
    return Record(
        number=model.number,
        seed=model.seed,
        settings=model.settings,
        failed=lost.reason,
        facts={},
        measures={},
        seconds={},
        gaps={},
        raised=True,
    )


def _task(protocol: ZooProtocol, model: Model) -> Task:
    others = {name: value for name, value in model.settings.items() if name not in TRAINING}
    task = load_object(protocol.build)(seed=model.seed, **others)
    if not isinstance(task, Task):
        raise TypeError(
            f"{protocol.build} returned a {type(task).__name__}, expected a geomprobe.zoos.Task"
        )
    return task


def _measured(
    protocol: ZooProtocol, model: Model, training: Training, seconds: dict[str, float]
) -> dict[str, Estimate]:
    """Take the measures of the model as it converged, and then those of the iterates after it."""
    trained = TrainedModel(
        training.task.model,
        training.train,
        initial=training.initial,
        hyperparameters={
            "lr": model.settings["lr"],
            "batch_size": model.settings["batch_size"],
            "steps": training.steps,
        },
        augment=training.task.augment,
    )
    chosen = protocol.groups or tuple(group.name for group in GROUPS)
    static = [name for name in chosen if name != "trajectory"]
    values, taken = measure(trained, static)
    seconds |= taken
    if "trajectory" in chosen:
        before = time.perf_counter()
        path = training.further(protocol.after)
        seconds["iterates"] = time.perf_counter() - before
        more, taken = measure(replace(trained, trajectory=path), ["trajectory"])
        values |= more
        seconds |= taken
    return values
