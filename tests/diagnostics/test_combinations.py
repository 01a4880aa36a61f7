"""Combinations of measures."""

import math

import pandas as pd
import pytest

from geomprobe import Estimate
from geomprobe.diagnostics.combinations import COMBINATIONS, Combination
from geomprobe.diagnostics.measures import BASELINES, MEASURES

RATIO = Combination("ratio", 1, ("a", "b"), ("c",))


def test_a_combination_is_a_product_over_a_product():
    values = {"a": 2.0, "b": 3.0, "c": 4.0}
    assert RATIO.of({n: Estimate(v, exact=True) for n, v in values.items()}).value == 1.5
    assert RATIO.formula == "a * b / c"
    table = pd.DataFrame([values, {**values, "c": 0.0}, {**values, "b": math.nan}])
    assert RATIO.of_table(table).tolist() == pytest.approx([1.5, math.nan, math.nan], nan_ok=True)


def test_what_cannot_be_combined_is_nan_with_the_reason():
    known = {"a": Estimate(2.0, exact=True), "b": Estimate(3.0, exact=True)}
    missing = RATIO.of({**known, "c": Estimate.undefined("too few")})
    assert "c: too few" in missing.note
    infinite = {n: Estimate(math.inf, exact=True) for n in "abc"}
    assert "not a number" in RATIO.of(infinite).note
    assert "c is 0" in RATIO.of({**known, "c": Estimate(0.0, exact=True)}).note


def test_combinations_are_of_measures_and_no_baselines():
    assert len(COMBINATIONS) >= 2
    for one in COMBINATIONS:
        assert {*one.parts} <= {*MEASURES} - {other.name for other in COMBINATIONS}
        assert MEASURES[one.name].sign == one.sign
        assert one.name not in BASELINES
        assert not {*one.parts} <= {*BASELINES}
