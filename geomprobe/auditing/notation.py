"""How numbers and names are written for people: in the terminal, in charts and on the page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from geomprobe.findings import Estimate

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_POSITIONAL = range(-4, 6)  # decimal exponents that are written without a power of ten
_MOST_DIGITS = 6
_LEAST_EXPONENT = -300  # of a power of ten that one can divide by
_FACTS = {
    "samples": "inputs seen",
    "points": "most points a layer",
    "pool": "pooling",
    "layers": "layers chosen",
    "n_train": "training samples",
    "seconds": "seconds taken",
}

# Control characters but tab and newline, what reorders text (Unicode Standard Annex 9), surrogates,
# and what XML 1.0 excludes.
_ILLEGIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def legible(text: str) -> str:
    """Replace the characters that a terminal, XML or a reader could be fooled by."""
    return _ILLEGIBLE.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """Return a :func:`legible` text with every run of white space as one space."""
    return " ".join(legible(text).split())


def counted(count: int, noun: str) -> str:
    """Write ``1 layer`` or ``12,000 layers``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def power_of_ten(exponent: int) -> str:
    """Write ``10⁻³``."""
    return f"10{str(exponent).translate(_SUPERSCRIPT)}"


def number(value: float, digits: int = 4) -> str:
    """Write a number with so many significant digits; whole numbers below a million in full."""
    if math.isnan(value):
        return "undefined"
    if value == 0 or math.isinf(value):
        return "0" if value == 0 else _fixed(value, 0)
    exponent = _exponent(value, digits)
    if exponent not in _POSITIONAL:
        mantissa = f"{value:.{digits - 1}e}".partition("e")[0].replace("-", "−")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        power = power_of_ten(exponent)
        return power if mantissa == "1" else f"{mantissa} × {power}"
    return _fixed(value, 0 if value == int(value) else max(digits - 1 - exponent, 0))


def value_and_error(estimate: Estimate) -> tuple[str, str]:
    """Write an estimate as its value and its error, both to the error's second digit.

    The error reads ``± 0.021``, ``exact`` or ``unknown``; a number that means nothing is
    ``undefined`` with the error ``–``. The value never shows more than six significant digits.
    """
    value, stderr = estimate.value, estimate.stderr
    if math.isnan(value):
        return "undefined", "–"
    if estimate.exact:
        return number(value), "exact"
    if math.isnan(stderr):
        return number(value), "unknown"
    if stderr == 0 or math.isinf(value) or math.isinf(stderr):
        return number(value), f"± {number(stderr, 2)}"
    shift = max(_exponent(max(abs(value), stderr), _MOST_DIGITS), _LEAST_EXPONENT)
    power = "" if shift in _POSITIONAL else f" × {power_of_ten(shift)}"
    scale = 10.0**shift if power else 1.0
    decimals = 1 - _exponent(stderr / scale, 2)
    most = _MOST_DIGITS - 1 - (0 if power else shift)
    if decimals > most:
        return f"{_fixed(value / scale, max(most, 0))}{power}", f"± {number(stderr, 2)}"
    places = max(decimals, 0)
    return f"{_fixed(value / scale, places)}{power}", f"± {_fixed(stderr / scale, places)}{power}"


def with_error(estimate: Estimate) -> str:
    """Write an estimate as its value and its error in one text."""
    return " ".join(value_and_error(estimate)).removesuffix(" –")


def spaced(name: str) -> str:
    """Write an identifier as words: ``persistent_homology`` as ``persistent homology``."""
    return name.replace("_", " ")


def fact_name(name: str) -> str:
    """Write the name of a fact of a report for a reader."""
    return _FACTS.get(name, spaced(name))


def in_words(value: Any) -> str:
    """Write any JSON value for a reader: numbers with four digits, mappings and lists in a row."""
    if value is None or isinstance(value, bool):
        return {None: "unknown", True: "yes", False: "no"}[value]
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{spaced(name)} {in_words(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value))
    return str(value)


def _exponent(value: float, digits: int) -> int:
    """Decimal exponent of a finite, non-zero value once it is rounded to so many digits."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def _fixed(value: float, decimals: int) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace("-", "−")  # no minus zero
