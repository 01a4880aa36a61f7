"""Sinks get every record once, in order, and go on where a run goes on."""

import json
import math

import pandas as pd
import pytest

import geomprobe as gp
from geomprobe.callbacks import CSVSink, History, JSONLinesSink
from tests.callbacks.watched import AT_ONCE, X, network

STEP = {**AT_ONCE, "every": "1 step", "layers": ["0", "1"]}


def monitor(*sinks, **options):
    return gp.Monitor(network(), X, **{**STEP, "sinks": sinks, **options})


def run(steps, *sinks, state=None, **options):
    """A monitor after so many steps, from the state of another."""
    one = monitor(*sinks, **options)
    if state is not None:
        one.load_state_dict(state)
    for step in range(steps):
        one.step(loss=float(step))
    return one


def read(path):
    return pd.read_csv(path, keep_default_na=False, na_values={"stderr": "nan", "value": "nan"})


def lines(path):
    return History.from_dicts(map(json.loads, path.read_text().splitlines()))


def test_a_function_gets_every_record_when_it_is_done():
    got = []
    one = run(3, got.append)
    assert [record.step for record in got] == [1, 2, 3]
    assert got == list(one.history)
    assert got[0].values.keys() == {"geom/spread/0/sd", "geom/spread/1/sd"}


def test_also_those_of_a_worker_in_order():
    got = []
    one = run(1, got.append, workers=1, analyzers="persistent_homology", points=20)
    one.close()
    assert got == list(one.history)
    assert got[0].values["geom/persistent_homology/0/h0_total_persistence"] > 0


def test_csv_holds_what_the_frame_holds(tmp_path):
    one = run(3, CSVSink(tmp_path / "a" / "geometry.csv"))
    written, frame = read(tmp_path / "a" / "geometry.csv"), one.history.to_frame()
    assert list(written) == list(frame)
    assert written["metric"].tolist() == frame["metric"].tolist()
    assert written["value"].tolist() == frame["value"].tolist()
    assert written["step"].tolist() == [1, 1, 2, 2, 3, 3]


def test_json_lines_give_the_history_back(tmp_path):
    one = run(2, JSONLinesSink(tmp_path / "geometry.jsonl"))
    assert lines(tmp_path / "geometry.jsonl") == one.history


@pytest.mark.parametrize("kind", [CSVSink, JSONLinesSink])
def test_a_resumed_run_goes_on_with_the_file_without_duplicates(tmp_path, kind):
    whole, path = tmp_path / "whole", tmp_path / "parts"
    run(6, kind(whole))
    one = run(3, kind(path))
    state = one.state_dict()
    for _ in range(2):  # After the checkpoint, and before the interruption.
        one.step()
    with open(path, "a") as file:
        file.write("5,1.0,cut o")
    run(3, kind(path), state=state)
    steps = [
        [record.step for record in lines(name)] if kind is JSONLinesSink else read(name)["step"]
        for name in (whole, path)
    ]
    assert list(steps[0]) == list(steps[1])


def test_a_new_run_starts_the_file_anew_also_with_the_same_sink(tmp_path):
    sink = CSVSink(tmp_path / "geometry.csv")
    run(3, CSVSink(tmp_path / "geometry.csv"))
    run(2, sink)
    assert read(sink.path)["step"].tolist() == [1, 1, 2, 2]
    run(1, sink)
    assert read(sink.path)["step"].tolist() == [1, 1]


def test_what_fails_has_a_row_with_its_reason_on_one_line(tmp_path):
    class Broken:
        name, needs, readings = "broken", frozenset(), {}

        def __call__(self, evidence):
            raise RuntimeError('no "luck",\nnone')

    with pytest.warns(gp.GeomprobeWarning, match='no "luck"'):
        run(1, CSVSink(tmp_path / "geometry.csv"), analyzers=Broken())
    (row,) = read(tmp_path / "geometry.csv").to_dict("records")
    assert row["metric"] == "geom/broken/model/failed"
    assert math.isnan(row["value"])
    assert row["note"] == 'RuntimeError: no "luck", none'


def test_a_full_disk_is_a_warning_and_what_it_could_not_take_comes_later(tmp_path):
    resource = pytest.importorskip("resource")  # Windows has no such limits.
    sink = CSVSink(tmp_path / "geometry.csv")
    one = run(2, sink)
    size = sink.path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))  # Room for a part of a row.
    try:
        with pytest.warns(gp.GeomprobeWarning, match="the sink CSVSink has failed, and will be"):
            one.step()
        one.step()  # No second warning.
        assert sink.path.stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    one.step()
    assert read(sink.path)["step"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert len(one.history) == 5


@pytest.mark.parametrize("kind", [CSVSink, JSONLinesSink])
def test_a_file_that_cannot_be_made_is_a_warning_with_the_reason(tmp_path, kind):
    (tmp_path / "taken").touch()  # Also the superuser can make nothing below a file.
    with pytest.warns(gp.GeomprobeWarning, match=rf"sink {kind.__name__} has failed.*\[Errno"):
        one = run(2, kind(tmp_path / "taken" / "geometry"))
    assert [record.step for record in one.history] == [1, 2]


def test_a_sink_that_goes_on_failing_is_told_of_at_the_end_and_strict_raises():
    def unreachable(record):
        raise ConnectionError("no network")

    got = []
    with pytest.warns(gp.GeomprobeWarning, match="sink unreachable has failed.*no network"):
        one = run(2, unreachable, got.append)
    assert len(got) == 2
    with pytest.warns(gp.GeomprobeWarning, match="unreachable lacks the last 2 of 2 observations"):
        one.close()
    with pytest.raises(ConnectionError, match="no network"):
        run(1, unreachable, strict=True)


def test_a_sink_may_look_at_the_history():
    seen = []
    one = monitor(lambda record: seen.append(len(one.history)))
    one.step()
    one.step()
    assert seen == [1, 2]


def test_a_sink_that_cannot_be_called_is_refused():
    for wrong in ("geometry.csv", CSVSink):
        with pytest.raises(TypeError, match="a sink must be a callable that takes a Record"):
            monitor(wrong)
    with pytest.raises(TypeError, match=r"sinks must be a list of sinks, got one: sinks=\["):
        gp.Monitor(network(), X, sinks=print)
