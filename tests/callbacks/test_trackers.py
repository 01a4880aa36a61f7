"""Experiment trackers hold what was observed, read back by their own libraries."""

import json
import struct
import sys

import pytest
from torch.nn.functional import cross_entropy

import geomprobe as gp
from geomprobe.callbacks import MLflowSink, TensorBoardSink, WandbSink
from tests.callbacks.watched import AT_ONCE, Spread, X, Y, network

SD = "geom/spread/0/sd"


def run(steps, sink, state=None, **options):
    options = {"probe_data": X, **AT_ONCE, "every": "1 step", "sinks": [sink], **options}
    monitor = gp.Monitor(network(), **options)
    if state is not None:
        monitor.load_state_dict(state)
    for _ in range(steps):
        monitor.step()
    return monitor


def values(monitor):
    return [(record.step, record.values[SD]) for record in monitor.history]


@pytest.mark.long
def test_tensorboard_holds_scalars_histograms_and_figures(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    several = [Spread(), "persistent_homology", "fisher_information"]
    options = dict(analyzers=several, probe_data=(X, Y), loss=cross_entropy, samples=8)
    monitor = run(1, TensorBoardSink(tmp_path), **options)
    state = monitor.state_dict()
    monitor.step()
    monitor.close()
    resumed = run(2, TensorBoardSink(tmp_path), state=state, **options)
    resumed.close()

    read = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in read.Scalars(SD)] == [
        (step, pytest.approx(value)) for step, value in values(resumed)
    ]
    assert "geom/fisher_information/model/spectrum" in read.Tags()["histograms"]
    assert "geom/persistent_homology/0/diagrams" in read.Tags()["images"]


def test_a_writer_of_the_users_own_stays_open(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        run(1, TensorBoardSink(writer, figures=False)).close()
        writer.add_scalar("mine", 1.0)


@pytest.mark.long
def test_mlflow_holds_the_metrics_once_also_of_a_resumed_run(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(store)
    experiment = mlflow.create_experiment("geometry", artifact_location=str(tmp_path / "artifacts"))
    with mlflow.start_run(experiment_id=experiment) as active:
        monitor = run(2, MLflowSink(), layers=["0", "0#in"])
        state = monitor.state_dict()
        monitor.step()
        sink = MLflowSink(active.info.run_id, tracking_uri=store)
        resumed = run(2, sink, state=state, layers=["0", "0#in"])
        resumed.close()
    client = mlflow.MlflowClient(store)
    history = client.get_metric_history(active.info.run_id, SD)
    assert [(one.step, one.value) for one in history] == values(resumed)
    assert len(client.get_metric_history(active.info.run_id, "geom/spread/0_in/sd")) == 4


def wandb_rows(path):
    """The history in a file of W&B: a LevelDB log, after 7 bytes, of protobuf records."""
    from wandb.proto import wandb_internal_pb2

    data, place, whole, rows = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        chunk = data[place + 7 : place + 7 + length]
        place += 7 + length
        whole = chunk if kind in (1, 2) else whole + chunk  # Full or first; middle or last.
        if kind in (1, 4):
            items = wandb_internal_pb2.Record.FromString(whole).history.item
            row = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items
            }
            rows += [row] if row else []
    return rows


@pytest.mark.long
def test_wandb_holds_the_metrics_over_their_own_steps(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(mode="offline", dir=tmp_path, project="geometry") as active:
        active.log({"mine": 1.0}, step=50)  # Later than what is observed.
        monitor = run(2, WandbSink(active))
        monitor.close()
    wandb.teardown()  # Its service writes until it ends.
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows = [row for row in wandb_rows(file) if SD in row]
    assert [(row["geom/step"], row[SD]) for row in rows] == values(monitor)


def test_without_an_active_run_the_warning_says_what_to_do(tmp_path):
    pytest.importorskip("wandb")
    with pytest.warns(gp.GeomprobeWarning, match="no W&B run is active: call wandb.init"):
        run(1, WandbSink())


@pytest.mark.parametrize(
    ("make", "module"),
    [
        (lambda: TensorBoardSink("logs"), "torch.utils.tensorboard"),
        (MLflowSink, "mlflow"),
        (WandbSink, "wandb"),
    ],
    ids=["TensorBoard", "MLflow", "W&B"],
)
def test_a_missing_library_is_an_import_error_that_names_the_extra(make, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'geomprobe\[loggers\]'"):
        make()
