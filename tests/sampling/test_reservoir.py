import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from geomprobe.sampling.reservoir import BottomK, Reservoir, _mix, priorities


def test_priorities_are_splitmix64():
    # First outputs of SplitMix64 from state 0: Vigna's reference implementation.
    state = np.array([0, 0x9E3779B97F4A7C15], np.uint64)
    assert _mix(state).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_different_ids_never_tie():
    keys = priorities(np.arange(100_000), seed=3)
    assert len(np.unique(keys)) == 100_000


def test_each_item_is_equally_likely():
    # Chi-squared test of inclusion counts against k/n, over seeds; p > 1e-4 holds for this range.
    n, k, trials = 40, 10, 2000
    counts = np.zeros(n)
    for seed in range(trials):
        choice = BottomK(k, seed)
        for start in range(0, n, 7):
            choice.offer(np.arange(start, min(start + 7, n)))
        counts[choice.ids] += 1
    expected = trials * k / n
    # Counts of one draw are negatively correlated: the statistic scales by (n-1)/(n-k)*n/(n-1).
    statistic = ((counts - expected) ** 2 / (expected * (1 - k / n))).sum() * (n - 1) / n
    assert stats.chi2.sf(statistic, n - 1) > 1e-4


def test_pairs_are_equally_likely():
    n, k, trials = 8, 3, 4000
    pairs = np.zeros((n, n))
    for seed in range(trials):
        choice = BottomK(k, seed)
        choice.offer(np.arange(n))
        pairs[np.ix_(choice.ids, choice.ids)] += 1
    together = pairs[np.triu_indices(n, 1)]
    expected = trials * k * (k - 1) / (n * (n - 1))
    assert np.abs(together - expected).max() < 5 * np.sqrt(expected)


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 20), st.integers(0, 2**64 - 1))
def test_the_choice_does_not_depend_on_batching_or_order(sizes, capacity, seed):
    ids = np.arange(sum(sizes))
    whole = BottomK(capacity, seed)
    whole.offer(ids)
    pieces = BottomK(capacity, seed)
    shuffled = np.random.default_rng(0).permutation(ids)
    for piece in np.split(shuffled, np.cumsum(sizes)[:-1]) if sizes else []:
        pieces.offer(piece)
    assert set(whole.ids) == set(pieces.ids)
    assert len(whole) == min(capacity, len(ids))
    assert whole.seen == pieces.seen == len(ids)


@given(st.integers(1, 12), st.lists(st.integers(1, 9), min_size=1, max_size=10))
def test_rows_stay_with_their_ids_and_labels(capacity, sizes):
    reservoir = Reservoir(capacity, seed=1)
    start = 0
    for size in sizes:
        ids = np.arange(start, start + size)
        rows = torch.from_numpy(np.stack([ids, 10.0 * ids], axis=1))
        reservoir.add(rows, ids, labels=ids % 3)
        start += size
    points, ids, labels = reservoir.contents()
    assert np.array_equal(points, np.stack([ids, 10 * ids], axis=1))
    assert points.dtype == np.float32
    assert np.array_equal(labels, ids % 3)
    assert np.all(np.diff(ids) > 0)


def test_kept_rows_are_copies():
    rows = torch.ones(4, 2)
    reservoir = Reservoir(4)
    reservoir.add(rows, np.arange(4))
    rows.zero_()
    assert reservoir.contents()[0].sum() == 8


def test_items_of_one_sample_are_told_apart_by_position():
    choice = BottomK(50)
    choice.offer(np.zeros(200, int), np.arange(200))
    assert len(choice) == 50


def test_capacity_must_be_positive():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        BottomK(0)
