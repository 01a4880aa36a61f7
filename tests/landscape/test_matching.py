"""Assignments against all permutations."""

from itertools import permutations

import pytest
import torch

from geomprobe.landscape import align
from tests.landscape.symmetric_networks import data, mlp, network


def test_one_set_of_units_is_matched_best_of_all():
    samples = data("mlp")
    torch.manual_seed(0)
    a, b = mlp((6, 4, 3)), mlp((6, 4, 3))
    first, last = (
        [getattr(m[k], part).detach().double() for k, part in parts]
        for m, parts in (
            (a, ((0, "weight"), (0, "bias"), (2, "weight"))),
            (b, ((0, "weight"), (0, "bias"), (2, "weight"))),
        )
    )
    rest = float((a[2].bias - b[2].bias).detach().double().square().sum())
    least = min(
        sum(
            float((x - y).square().sum())
            for x, y in zip(
                first, (last[0][list(p)], last[1][list(p)], last[2][:, list(p)]), strict=True
            )
        )
        for p in permutations(range(4))
    )
    found = align(a, b, samples, restarts=1)
    assert found.distance_after == pytest.approx((least + rest) ** 0.5)
    assert found.distance_after < found.distance_before
    order = found.permutations["0.weight[0]"]
    torch.testing.assert_close(found.model[0].weight, b[0].weight[order.tolist()])


def test_more_runs_never_bring_networks_farther_apart():
    a, b, samples = network("resnet"), network("resnet", seed=1), data("resnet")
    one, many = (align(a, b, samples, restarts=k) for k in (1, 5))
    assert many.distance_after <= one.distance_after < one.distance_before
