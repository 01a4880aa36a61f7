"""Combinations of diagnostics: what they predict, and how often their intervals hold."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from geomprobe.diagnostics import ModelZoo, calibrate, kendall


def frame(seed, noise=0.3, sizes=(3, 3, 3, 2)):
    generator = np.random.default_rng(seed)
    table = pd.DataFrame([*product(*map(range, sizes))], columns=["lr", "batch", "width", "depth"])
    one, other, rest = generator.standard_normal((3, len(table)))
    table["one"], table["other"] = np.exp(one), other
    table["gap"] = one - other + noise * rest
    return table


def zoo(table):
    return ModelZoo.from_frame(table, axes=["lr", "batch", "width", "depth"])


def test_two_halves_of_a_signal_are_put_together():
    found = calibrate(zoo(frame(0)))
    assert found.coefficients[0] > 0.4
    assert found.coefficients[1] < -0.4
    new = frame(1)
    predicted = found.predict({name: new[name].to_numpy() for name in found.diagnostics})
    alone = kendall(new["one"].to_numpy(), new["gap"].to_numpy())
    together = kendall(predicted.rank, new["gap"].to_numpy())
    assert together > alone + 0.2
    assert found.tau == pytest.approx(together, abs=0.15)


def test_intervals_hold_as_often_as_they_say():
    """90 % of new models of the same family; binomial error over 30 zoos of 54 is below 1 %."""
    held = []
    for seed in range(30):
        found = calibrate(zoo(frame(seed)))
        new = frame(1000 + seed)
        truth = np.searchsorted(np.sort(frame(seed)["gap"]), new["gap"]) / 54
        predicted = found.predict({name: new[name].to_numpy() for name in found.diagnostics})
        held.append(np.mean((predicted.low <= truth) & (truth <= predicted.high)))
    assert np.mean(held) == pytest.approx(0.9, abs=0.05)


def test_intervals_hold_for_single_models_of_a_zoo_with_seeds():
    held = []
    for seed in range(10):
        many = pd.concat([frame(10 * seed + one, noise=1.5) for one in range(4)])
        found, new = calibrate(zoo(many)), frame(5000 + seed, noise=1.5)
        cells = np.sort(zoo(many).cells.gap)
        truth = np.searchsorted(cells, new["gap"]) / len(cells)
        predicted = found.predict({name: new[name].to_numpy() for name in found.diagnostics})
        held.append(np.mean((predicted.low <= truth) & (truth <= predicted.high)))
    assert np.mean(held) > 0.8


def test_a_level_that_so_few_models_cannot_give_is_the_whole_range():
    found = calibrate(zoo(frame(0)), level=0.999)
    assert found.half_width == 1.0


def test_noise_predicts_nothing_and_its_interval_says_so():
    table = frame(0)
    table["gap"] = np.random.default_rng(5).standard_normal(len(table))
    found = calibrate(zoo(table))
    assert abs(found.tau) < 0.3
    assert found.half_width > 0.4


def test_missing_numbers_are_middle_ranks():
    table = frame(0)
    table.loc[::7, "one"] = np.nan
    found = calibrate(zoo(table))
    middle = found.predict({"one": np.nan, "other": np.median(table["other"])})
    assert middle.rank == pytest.approx(0.5, abs=0.1)


def test_bad_input():
    with pytest.raises(ValueError, match="no diagnostic named"):
        calibrate(zoo(frame(0)), diagnostics=["onne"])
    with pytest.raises(ValueError, match="16 cells are too few"):
        calibrate(zoo(frame(0, sizes=(2, 2, 2, 2))))
    with pytest.raises(ValueError, match="level"):
        calibrate(zoo(frame(0)), level=90)
    with pytest.raises(ValueError, match=r"also asks for \['other'\]"):
        calibrate(zoo(frame(0))).predict({"one": np.zeros(2)})
