import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomprobe.auditing import svg

UNIT = svg.Panel(0, 0, 100, 100, svg.Scale(0, 1), svg.Scale(0, 1))


def paths(fragment, kind):
    tree = ElementTree.fromstring(f"<g>{fragment}</g>")
    return [path.get("d") for path in tree.iter("path") if path.get("class") == kind]


@settings(deadline=None)
@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12), st.integers(2, 8))
def test_linear_ticks_are_round_and_inside_the_interval(low, width, count):
    scale = svg.Scale.of([low, low + width])
    ticks = scale.ticks(count)
    values = [value for value, _ in ticks]
    assert 1 < len(ticks) <= max(count + 1, 5)
    slack = 1e-6 * (scale.high - scale.low)
    assert all(scale.low - slack <= value <= scale.high + slack for value in values)
    assert len({label for _, label in ticks}) == len(ticks)
    step = (values[-1] - values[0]) / (len(values) - 1)
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-3


@settings(deadline=None)
@given(st.floats(-12, 12), st.floats(0.01, 24))
def test_logarithmic_ticks_are_inside_the_interval(exponent, decades):
    scale = svg.Scale.of([10**exponent, 10 ** (exponent + decades)], log=True)
    ticks = scale.ticks()
    assert ticks
    assert all(scale.low * 0.999 <= value <= scale.high * 1.001 for value, _ in ticks)
    assert len({label for _, label in ticks}) == len(ticks)


def test_ticks_of_known_intervals():
    assert [label for _, label in svg.Scale(0, 1).ticks()] == [
        "0.0", "0.2", "0.4", "0.6", "0.8", "1.0",
    ]  # fmt: skip
    assert [label for _, label in svg.Scale(1, 1000, log=True).ticks()] == [
        "1", "10", "100", "1,000",
    ]  # fmt: skip
    assert [label for _, label in svg.Scale(150, 17_000, log=True).ticks()] == [
        "200", "500", "1,000", "2,000", "5,000", "10,000",
    ]  # fmt: skip
    assert [label for _, label in svg.Scale(1e-9, 1, log=True).ticks()] == [
        "10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "10⁰",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values", [[], [math.nan], [0.0, 0.0], [3.0], [1e300, 1e300], [1, 1 + 1e-15], [math.inf]]
)
@pytest.mark.parametrize("log", [False, True])
def test_a_scale_of_nothing_or_one_value_is_still_an_interval(values, log):
    scale = svg.Scale.of(values, log=log)
    assert scale.low < scale.high
    assert scale.ticks()


def test_positions_follow_the_scales():
    panel = svg.Panel(10, 20, 200, 100, svg.Scale(1, 100, log=True), svg.Scale(0, 4))
    places = panel.place([1, 10, 100, 0, -1], [0, 1, 4, 1, 1])
    np.testing.assert_allclose(places[:3], [[10, 120], [110, 95], [210, 20]])
    assert np.isnan(places[3:, 0]).all()


def test_a_curve_breaks_where_it_is_nan_and_keeps_a_lonely_point():
    x = np.linspace(0, 1, 6)
    y = np.array([0, 0.5, math.nan, 1, math.nan, 0])
    drawn = svg.line(UNIT, x, y, 0)
    assert paths(drawn, "curve") == ["M0 100L20 50"]
    assert paths(drawn, "marks") == ["M60 0h0M100 100h0"]
    assert svg.line(UNIT, x, np.full(6, math.nan), 0) == ""


def test_steps_hold_each_value_up_to_the_next_x():
    assert paths(svg.line(UNIT, [0, 0.5, 0.75, 1], [0, 0, 1, 1], 0, steps=True), "curve") == [
        "M0 100H75V0H100"
    ]


def test_a_band_runs_there_and_back_and_is_a_bar_at_a_lonely_point():
    drawn = svg.band(UNIT, [0, 1], [0, 0.2], [0.5, 1], 0)
    assert paths(drawn, "band") == ["M0 100L100 80L100 0L0 50z"]
    lonely = svg.band(UNIT, [0, 1], [0, math.nan], [1, 1], 0)
    assert paths(lonely, "band") == ["M0 100L0 0z"]
    assert svg.band(UNIT, [0, 1], [math.nan] * 2, [1, 1], 0) == ""


def test_text_is_escaped_and_the_chart_is_named_for_those_who_cannot_see_it():
    hostile = '<script>alert("1")</script>\x00&'
    drawing = svg.document(10, 10, hostile, "what it shows", svg.text(1, 2, hostile))
    tree = ElementTree.fromstring(drawing)
    space = "{http://www.w3.org/2000/svg}"
    assert tree.get("role") == "img"
    assert [child.tag.removeprefix(space) for child in tree] == ["title", "desc", "text"]
    assert tree[0].text == tree[2].text == '<script>alert("1")</script>\ufffd&'


@settings(deadline=None)
@given(st.floats(0, 999.9))
def test_lengths_have_at_most_four_significant_digits(value):
    panel = svg.Panel(0, 0, 1, 1, svg.Scale(0, 1), svg.Scale(0, 1))
    (path,) = paths(svg.points(panel, value, 0, 0), "marks")
    x = re.match(r"M(\S+) ", path)[1]
    assert len(x.replace(".", "").lstrip("0")) <= 4
    assert abs(float(x) - value) <= 0.05 + 1e-9
