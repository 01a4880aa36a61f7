"""RTD, against the published number, an explicit mapping cone, and what must be 0."""

from itertools import combinations

import numpy as np
import pytest

from geomprobe.topology import divergence
from geomprobe.topology.divergence import cross_barcode, rtd
from geomprobe.topology.metrics import euclidean_distances


def bars_of_the_cone(w, v):
    """H1 of the mapping cone of Rips(w) in Rips(min(w, v)), by reduction over Z/2.

    Barannikov et al. (2022): the R-cross-barcode is that of this cone. Its chains are those of the
    larger complex, and a cone over every simplex of the smaller.
    """
    n, smaller = len(w), np.minimum(w, v)

    def scale(simplex, distances):
        return max((distances[i, j] for i, j in combinations(simplex, 2)), default=0.0)

    chains = {}
    for size in (1, 2, 3):
        for simplex in combinations(range(n), size):
            faces = combinations(simplex, size - 1) if size > 1 else ()
            chains[simplex] = (scale(simplex, smaller), size - 1, set(faces))
            if size < 3:
                over = {("cone", *face) for face in combinations(simplex, size - 1)}
                boundary = {simplex} | (over if size > 1 else {("cone",)})
                chains[("cone", *simplex)] = (scale(simplex, w), size, boundary)
    chains[("cone",)] = (0.0, 0, set())
    order = sorted(chains, key=lambda chain: chains[chain][:2])
    place = {chain: i for i, chain in enumerate(order)}
    low, bars = {}, []
    for chain in order:
        scale_, _, boundary = chains[chain]
        column = {place[face] for face in boundary}
        while column and max(column) in low:
            column ^= low[max(column)]
        if column:
            low[max(column)] = column
            birth, born_dim, _ = chains[order[max(column)]]
            if born_dim == 1 and scale_ > birth:
                bars.append((birth, scale_))
    return np.array(sorted(bars)).reshape(-1, 2)


def clouds(n, seed, d=2):
    return np.random.default_rng(seed).normal(size=(2, n, d))


@pytest.mark.parametrize("seed", range(8))
def test_the_bars_are_those_of_the_mapping_cone(seed):
    X, Y = clouds(9, seed)
    w, v = (d / np.quantile(d, 0.9) for d in map(euclidean_distances, (X, Y)))
    for first, second, expected in ((X, Y, bars_of_the_cone(w, v)), (Y, X, bars_of_the_cone(v, w))):
        found = cross_barcode(first, second)[1]
        assert len(expected) > 0
        assert np.allclose(found[np.lexsort(found.T[::-1])], expected, atol=1e-6)


def test_three_points_by_hand():
    # By w on a line at 0, 1, 4 and by v at 0, 3, 4: either joins all at 3, and the smaller at 1.
    w = np.array([[0, 1, 4], [1, 0, 3], [4, 3, 0]], float)
    v = np.array([[0, 3, 4], [3, 0, 1], [4, 1, 0]], float)
    unit = np.quantile(w, 0.9)
    assert unit == np.quantile(v, 0.9)
    expected = np.array([[1, 3]]) / unit
    options = {"metric": "precomputed"}
    assert np.allclose(cross_barcode(w, v, **options)[1], expected)
    estimate = rtd(w, v, **options)
    assert estimate.value == pytest.approx(2 / unit)
    assert estimate.exact


@pytest.mark.long
def test_the_published_code_gives_this_number():
    # The readme of the paper's code, github.com/IlyaTrofimov/RTD, prints rtd.rtd(P, Q).
    pytest.importorskip("redzed_tda", reason="other engines take a minute and more")
    stream = np.random.RandomState(7)
    P, Q = stream.rand(1000, 2), stream.rand(1000, 2)
    values = []
    for _ in range(10):
        rows = list(range(1000))
        stream.shuffle(rows)
        values.append(rtd(P[rows[:500]], Q[rows[:500]]).value)
    assert np.mean(values) == pytest.approx(35.55234398557805, rel=1e-6)


def test_clouds_that_agree_up_to_a_similarity_have_none():
    X, _ = clouds(40, 0, d=3)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    assert rtd(X, X).value == 0
    assert rtd(X, 5 * X @ rotation + 7).value == pytest.approx(0, abs=1e-5)


def test_it_is_symmetric_and_needs_no_common_dimension():
    X, Y = (
        np.random.default_rng(2).normal(size=(30, 5)),
        np.random.default_rng(3).normal(size=(30, 2)),
    )
    assert rtd(X, Y).value == rtd(Y, X).value > 0
    as_distances = rtd(euclidean_distances(X), euclidean_distances(Y), metric="precomputed")
    assert as_distances.value == pytest.approx(rtd(X, Y).value)


def test_clusters_split_further_and_further_diverge_more_and_more():
    # The first experiment of the paper: one cloud against the same in k clusters on a circle.
    rng = np.random.default_rng(4)
    base = rng.normal(size=(120, 2))
    values = []
    for k in (1, 2, 3, 6, 12):
        angles = 2 * np.pi * (np.arange(120) % k) / k
        centres = 10 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        values.append(rtd(base, base + centres * (k > 1)).value)
    assert values == sorted(values)
    assert values[0] == 0


def test_subsets_estimate_what_their_size_gives():
    X, Y = clouds(80, 5)
    estimate = rtd(X, Y, max_points=40, trials=6, seed=1)
    rng = np.random.default_rng(1)
    values = []
    for _ in range(6):
        rows = rng.choice(80, 40, replace=False)
        values.append(rtd(X[rows], Y[rows]).value)
    assert estimate.value == pytest.approx(np.mean(values))
    assert estimate.stderr == pytest.approx(np.std(values, ddof=1) / 6**0.5)
    assert not estimate.exact
    assert estimate.n == 40
    same = rtd(
        *map(euclidean_distances, (X, Y)), metric="precomputed", max_points=40, trials=6, seed=1
    )
    assert same.value == pytest.approx(estimate.value)


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupt_returns_what_is_done(monkeypatch, after):
    X, Y = clouds(30, 6)
    whole, calls = divergence._divergence, []

    def interrupted(*arguments):
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(whole(*arguments))
        return calls[-1]

    monkeypatch.setattr(divergence, "_divergence", interrupted)
    if after < 2:
        with pytest.raises(KeyboardInterrupt):
            rtd(X, Y, max_points=10)
    else:
        estimate = rtd(X, Y, max_points=10)
        assert estimate.value == pytest.approx(np.mean(calls))
        assert estimate.note == "interrupted after 3 of 10 subsets"


def test_bad_input_is_refused():
    X, Y = clouds(12, 7)
    with pytest.raises(ValueError, match="the same order, got 12 and 11"):
        rtd(X, Y[:11])
    with pytest.raises(ValueError, match="the same order, got 12 and 11"):
        cross_barcode(X, Y[:11])
    with pytest.raises(ValueError, match="max_points must be at least 3"):
        rtd(X, Y, max_points=2)
    with pytest.raises(ValueError, match="trials must be at least 2"):
        rtd(X, Y, trials=1)
    nearly_one = np.zeros((30, 1))
    nearly_one[0] = 1
    with pytest.raises(ValueError, match="90% of the distances of Y are 0"):
        rtd(np.arange(30.0)[:, None], nearly_one)
    apart = euclidean_distances(X)
    apart[0, 1] = apart[1, 0] = np.inf
    with pytest.raises(ValueError, match="finite distance for every pair"):
        rtd(apart, apart, metric="precomputed")
    with pytest.raises(ValueError, match="NaN or infinity"):
        rtd(np.full_like(X, np.nan), Y)
