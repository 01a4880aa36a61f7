"""Cards on tables whose truth is constructed."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest

from geomprobe.diagnostics import ModelZoo, psi_difference, scorecard

FAST = dict(replicates=100, draws=200)


def table(seed=4, seeds=1, sizes=(3, 3, 3, 2, 2)):
    """A gap that grows with the learning rate, and has a part of its own; six diagnostics."""
    generator = np.random.default_rng(seed)
    names = ["lr", "batch", "width", "depth", "wd"]
    rows = [levels for levels in product(*map(range, sizes)) for _ in range(seeds)]
    frame = pd.DataFrame(rows, columns=names)
    own = generator.standard_normal(len(frame))
    design = frame["lr"] + 0.5 * frame["width"]
    frame["gap"] = design + 0.5 * own
    frame["proxy"] = design + 0.3 * generator.standard_normal(len(frame))
    frame["signal"] = own + 0.3 * generator.standard_normal(len(frame))
    frame["both"] = frame["gap"] + 0.2 * generator.standard_normal(len(frame))
    frame["reversed"] = -frame["both"]
    frame["noise"] = generator.standard_normal(len(frame))
    frame["learning_rate"] = frame["lr"].astype(float)
    return frame, names


@pytest.fixture(scope="module")
def cards():
    frame, names = table()
    zoo = ModelZoo.from_frame(frame, axes=names)
    return scorecard(zoo, baselines=["learning_rate"], **FAST)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("both", "predictive"),
        ("signal", "predictive"),
        ("proxy", "confounded"),
        ("learning_rate", "confounded"),
        ("reversed", "not predictive"),
        ("noise", "not predictive"),
    ],
)
def test_verdicts_where_the_truth_is_known(cards, name, verdict):
    assert cards[name].verdict == verdict, cards[name].reason
    assert cards[name].reason


def test_a_proxy_deceives_the_rank_scores_and_not_the_partial_one(cards):
    """A pure proxy of the design scores high in tau and psi; only control rules it out."""
    assert cards["proxy"].tau.value > 0.5
    assert cards["proxy"].psi.value > cards["learning_rate"].psi.value
    assert cards["proxy"].partial.covers(0)
    assert cards["signal"].partial.value > 0.6
    assert cards["signal"].adjusted_p < 0.05 < cards["noise"].adjusted_p


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg(cards):
    """p_(i) m/i, made monotone from the largest down; diagnostics without a p are left out."""
    known = {name: card.p for name, card in cards.items() if not math.isnan(card.p)}
    ordered = sorted(known, key=known.__getitem__)
    least = 1.0
    for rank, name in reversed([*enumerate(ordered, start=1)]):
        least = min(least, known[name] * len(known) / rank)
        assert cards[name].adjusted_p == pytest.approx(least)
    assert math.isnan(cards["learning_rate"].adjusted_p)


def test_what_to_read_the_cards_beside(cards):
    assert cards.oracles[0.01] > cards.oracles[0.05] > 0.7
    for name in ("psi", "partial"):
        low, high = cards.chance[name]
        assert low < 0 < high < 0.5
    assert 0 <= cards.chance["information"][0] < cards.chance["information"][1] < 0.2
    assert math.isnan(cards.ceiling)
    frame = cards.to_frame()
    assert frame.index[0] == "both"
    assert {"psi_lr", "partial_low", "verdict", "adjusted_p", "reliability"} <= {*frame.columns}


def test_the_picture_has_a_row_a_diagnostic_best_first(cards):
    labels = [text.get_text().split("\n") for text in cards.plot().get_yticklabels()]
    assert [name for name, _ in labels][:1] == ["both"]
    assert {tuple(label) for label in labels} == {(c.name, c.verdict) for c in cards.values()}


def test_a_small_zoo_cannot_tell():
    frame, names = table(sizes=(2, 2, 2, 2, 1))
    found = scorecard(ModelZoo.from_frame(frame, axes=names[:4], diagnostics=["noise"]), **FAST)
    assert found["noise"].verdict == "under-powered"


def test_numbers_that_are_missing():
    frame, names = table()
    frame.loc[:9, "signal"] = np.nan
    frame.loc[5:, "noise"] = np.nan
    zoo = ModelZoo.from_frame(frame, axes=names, diagnostics=["signal", "noise"])
    found = scorecard(zoo, **FAST)
    assert found["signal"].failed == pytest.approx(10 / 108)
    assert found["signal"].verdict == "predictive"
    assert found["noise"].verdict == "under-powered"
    assert "5 of 108 cells have a number, and a score takes 8" in found["noise"].reason


def test_seeds_are_averaged_in_their_cells_and_judged_within_them():
    frame, names = table(seeds=2)
    zoo = ModelZoo.from_frame(frame, axes=names, diagnostics=["proxy", "signal"])
    assert (len(zoo), zoo.n_cells, len(zoo.cells)) == (216, 108, 108)
    means = frame.groupby(names)["signal"].mean().to_numpy()
    np.testing.assert_allclose(zoo.cells.diagnostics["signal"], means)
    found = scorecard(zoo, **FAST)
    assert found["signal"].within_cells_p < 0.01 < found["proxy"].within_cells_p
    assert found["proxy"].reliability > 0.8 > found["signal"].reliability


def test_the_ceiling_is_what_the_gap_scores_for_itself():
    frame, names = table()
    generator = np.random.default_rng(0)
    for half in ("gap_a", "gap_b"):
        frame[half] = frame["gap"] + 0.3 * generator.standard_normal(len(frame))
    zoo = ModelZoo.from_frame(frame, axes=names, halves=("gap_a", "gap_b"), diagnostics=["both"])
    found = scorecard(zoo, **FAST)
    assert 0.4 < found.ceiling < found["both"].psi.value


def test_the_order_of_the_rows_does_not_matter(cards):
    frame, names = table()
    mixed = frame.sample(frac=1, random_state=0)
    found = scorecard(ModelZoo.from_frame(mixed, axes=names, diagnostics=["both"]), **FAST)
    for score in ("tau", "psi", "information", "partial", "sign_error"):
        assert getattr(found["both"], score) == getattr(cards["both"], score)


def test_a_verdict_without_or_with_a_bad_baseline():
    """It knows the gap's own part and runs against the design, so psi is not above 0."""
    frame, names = table()
    own, design = frame["signal"], 0.8 * frame[names].sum(axis=1)
    frame["gap"], frame["against"] = own + design, own - design
    frame["bad"] = -frame["gap"]
    zoo = ModelZoo.from_frame(frame, axes=names, diagnostics=["against", "bad"])
    for baselines in ([], ["bad"]):
        card = scorecard(zoo, baselines=baselines, **FAST)["against"]
        assert card.partial.low > 0 > card.psi.low
        assert card.verdict == "not predictive"


def test_that_one_beats_another_is_paired():
    frame, names = table()
    frame["better"] = frame["gap"] + 0.1 * np.random.default_rng(1).standard_normal(len(frame))
    zoo = ModelZoo.from_frame(frame, axes=names)
    assert psi_difference(zoo, "better", "noise", replicates=200).low > 0
    itself = psi_difference(zoo, "both", "both", replicates=50)
    assert (itself.value, itself.low, itself.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="no diagnostic named 'beter'"):
        psi_difference(zoo, "beter", "both")


@pytest.mark.long
def test_intervals_cover_the_truth():
    """95 % intervals of a difference over 60 zoos cover its mean over 400; binomial error 2.8 %."""

    def difference(seed, replicates):
        frame, names = table(seed)
        zoo = ModelZoo.from_frame(frame, axes=names)
        return psi_difference(zoo, "both", "signal", replicates=replicates)

    truth = np.mean([difference(1000 + seed, 1).value for seed in range(400)])
    covered = np.mean([difference(seed, 200).covers(truth) for seed in range(60)])
    assert covered > 0.84


def test_same_seed_same_cards_and_no_card_depends_on_the_others(cards):
    frame, names = table()
    alone = scorecard(ModelZoo.from_frame(frame, axes=names, diagnostics=["signal"]), **FAST)
    for score in ("tau", "psi", "information", "partial", "sign_error", "p"):
        assert getattr(alone["signal"], score) == getattr(cards["signal"], score)


def test_an_interrupt_returns_the_cards_that_are_done(monkeypatch):
    import importlib

    module = importlib.import_module("geomprobe.diagnostics.scorecard")
    real, seen = module._card, []

    def interrupted(zoo, name, *rest):
        if seen:
            raise KeyboardInterrupt
        seen.append(name)
        return real(zoo, name, *rest)

    monkeypatch.setattr(module, "_card", interrupted)
    frame, names = table()
    found = scorecard(ModelZoo.from_frame(frame, axes=names), replicates=10, draws=10)
    assert [*found] == seen


def test_bad_input():
    frame, names = table()
    with pytest.raises(ValueError, match=r"no column \['lrr'\]"):
        ModelZoo.from_frame(frame, axes=["lrr"])
    with pytest.raises(ValueError, match="'one' has one value only"):
        ModelZoo.from_frame(frame.assign(one=1), axes=[*names, "one"])
    with pytest.raises(ValueError, match="2 of 108 gaps are not finite"):
        frame.loc[:1, "gap"] = np.nan
        ModelZoo.from_frame(frame, axes=names)
    with pytest.raises(ValueError, match="3 cells cannot be ranked"):
        ModelZoo.from_frame(table()[0], axes=["lr"])
    zoo = ModelZoo.from_frame(table()[0], axes=names)
    with pytest.raises(ValueError, match=r"no diagnostic named \['sharpness'\]"):
        scorecard(zoo, baselines=["sharpness"])
    with pytest.raises(ValueError, match="no diagnostics to score"):
        scorecard(ModelZoo.from_frame(table()[0], axes=names, diagnostics=[]))


def test_a_part_of_a_zoo_loses_the_axes_that_do_not_vary_in_it():
    frame, names = table()
    zoo = ModelZoo.from_frame(frame, axes=names)
    part = zoo.where(zoo.levels[:, 0] == 1)
    assert part.axes == ("batch", "width", "depth", "wd")
    assert len(part) == 36


def test_each_shows_itself_in_a_line(cards):
    frame, names = table()
    zoo = ModelZoo.from_frame(frame, axes=names)
    models = "ModelZoo(108 models in 108 cells of lr, batch, width, depth, wd; 6 diagnostics)"
    assert repr(zoo) == models
    card = cards["signal"]
    assert repr(card) == f"ScoreCard('signal': predictive, psi {card.psi}, partial {card.partial})"
    assert repr(cards).startswith("ScoreTable(108 models in 108 cells; ")
    assert "noise not predictive" in repr(cards)
