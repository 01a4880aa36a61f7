"""Critical points of the distance to matrices of bounded rank, counted by enumeration."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from geomprobe.algebraic import (
    determinantal_ed_degree,
    eckart_young_critical_points,
    gaussian_binomial,
)

# (m, n, r) and the histogram of the Morse indices.
CASES = {
    (4, 4, 2): [1, 1, 2, 1, 1],
    (4, 6, 2): [1, 1, 2, 1, 1],
    (5, 5, 2): [1, 1, 2, 2, 2, 1, 1],
    (5, 5, 3): [1, 1, 2, 2, 2, 1, 1],
    (3, 5, 1): [1, 1, 1],
}


@pytest.mark.parametrize(("case", "histogram"), CASES.items())
def test_index_histograms(case, histogram):
    m, n, r = case
    found = eckart_young_critical_points(np.random.default_rng(0).normal(size=(m, n)), r)
    assert found.histogram().tolist() == histogram == gaussian_binomial(min(m, n), r).tolist()
    assert len(found.points) == comb(min(m, n), r) == determinantal_ed_degree(m, n, r)
    assert (np.linalg.matrix_rank(found.points) == r).all()
    assert (found.indices[0], found.histogram()[0]) == (0, 1)


def tangent_hessian(matrix, point, rank):
    """Slope and Hessian of half the squared distance, in a chart of the matrices of that rank."""
    u, s, v = np.linalg.svd(point)
    m, n = matrix.shape
    size = rank * (m + n - rank)

    def chart(t):
        core, left, right = np.split(t, [rank**2, rank**2 + (m - rank) * rank])
        middle = np.diag(s[:rank]) + core.reshape(rank, rank)
        below = np.concatenate([np.eye(rank), left.reshape(m - rank, rank)])
        beside = np.concatenate([np.eye(rank), right.reshape(n - rank, rank)])
        return u @ below @ middle @ beside.T @ v

    def value(t):
        return 0.5 * np.square(chart(t) - matrix).sum()

    h, eye = 1e-3, np.eye(size)
    slope = [(value(h * e) - value(-h * e)) / (2 * h) for e in eye]
    hessian = [
        [
            (value(h * (a + b)) - value(h * (a - b)) - value(h * (b - a)) + value(-h * (a + b)))
            / (4 * h * h)
            for a in eye
        ]
        for b in eye
    ]
    return np.array(slope), np.array(hessian)


@pytest.mark.parametrize(("m", "n", "r"), [(3, 3, 1), (3, 4, 2), (4, 3, 2)])
def test_they_are_critical_and_have_these_indices(m, n, r):
    matrix = np.random.default_rng(1).normal(size=(m, n))
    found = eckart_young_critical_points(matrix, r)
    for point, index, distance in zip(found.points, found.indices, found.distances, strict=True):
        slope, hessian = tangent_hessian(matrix, point, r)
        assert np.abs(slope).max() < 1e-4
        assert (np.linalg.eigvalsh(hessian) < 0).sum() == index
        assert distance == pytest.approx(np.linalg.norm(matrix - point))


def test_there_are_no_others():
    # Newton's method for a slope of zero in u and v, of the matrices u v', from random points.
    matrix = np.random.default_rng(2).normal(size=(3, 3))
    found = eckart_young_critical_points(matrix, 1)
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(40):
        u, v = rng.normal(size=(2, 3))
        x = np.concatenate([u, v])
        for _ in range(40):
            u, v = x[:3], x[3:]
            residual = np.outer(u, v) - matrix
            slope = np.concatenate([residual @ v, residual.T @ u])
            corner = residual + np.outer(u, v)
            jacobian = np.block([[v @ v * np.eye(3), corner], [corner.T, u @ u * np.eye(3)]])
            x = x - np.linalg.pinv(jacobian, rcond=1e-9) @ slope
        if np.linalg.norm(slope) < 1e-10 and np.linalg.norm(u) * np.linalg.norm(v) > 1e-6:
            distances = np.linalg.norm(found.points - np.outer(u, v), axis=(1, 2))
            assert distances.min() < 1e-6
            seen.add(int(distances.argmin()))
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("m", range(7))
def test_gaussian_binomials_count_inversions(m):
    for r in range(m + 1):
        counts = np.zeros(r * (m - r) + 1, int)
        for subset in combinations(range(m), r):
            others = set(range(m)) - set(subset)
            counts[sum(other < kept for kept in subset for other in others)] += 1
        assert gaussian_binomial(m, r).tolist() == counts.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eckart_young_critical_points(np.eye(3), 1), "singular values coincide"),
        (lambda: eckart_young_critical_points(np.diag([2.0, 1, 0]), 1), "or vanish"),
        (lambda: eckart_young_critical_points(np.ones(3), 1), r"got \(3,\)"),
        (lambda: eckart_young_critical_points(np.full((2, 2), np.nan), 1), "finite numbers"),
        (lambda: determinantal_ed_degree(3, 4, 4), "rank must be from 1 to 3"),
        (lambda: determinantal_ed_degree(3, 4, 0), "got 0"),
        (lambda: gaussian_binomial(2, 3), "r must be from 0 to m, got m=2 and r=3"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_too_many_points_are_refused_before_they_are_made():
    with pytest.raises(MemoryError, match="matrices of shape"):
        eckart_young_critical_points(np.random.default_rng(0).normal(size=(40, 40)), 20)
