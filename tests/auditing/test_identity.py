"""What audits of many are known again by: what they hold, or names."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.auditing.identity import in_words

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))


def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def test_objects_are_known_again_by_their_class_and_arrays_by_what_they_hold():
    assert in_words(nn.functional.cross_entropy) == "torch.nn.functional:cross_entropy"
    assert in_words(X) == in_words(X.clone()) == in_words(X.numpy()) != in_words(X + 1)
    assert in_words(torch.tensor(1.0)) != in_words(torch.tensor(2.0, dtype=torch.bfloat16))
    assert in_words({"a": (1, None)}) == {"a": [1, None]}
    assert in_words(build()) == "torch.nn.modules.container:Sequential"
    analyzers = [gp.load_analyzer("persistent_homology", max_dim=one) for one in (0, 1)]
    assert in_words(analyzers[0], exact=True) != in_words(analyzers[1], exact=True)


class Held:
    """An object that is no dataclass."""

    def __init__(self, most):
        self.most = most


def trajectory(scale):
    return gp.Trajectory(scale * np.ones((3, 2)), np.arange(3), np.ones(3))


@pytest.mark.parametrize(
    "make",
    [
        lambda one: nn.CrossEntropyLoss(label_smoothing=0.5 if one else 0.0),
        lambda one: nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 1.0 + one])),
        lambda one: (lambda a, b: a) if one else (lambda a, b: b),
        lambda one: np.int64(5 if one else 3),
        lambda one: {"3", "5"} if one else {"3"},
        lambda one: Held(one),
        lambda one: [Held(one)],
        lambda one: nn.functional.mse_loss if one else nn.functional.cross_entropy,
        trajectory,
        lambda one: X if one else X.view(4, 60),
        lambda one: X if one else X.view(torch.int32),
        lambda one: X[::2, 0] if one else X[::2, 1],
    ],
)
def test_options_are_known_again_by_all_that_they_hold(make):
    def told(one):
        return in_words({"option": make(one)}, exact=True)

    assert told(0) == told(0) != told(1) == told(1)


def test_options_that_cannot_be_told_are_never_known_again():
    lock = {"loss": threading.Lock().acquire}
    assert in_words(lock, exact=True) != in_words(lock, exact=True)
    assert in_words(lock) == in_words(lock)
    assert in_words({1: 2}) != in_words({"1": 2})
