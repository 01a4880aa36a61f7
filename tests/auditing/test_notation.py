import math

import pytest

from geomprobe.auditing.notation import (
    counted,
    fact_name,
    in_words,
    legible,
    number,
    one_line,
    value_and_error,
)
from geomprobe.findings import Estimate


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (3.14159, "3.142"),
        (-0.5, "−0.5000"),
        (9.99996, "10.00"),
        (21034, "21,034"),
        (12345.6, "12,346"),
        (1234567.0, "1.235 × 10⁶"),
        (1e-7, "10⁻⁷"),
        (-2.5e-5, "−2.5 × 10⁻⁵"),
        (5e-324, "4.941 × 10⁻³²⁴"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "undefined"),
    ],
)
def test_numbers_have_four_significant_digits(value, written):
    assert number(value) == written


@pytest.mark.parametrize(
    ("estimate", "written"),
    [
        (Estimate(3.14159, 0.0123), ("3.142", "± 0.012")),
        (Estimate(12345.6, 789.1), ("12,346", "± 789")),
        (Estimate(0.0, 0.013), ("0.000", "± 0.013")),
        (Estimate(0.5, 3.0), ("0.5", "± 3.0")),
        (Estimate(-0.03, 1.1), ("0.0", "± 1.1")),
        (Estimate(1.2341e-7, 2.1e-9), ("1.234 × 10⁻⁷", "± 0.021 × 10⁻⁷")),
        (Estimate(1.0, 1e-12), ("1.00000", "± 10⁻¹²")),
        (Estimate(3.14159), ("3.142", "unknown")),
        (Estimate(3.14159, math.inf), ("3.142", "± ∞")),
        (Estimate(5, exact=True), ("5", "exact")),
        (Estimate(math.inf, 1.0), ("∞", "± 1")),
        (Estimate.undefined("no bars"), ("undefined", "–")),
    ],
)
def test_a_value_is_written_to_the_second_digit_of_its_error(estimate, written):
    assert value_and_error(estimate) == written


def test_whatever_could_fool_a_reader_is_replaced():
    assert legible("a\x1b[31m\x00\u202eb\ud800") == "a\ufffd[31m\ufffd\ufffdb\ufffd"
    assert legible("слой.Ω — encoder\n\tlayer") == "слой.Ω — encoder\n\tlayer"
    assert one_line(" a\n\tb \x07") == "a b \ufffd"


def test_facts_are_written_for_a_reader_and_names_stay_as_they_are():
    assert in_words({"torch_version": "2.13", "layers": ["a_b", 12000, 0.123456]}) == (
        "torch version 2.13, layers a_b, 12,000, 0.1235"
    )
    assert [fact_name(name) for name in ("n_train", "torch_version")] == [
        "training samples",
        "torch version",
    ]
    assert [in_words(value) for value in (None, True, False)] == ["unknown", "yes", "no"]
    assert [counted(n, "layer") for n in (0, 1, 1200)] == ["0 layers", "1 layer", "1,200 layers"]
