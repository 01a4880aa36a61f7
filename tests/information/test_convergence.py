"""Growth with the number of inputs, where the limit is known in closed form."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe import Samples
from geomprobe.information import (
    FisherGram,
    Gaussian,
    dimension_by_inputs,
    effective_dimension,
    fisher_gram,
)

D, N_DATA = 12, 10_000
# Of inputs from N(0, I), the Fisher information of a linear model is I.
TRUTH = effective_dimension(np.ones(D), N_DATA, n_parameters=D)


def linear(n, seed):
    x = torch.randn(n, D, generator=torch.Generator().manual_seed(seed)).double()
    return fisher_gram(nn.Linear(D, 1, bias=False).double(), Samples(x), likelihood=Gaussian())


@pytest.mark.parametrize("n", [128, 256, 512])
def test_the_limit_of_a_linear_model_is_within_its_error(n):
    limits = [dimension_by_inputs(linear(n, seed), N_DATA).limit for seed in range(25)]
    within = [abs(limit.value - TRUTH) / limit.stderr for limit in limits]
    assert np.mean(np.array(within) < 2) > 0.85
    assert np.median([limit.stderr for limit in limits]) < 0.03 * TRUTH
    # Nearer to the truth than what all inputs give.
    bare = np.mean([linear(n, seed).effective_dimension(N_DATA) for seed in range(25)])
    assert abs(np.mean([limit.value for limit in limits]) - TRUTH) < 0.5 * abs(bare - TRUTH)


def test_the_points_are_means_over_disjoint_parts():
    gram = linear(64, 0)
    found = dimension_by_inputs(gram, 500, 0.5, seed=3)
    assert found.inputs.tolist() == [4, 8, 16, 32, 64]
    order = np.random.default_rng(3).permutation(64)
    halves = [gram.subset(part).effective_dimension(500, 0.5) for part in (order[:32], order[32:])]
    assert found.dimensions[3] == pytest.approx(np.mean(halves))
    assert found.stderrs[3] == pytest.approx(abs(halves[0] - halves[1]) / 2)
    assert found.dimensions[4] == gram.effective_dimension(500, 0.5)
    assert math.isnan(found.stderrs[4])


def test_growth_without_end_has_no_limit():
    # Every input brings a direction of its own: the dimension is proportional to their number.
    gram = FisherGram(np.eye(64) / 64, 64, 10**6, "true", "by hand", 1)
    limit = dimension_by_inputs(gram, N_DATA).limit
    assert math.isnan(limit.value)
    assert "no end" in limit.note


def test_what_falls_and_rises_has_no_limit():
    gram = FisherGram(np.ones((64, 64)) / 64, 64, 3, "true", "by hand", 1)
    limit = dimension_by_inputs(gram, N_DATA).limit
    assert "one way" in limit.note


def test_a_fisher_information_of_zero_has_no_limit():
    gram = FisherGram(np.zeros((64, 64)), 64, 3, "true", "by hand", 1)
    assert "is zero" in dimension_by_inputs(gram, N_DATA).limit.note


def test_too_few_inputs_are_refused():
    with pytest.raises(ValueError, match="32 inputs or more, got 31 inputs"):
        dimension_by_inputs(linear(31, 0), N_DATA)


def test_the_growth_is_drawn():
    pytest.importorskip("matplotlib").use("Agg")
    assert dimension_by_inputs(linear(64, 0), N_DATA).plot().get_xlabel() == "inputs"
