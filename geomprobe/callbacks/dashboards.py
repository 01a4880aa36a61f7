"""Sinks for experiment trackers: TensorBoard, MLflow and Weights & Biases.

They take the numbers that are finite; error bars, reasons and curves are in the history.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from geomprobe.callbacks.history import Record
from geomprobe.exceptions import needing
from geomprobe.findings import Finding, metric_name
from geomprobe.storage import Array, PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What MLflow takes in names, on every system.
_NOT_IN_MLFLOW = re.compile(r"[^\w\-. /]")
_MLFLOW_BATCH = 1000


class TensorBoardSink:
    """Writes scalars, histograms of spectra and figures of persistence diagrams for TensorBoard.

    Parameters
    ----------
    log_dir : path or SummaryWriter
        Where to write, or what writes there. A folder of a resumed run is purged of what came after
        its checkpoint; a writer of your own sees to that itself, by ``purge_step``.
    figures : bool
        Also write histograms and figures.
    """

    def __init__(self, log_dir: PathLike | Any, *, figures: bool = True) -> None:
        with needing("tensorboard", "loggers"):
            from torch.utils.tensorboard import SummaryWriter
        self._own = not hasattr(log_dir, "add_scalar")
        self._make, self._log_dir, self._figures = SummaryWriter, log_dir, figures
        self._writer: Any = None if self._own else log_dir
        self._purge_step: int | None = None

    def __call__(self, record: Record) -> None:
        """Write a record, and have it on the disk."""
        if self._writer is None:
            self._writer = self._make(str(self._log_dir), purge_step=self._purge_step)
        for name, value in record.values.items():
            self._writer.add_scalar(name, value, record.step)
        for finding in record.findings if self._figures else ():
            about = finding.analyzer, finding.subject
            for name, array in finding.arrays.items():
                values = array[np.isfinite(array)] if name.endswith("spectrum") else array[:0]
                if len(values):
                    self._writer.add_histogram(metric_name(*about, name), values, record.step)
            if (figure := persistence_figure(finding)) is not None:
                self._writer.add_figure(
                    metric_name(*about, "diagrams"), figure, record.step, close=False
                )
        self._writer.flush()

    def truncate(self, *, after: int) -> None:
        """Have TensorBoard forget what came after a step."""
        self.close()
        self._purge_step = after + 1

    def close(self) -> None:
        """Close the files; a further record opens new ones."""
        if self._own and self._writer is not None:
            self._writer.close()
            self._writer = None


def persistence_figure(finding: Finding) -> Figure | None:
    """Draw the persistence diagrams of a finding; None where it has none."""
    from matplotlib.figure import Figure

    from geomprobe.topology import Diagrams

    drawn: list[Array] = []
    while (array := finding.arrays.get(f"diagram_h{len(drawn)}")) is not None:
        drawn.append(array[np.isfinite(array[:, 0]) & ~np.isnan(array[:, 1])])
    if not drawn:
        return None
    figure = Figure(figsize=(4, 4), layout="tight")
    Diagrams(tuple(drawn)).plot(figure.subplots()).set_title(finding.subject)
    return figure


class MLflowSink:
    """Logs metrics to an MLflow run.

    MLflow does not take every character in names: ``0#in`` is logged as ``0_in``.

    Parameters
    ----------
    run_id : str, optional
        The run. Default: the one that is active at the first observation.
    tracking_uri : str, optional
        The store, such as ``"sqlite:///mlflow.db"``. Default: what MLflow is set to.
    """

    def __init__(self, run_id: str | None = None, *, tracking_uri: str | None = None) -> None:
        with needing("mlflow", "loggers"):
            import mlflow
            from mlflow.entities import Metric
        self._mlflow, self._metric = mlflow, Metric
        self._client = mlflow.MlflowClient(tracking_uri)
        self.run_id = run_id
        self._resumed = False

    def __call__(self, record: Record) -> None:
        """Log a record's numbers."""
        run_id = self.run_id = self.run_id or self._active_run()
        now = int(1000 * time.time())
        metrics = [
            self._metric(_NOT_IN_MLFLOW.sub("_", name), value, now, record.step)
            for name, value in record.values.items()
        ]
        if self._resumed:
            metrics = [metric for metric in metrics if not self._has(metric)]
        for start in range(0, len(metrics), _MLFLOW_BATCH):
            self._client.log_batch(run_id, metrics[start : start + _MLFLOW_BATCH])

    def truncate(self, *, after: int) -> None:
        """Leave out what the run has already: MLflow forgets nothing."""
        self._resumed = True

    def _active_run(self) -> str:
        run = self._mlflow.active_run()
        if run is None:
            raise ValueError(
                "no MLflow run is active: call mlflow.start_run() first, or give the sink a run_id"
            )
        run_id: str = run.info.run_id
        return run_id

    def _has(self, metric: Any) -> bool:
        history = self._client.get_metric_history(self.run_id, metric.key)
        return any(one.step == metric.step for one in history)


class WandbSink:
    """Logs metrics to a Weights & Biases run, over a step axis of their own, ``geom/step``.

    Analyses end later than they begin, and W&B drops what comes with an earlier step than the last.

    Parameters
    ----------
    run : wandb.Run, optional
        Default: the active one at the first observation.
    """

    def __init__(self, run: Any = None) -> None:
        with needing("wandb", "loggers"):
            import wandb
        self._wandb, self._run = wandb, run
        self._defined = False

    def __call__(self, record: Record) -> None:
        """Log a record's numbers."""
        run = self._run or self._wandb.run
        if run is None:
            raise ValueError("no W&B run is active: call wandb.init() first, or give the sink one")
        if not self._defined:
            run.define_metric("geom/step", hidden=True)
            run.define_metric("geom/*", step_metric="geom/step")
            self._defined = True
        run.log({**record.values, "geom/step": record.step})
