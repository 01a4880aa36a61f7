"""The scores that geomprobe ships, from zoos whose truth is constructed."""

import json
import sys
from itertools import product

import numpy as np
import pandas as pd
import pytest

from geomprobe import load_analyzer
from geomprobe.cli import main
from geomprobe.diagnostics import ModelZoo, published, published_scores, score_of, scorecard
from geomprobe.diagnostics.measures import MEASURES
from geomprobe.diagnostics.verdicts import verdict_over_zoos
from geomprobe.exceptions import FileFormatError
from geomprobe.zoos import ZooProtocol, ZooScores, publish

AXES = {"lr": (0.1, 0.2, 0.3), "batch_size": (1, 2, 3), "width": (1, 2, 3), "depth": (1, 2)}


def zoo_scores(name, seed, held_out=True, target="gap"):
    """A zoo in which one measure follows the learning rate, one knows the gap, one is noise."""
    generator = np.random.default_rng(seed)
    rows = [*product(*(range(len(values)) for values in AXES.values()))]
    frame = pd.DataFrame(rows, columns=[*AXES])
    own, a, b, noise = generator.standard_normal((4, len(frame)))
    design = 1.0 * frame["lr"] + 0.4 * frame["width"]
    frame["gap"] = design + 0.5 * own
    frame["fisher_trace"] = design + 0.3 * a
    frame["two_nn"] = own + 0.3 * b
    frame["rank_me"] = noise
    frame["weighted_alpha"] = np.nan
    zoo = ModelZoo.from_frame(frame, axes=[*AXES])
    table = scorecard(zoo, replicates=100, draws=100)
    protocol = ZooProtocol(name, "module:build", AXES, held_out=held_out)
    return ZooScores(protocol, target, {"all": table}, pd.DataFrame(), {}, openings=1)


@pytest.fixture(scope="module")
def zoos():
    return [zoo_scores("H1", 4), zoo_scores("H2", 5), zoo_scores("T", 6, held_out=False)]


@pytest.fixture
def shipped(zoos, tmp_path, monkeypatch):
    path = publish(zoos, tmp_path / "scores.json")
    monkeypatch.setattr(published, "SCORES", path)
    return path


def test_verdicts_and_numbers_come_back_from_the_file(zoos, shipped):
    scores = published_scores()
    assert {name: score.verdict for name, score in scores.items()} == {
        "fisher_trace": "confounded",
        "two_nn": "predictive",
        "rank_me": "not predictive",
        "weighted_alpha": "under-powered",
    }
    for zoo in zoos:
        card = zoo.tables["all"]["two_nn"]
        score = scores["two_nn"].zoos[zoo.protocol.name]
        assert (score.psi, score.partial, score.tau) == (card.psi, card.partial, card.tau.value)
        assert (score.verdict, score.models) == (card.verdict, 54)
        assert score.held_out == zoo.protocol.held_out
    assert scores["rank_me"].sign == -1
    assert scores["weighted_alpha"].zoos["H1"].models == 0


def test_a_confounded_measure_is_said_to_follow_what_explains_it_best(shipped):
    score = score_of("fisher_information/trace")
    assert score == score_of("fisher_trace")
    assert score.in_words == "confounded: follows the learning rate"
    # Of the levels' variances: 2/3 against 0.16 times 2/3, and 0.09 of noise.
    assert score.zoos["H1"].share == pytest.approx(0.77, abs=0.06)
    assert score.psi_in_words.startswith("Ψ +0.")
    assert score.psi_in_words.count(" on H") == 2  # The zoo that was not held out decides nothing.
    assert str(score_of("two_nn")).startswith("predictive (Ψ +0.")


def test_the_file_is_strict_and_says_what_it_is_of(shipped):
    def refuse(constant):
        raise AssertionError(constant)

    document = json.loads(shipped.read_text(encoding="utf-8"), parse_constant=refuse)
    assert document["kind"] == "geomprobe scores"
    assert document["schema_version"] == 1
    assert document["facts"]["target"] == "gap"
    assert document["facts"]["zoos"]["H2"]["cells"] == 54
    assert document["facts"]["zoos"]["H2"]["held_out"]
    assert document["measures"]["weighted_alpha"]["zoos"]["H1"]["psi"] == [None, None, None]


def test_what_has_not_been_scored_has_no_score(shipped, monkeypatch, tmp_path):
    assert score_of("path_norm") is None
    assert score_of("no_such/number") is None
    monkeypatch.setattr(published, "SCORES", tmp_path / "none.json")
    assert published_scores() == {}
    assert score_of("two_nn") is None


def test_what_is_shipped_is_read():
    for name, score in published_scores().items():
        assert name in MEASURES
        assert score.verdict == verdict_over_zoos(
            [zoo.verdict for zoo in score.zoos.values() if zoo.held_out]
            or [zoo.verdict for zoo in score.zoos.values()]
        )


@pytest.mark.parametrize(
    ("verdicts", "overall"),
    [
        (["predictive", "predictive"], "predictive"),
        (["predictive", "predictive", "under-powered"], "predictive"),
        (["predictive", "under-powered"], "under-powered"),
        (["predictive", "not predictive"], "not predictive"),
        (["predictive", "predictive", "confounded"], "confounded"),
        (["not predictive", "confounded"], "confounded"),
        (["under-powered"], "under-powered"),
        ([], "under-powered"),
    ],
)
def test_the_verdict_over_zoos_follows_its_rule(verdicts, overall):
    assert verdict_over_zoos(verdicts) == overall
    assert verdict_over_zoos(reversed(verdicts)) == overall


@pytest.mark.parametrize("text", ["[]", '{"kind": "geomprobe scores"}', "{"])
def test_a_file_of_something_else_is_refused(tmp_path, text, monkeypatch):
    path = tmp_path / "scores.json"
    path.write_text(text)
    monkeypatch.setattr(published, "SCORES", path)
    with pytest.raises(FileFormatError, match="scores"):
        published_scores()


def test_zoos_of_one_name_or_of_two_targets_are_not_published_together(zoos, tmp_path):
    for others in ([zoos[0]], [zoo_scores("H3", 7, target="test_error")]):
        with pytest.raises(ValueError, match="of different zoos and of one target"):
            publish([zoos[0], *others], tmp_path / "scores.json")


def test_every_number_that_a_measure_names_is_one_that_an_analyzer_gives():
    named = [measure.stat for measure in MEASURES.values() if measure.stat]
    assert len(named) == len(set(named)) > 20
    for stat in named:
        analyzer, _, scalar = stat.partition("/")
        assert scalar in load_analyzer(analyzer).readings, stat


def test_the_command_line_writes_the_file(zoos, tmp_path, monkeypatch, capsys):
    of_folder = dict(zip(("one", "two"), zoos, strict=False))
    monkeypatch.setattr("geomprobe.zoos.score_zoo", lambda folder, **_: of_folder[folder.name])
    page, path = tmp_path / "page.md", tmp_path / "scores.json"
    arguments = ["zoo", "score", "one", "two", "--markdown", str(page), "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["geomprobe", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    assert capsys.readouterr().out.splitlines() == [str(path), str(page)]
    assert published.read_scores(path)["two_nn"].verdict == "predictive"
