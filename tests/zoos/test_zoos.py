"""Zoos from their files to their scores."""

import json
import math
import sys
import textwrap
from pathlib import Path

import joblib
import pandas as pd
import pytest

import geomprobe
from geomprobe.cli import main
from geomprobe.diagnostics.measures import MEASURES
from geomprobe.zoos import ZooFolder, ZooProtocol, run_zoo, running, score_zoo

GRIDS = Path(__file__).parents[2] / "benchmarks" / "zoo"
MODELS = {"T": 216, "V": 64, "H1": 144, "H2": 96, "H3": 48}

USER_CODE = """
import torch
from torch import nn
from geomprobe import Samples
from geomprobe.zoos import Task

def some(n, seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return Samples(2 * torch.eye(3)[y] + torch.randn(n, 3, generator=generator), y)

def build(*, seed, width):
    if width == 13:
        raise RuntimeError("no such width")
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 3))
    return Task(model, some(30, 0), some(300, 1))

def listed(*, seed, width):
    return build(seed=seed, width=width[0])

def wrong(*, seed, width):
    return 3
"""

TOML = """
name = "mine"
build = "my_zoo:build"
seeds = [0, 1]
stop = { cross_entropy = 0.2 }
groups = ["hyperparameters", "outputs"]

[axes]
lr = [0.1, 0.2]
batch_size = [5, 10]
width = [16, 32]
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A zoo of the user's own, in the folder that they are in."""
    (tmp_path / "my_zoo.py").write_text(textwrap.dedent(USER_CODE))
    (tmp_path / "mine.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield ZooProtocol.from_toml("mine.toml")
    sys.modules.pop("my_zoo", None)


def without_times(table):
    return table[[name for name in table if not name.startswith("seconds.")]]


# --- protocols -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_grids_are_those_that_were_frozen(name):
    """A grid is frozen before its zoo is run: with another, frozen.json changes, on purpose."""
    protocol = ZooProtocol.from_toml(GRIDS / f"{name}.toml")
    assert len(protocol.models) == MODELS[name]
    assert protocol.held_out == name.startswith("H")
    assert json.loads((GRIDS / "frozen.json").read_text())[name] == protocol.digest


def test_a_quick_zoo_has_48_models():
    assert len(ZooProtocol.from_toml(GRIDS / "T.toml", variant="quick").models) == 48


def test_a_protocol_is_read_and_written_and_told_apart(mine):
    again = ZooProtocol.from_dict(json.loads(json.dumps(mine.to_dict())))
    assert again == mine
    assert again.digest == mine.digest
    other = ZooProtocol.from_dict({**mine.to_dict(), "seeds": [0, 2]})
    assert other.digest != mine.digest
    assert [model.settings["width"] for model in mine.models[:4]] == [16, 16, 32, 32]
    assert [model.seed for model in mine.models[:4]] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"axes": {}}, "needs an axis"),
        ({"axes": {"lr": [0.1]}}, "two or more different values"),
        ({"fixed": {"lr": 0.1}}, "both an axis and fixed"),
        ({"seeds": [1, 1]}, "seeds must be different"),
        ({"groups": ["odd"]}, "no group of measures"),
        ({"sedes": [1]}, "no key"),
        ({"stop": {"patience": 3}}, "no key"),
        ({"stop": 3}, r"\[stop\] must be a table, got 3"),
        ({"axes": {"act": "relu"}}, "axis 'act' must be a list of values, got 'relu'"),
        ({"axes": {"norm": [False, "batch"]}}, "axis 'norm' needs values of one type"),
        ({"seeds": 3}, "seeds must be a list of values, got 3"),
    ],
)
def test_protocols_that_cannot_be_used(mine, change, said):
    with pytest.raises(ValueError, match=said):
        ZooProtocol.from_dict({**mine.to_dict(), **change})


# --- running ---------------------------------------------------------------------------------


def test_an_interrupted_zoo_goes_on_from_its_records(mine, monkeypatch):
    whole = run_zoo(mine, "whole")
    trained = []

    def interrupted(protocol, model):
        if len(trained) == 5:
            raise KeyboardInterrupt
        trained.append(model.number)
        return train(protocol, model)

    train = running.train_and_measure
    monkeypatch.setattr(running, "train_and_measure", interrupted)
    assert len(run_zoo(mine, "parts").finished) == 5
    monkeypatch.setattr(
        running, "train_and_measure", lambda *both: trained.append(both[1].number) or train(*both)
    )
    parts = run_zoo(mine, "parts")
    assert sorted(trained) == [*range(16)]
    pd.testing.assert_frame_equal(without_times(whole.measures()), without_times(parts.measures()))
    pd.testing.assert_frame_equal(whole.gaps(), parts.gaps())
    with pytest.raises(ValueError, match="another protocol"):
        run_zoo(ZooProtocol.from_dict({**mine.to_dict(), "seeds": [4]}), "whole")


@pytest.mark.long
def test_processes_give_what_one_gives_also_where_results_come_all_at_once(mine):
    protocol = ZooProtocol.from_dict({**mine.to_dict(), "seeds": [0]})
    tables = [without_times(run_zoo(protocol, "one").measures())]
    tables.append(without_times(run_zoo(protocol, "loky", n_jobs=2).measures()))
    for backend in ("multiprocessing", "threading"):
        with joblib.parallel_config(backend, n_jobs=2):
            tables.append(without_times(run_zoo(protocol, backend).measures()))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], table)


def test_a_model_that_fails_is_a_record(mine):
    protocol = ZooProtocol.from_dict(
        {
            **mine.to_dict(),
            "axes": {"lr": [0.1, 1e30], "width": [13, 16]},
            "fixed": {"batch_size": 10},
            "seeds": [0],
        }
    )
    home = run_zoo(protocol, "some")
    assert home.finished == {1, 3}  # What raised is tried again by the next run.
    assert home.failures()["RuntimeError: no such width"] == 2
    table = home.measures()
    failed = table.set_index(["settings.lr", "settings.width"])["failed"]
    assert failed[0.1, 16] == ""
    assert failed[0.1, 13] == "RuntimeError: no such width"
    assert "not finite" in failed[1e30, 16]


def test_an_axis_of_lists_is_scored(mine):
    axes = {"lr": [0.1, 0.2], "batch_size": [5, 10], "width": [[16], [32, 32]]}
    changed = {"build": "my_zoo:listed", "axes": axes, "seeds": [0]}
    run_zoo(ZooProtocol.from_dict({**mine.to_dict(), **changed}), "listed")
    scores = score_zoo("listed", replicates=20, draws=20)
    assert scores.left_out["models"].tolist() == [4] * 6


def test_when_everything_raises_the_reason_is_told(mine):
    changed = {**mine.to_dict(), "axes": {"lr": [0.1, 0.2]}, "seeds": [0]}
    changed["fixed"] = {"batch_size": 10, "width": 13}
    home = run_zoo(ZooProtocol.from_dict(changed), "none")
    assert home.finished == set()
    with pytest.raises(
        ValueError, match=r"none of 2 models .* has measures; most .* no such width"
    ):
        score_zoo("none")


def test_what_cannot_be_run_is_refused_before_training(mine):
    with pytest.raises(ValueError, match="no attribute 'biuld'"):
        run_zoo(ZooProtocol.from_dict({**mine.to_dict(), "build": "my_zoo:biuld"}), "x")
    axes = {"width": [1, 2], "lr": [0.1, 0.2]}
    with pytest.raises(ValueError, match="batch_size"):
        run_zoo(ZooProtocol.from_dict({**mine.to_dict(), "axes": axes}), "x")
    table = run_zoo(
        ZooProtocol.from_dict({**mine.to_dict(), "build": "my_zoo:wrong"}), "wrong"
    ).measures()
    assert set(table["failed"]) == {
        "TypeError: my_zoo:wrong returned a int, expected a geomprobe.zoos.Task"
    }
    with pytest.raises(ValueError, match="none of 16 models"):
        score_zoo("wrong")


# --- scores ----------------------------------------------------------------------------------


def test_scores_are_of_signed_measures_and_held_out_gaps_are_counted(mine):
    held_out = ZooProtocol.from_dict({**mine.to_dict(), "held_out": True})
    run_zoo(held_out, "held")
    with pytest.raises(ValueError, match="held out"):
        score_zoo("held", replicates=20, draws=20)
    for _ in range(2):  # The same measures again are the same look.
        scores = score_zoo("held", open_held_out=True, replicates=20, draws=20)
    [opening] = json.loads(Path("held/openings.json").read_text())
    assert opening["version"] == geomprobe.__version__
    assert scores.openings == 1
    table = scores.tables["all"]
    # A learning rate's sign is negative: its tau is that of the negated rate.
    rows = ZooFolder(Path("held")).measures().merge(ZooFolder(Path("held")).gaps(), on="number")
    by_cell = rows.groupby([f"settings.{axis}" for axis in held_out.axes])
    cells = by_cell[["gap", "learning_rate"]].mean()
    expected = -cells["gap"].corr(cells["learning_rate"], method="kendall")
    assert table["learning_rate"].tau.value == pytest.approx(expected)
    error = score_zoo("held", target="test_error", open_held_out=True, replicates=20, draws=20)
    assert math.isnan(error.tables["all"].ceiling)
    with pytest.raises(ValueError, match="target must be one of"):
        score_zoo("held", target="loss")


def test_changed_signs_are_refused(mine, monkeypatch):
    run_zoo(mine, "mine")
    changed = {**MEASURES, "steps": MEASURES["learning_rate"]}
    monkeypatch.setattr("geomprobe.zoos.records.MEASURES", changed)
    with pytest.raises(ValueError, match="steps had another sign"):
        score_zoo("mine")


@pytest.mark.long
def test_the_smoke_zoo_from_its_file_to_its_page(tmp_path, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["geomprobe", "zoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
        return done.value.code

    grid, folder, page = GRIDS / "V.toml", tmp_path / "zoo", tmp_path / "page.md"
    assert call("show", grid, "--smoke") == 0
    assert "V-smoke: 8 models" in capsys.readouterr().out
    assert call("run", grid, "--smoke", "-o", folder) == 0
    measures = ZooFolder(folder).measures()
    assert list(measures["failed"]) == 8 * [""]
    # Digits are not shifted, layers are small, and converged models classify all alike.
    nothing = {name for name in MEASURES if measures[name].isna().all()}
    assert nothing <= {"augmentation_error", "weighted_alpha"} | {
        name for name in MEASURES if name.endswith("zero_one") or name == "alpha_req_from_one"
    }
    for name in nothing:
        assert measures[f"{name}.note"].str.len().gt(0).all()
    # For consecutive iterates of momentum the tree is the path, but for their projection.
    ratio = measures["e1_euclidean"] / measures["trajectory_length"]
    assert ratio.between(0.95, 1.05).all()
    assert call("score", folder, "--markdown", page, "--replicates", "50") == 0
    text = page.read_text()
    assert "| **ph_dimension_euclidean** | + |" in text
    assert "| *learning_rate* | - |" in text
    assert call("run", GRIDS / "T.toml", "--smoke", "-o", folder) == 2
    assert "another protocol" in capsys.readouterr().err
