import math

import pytest

from geomprobe import Estimate
from geomprobe.auditing.conditions import Condition
from geomprobe.exceptions import LayerSelectionError

METRICS = {
    "geom/fisher/model/trace": Estimate(3.0, 0.5),
    "geom/ph/a#1/longest": Estimate(2.0, exact=True),
    "geom/ph/b/longest": Estimate.undefined("no loops"),
}


@pytest.mark.parametrize(
    ("text", "violated"),
    [
        ("geom/fisher/model/trace > 2.9", ["fisher"]),
        ("geom/fisher/model/trace > 3", []),
        ("geom/fisher/model/trace>=3", ["fisher"]),
        ("geom/fisher/model/trace < 1e1", ["fisher"]),
        ("geom/fisher/model/trace <= -inf", []),
        ("geom/ph/a#1/longest < 2", []),
        ("geom/ph/* > 5", ["b"]),  # What is undefined cannot be judged.
        ("re:trace$|a#1 > 0", ["fisher", "a#1"]),
    ],
)
def test_the_numbers_of_which_a_condition_holds(text, violated):
    said = Condition.parse(text).violations(METRICS)
    assert [line.split("/")[1 if "fisher" in line else 2] for line in said] == violated


def test_the_line_tells_the_number_and_the_bound():
    (line,) = Condition.parse("geom/fisher/model/trace > 2").violations(METRICS)
    assert line == "geom/fisher/model/trace is 3 ± 0.5, and must not be > 2"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "trace > 2",
        "geom/a/b/c = 2",
        "geom/a/b/c > two",
        "geom/a",
        "geom/a/b/c > nan",
        "geom/a/b/c >> 2",
    ],
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ValueError, match="a condition must read like"):
        Condition.parse(text)


def test_a_pattern_without_a_number_is_an_error_with_near_names():
    with pytest.raises(LayerSelectionError, match="Near names: geom/fisher/model/trace"):
        Condition("geom/fisher/model/trac", ">", math.inf).violations(METRICS)
