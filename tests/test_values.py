from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from geomprobe.values import ByValue, same


@dataclass(frozen=True, eq=False)
class Thing(ByValue):
    content: Any
    cache: Any = field(default=None, compare=False)


@dataclass(frozen=True, eq=False)
class OtherThing(ByValue):
    content: Any


@pytest.mark.parametrize(
    "value",
    [
        0,
        "text",
        None,
        float("nan"),
        np.array([1.0, np.nan]),
        np.array([], dtype=np.int64),
        {"a": np.array([np.nan]), "b": [1, {"c": np.nan}]},
        [np.zeros(2), (1, 2)],
    ],
)
def test_a_value_is_the_same_as_its_copy(value):
    copy = value.copy() if isinstance(value, np.ndarray | dict | list) else value
    assert same(value, copy)
    assert Thing(value) == Thing(copy)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros(2, np.float32), np.zeros(2, np.float64)),
        (np.zeros((2, 1)), np.zeros((1, 2))),
        (np.zeros(1), np.zeros((1, 1))),
        (np.array([1.0]), np.array([np.nan])),
        (np.zeros(1), [0.0]),
        (np.array(["a"]), np.array(["b"])),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": 1}),
        ([1, 2], [1]),
        ("ab", "ac"),
        ("ab", ["a", "b"]),
        (float("nan"), None),
        (float("nan"), 0.0),
    ],
)
def test_different_values_are_not_the_same(a, b):
    assert not same(a, b)
    assert not same(b, a)
    assert Thing(a) != Thing(b)


def test_equality_asks_for_the_same_class():
    assert Thing(1) != OtherThing(1)
    assert Thing(1) != 1


def test_equality_passes_over_fields_that_are_not_compared():
    assert Thing(1, cache="a") == Thing(1, cache="b")


def test_a_thing_that_holds_arrays_cannot_be_hashed():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Thing(1))
