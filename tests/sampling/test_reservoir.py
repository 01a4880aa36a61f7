import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from geomprobe.sampling.reservoir import BottomK, Reservoir, _mix, priorities


def after(choice, ids, positions=None):
    """What is kept once these have been offered."""
    kept, rows, slots = choice.choose(choice.offer(ids, positions))
    assert len(rows) == len(slots) == len(set(slots))
    assert set(ids[rows]) <= set(kept.ids)
    return kept


def add(reservoir, rows, ids, labels=None):
    offer = reservoir.offer(ids, None, labels)
    reservoir.add(rows.__getitem__, reservoir.choice.choose(offer), labels)


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
            choice = after(choice, np.arange(start, min(start + 7, n)))
        counts[choice.ids] += 1
    expected = trials * k / n
    # Counts of one draw are negatively correlated: the statistic scales by (n-1)/(n-k)*n/(n-1).
    statistic = ((counts - expected) ** 2 / (expected * (1 - k / n))).sum() * (n - 1) / n
    assert stats.chi2.sf(statistic, n - 1) > 1e-4


def test_pairs_are_equally_likely():
    n, k, trials = 8, 3, 4000
    pairs = np.zeros((n, n))
    for seed in range(trials):
        choice = after(BottomK(k, seed), np.arange(n))
        pairs[np.ix_(choice.ids, choice.ids)] += 1
    together = pairs[np.triu_indices(n, 1)]
    expected = trials * k * (k - 1) / (n * (n - 1))
    assert np.abs(together - expected).max() < 5 * np.sqrt(expected)


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 20), st.integers(0, 2**64 - 1))
def test_the_choice_does_not_depend_on_batching_or_order(sizes, capacity, seed):
    ids = np.arange(sum(sizes))
    whole = after(BottomK(capacity, seed), ids)
    pieces = BottomK(capacity, seed)
    shuffled = np.random.default_rng(0).permutation(ids)
    for piece in np.split(shuffled, np.cumsum(sizes)[:-1]) if sizes else []:
        pieces = after(pieces, piece)
    assert set(whole.ids) == set(pieces.ids)
    assert len(whole) == min(capacity, len(ids))
    assert whole.seen == pieces.seen == len(ids)


@given(st.integers(1, 12), st.lists(st.integers(1, 9), min_size=1, max_size=10))
def test_rows_stay_with_their_ids_and_labels(capacity, sizes):
    reservoir = Reservoir(BottomK(capacity, seed=1))
    start = 0
    for size in sizes:
        ids = np.arange(start, start + size)
        rows = torch.from_numpy(np.stack([ids, 10.0 * ids], axis=1))
        add(reservoir, rows, ids, ids % 3)
        start += size
    points, ids, labels = reservoir.contents()
    assert np.array_equal(points, np.stack([ids, 10 * ids], axis=1))
    assert points.dtype == np.float32
    assert np.array_equal(labels, ids % 3)
    assert np.all(np.diff(ids) > 0)


def test_items_of_one_sample_are_told_apart_by_position():
    choice = after(BottomK(50), np.zeros(200, int), np.arange(200))
    assert len(choice) == 50


def test_capacity_must_be_positive():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        BottomK(0)


def sampled(ids, labels, capacity, *, stratified=False, seed=1):
    """A reservoir that has seen a stream whose rows are (id, label)."""
    reservoir = Reservoir(BottomK(capacity, seed), stratified=stratified)
    offer(reservoir, ids, labels)
    return reservoir


def offer(reservoir, ids, labels):
    ids, labels = np.asarray(ids, np.int64), np.asarray(labels, np.int64)
    rows = torch.from_numpy(np.stack([ids, labels], axis=1).astype(np.float32))
    add(reservoir, rows, ids, labels)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a.contents(), b.contents(), strict=True))


streams = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=60)


@given(streams, st.integers(1, 12))
def test_an_item_that_comes_again_replaces_what_it_was(stream, capacity):
    ids, labels = [i for i, _ in stream], [label for _, label in stream]
    once = sampled(list(dict(stream)), list(dict(stream).values()), capacity)
    again = Reservoir(BottomK(capacity, 1))
    for start in range(0, len(ids), 5):
        offer(again, ids[start : start + 5], labels[start : start + 5])
    if ids:
        assert same(once, again)
    assert again.choice.seen == len(ids)


@given(streams, st.integers(1, 12), st.integers(1, 7))
def test_strata_are_filled_evenly_whatever_the_order_and_the_batching(stream, capacity, size):
    # By definition: the smallest (rank within the label, priority), of the whole stream at once.
    items = {i: i % 4 for i, _ in stream}
    ranked = []
    for label in set(items.values()):
        members = np.array([i for i in items if items[i] == label])
        keys = priorities(members, seed=1)
        ranked += [(rank, keys[j], members[j]) for rank, j in enumerate(np.argsort(keys))]
    expected = sorted(int(i) for _, _, i in sorted(ranked)[:capacity])
    reservoir = Reservoir(BottomK(capacity, 1), stratified=True)
    for start in range(0, len(stream), size):
        ids = [i for i, _ in stream[start : start + size]]
        offer(reservoir, ids, [i % 4 for i in ids])
    assert reservoir.contents()[1].tolist() == expected


def test_a_rare_label_gets_its_share():
    labels = np.r_[np.zeros(990), np.ones(10), np.full(1000, 2)]
    reservoir = sampled(np.arange(2000), labels, 60, stratified=True)
    assert np.bincount(reservoir.contents()[2]).tolist() == [25, 10, 25]


def test_within_a_stratum_each_item_is_equally_likely():
    counts = np.zeros(30)
    for seed in range(1500):
        reservoir = sampled(np.arange(30), np.arange(30) % 2, 10, stratified=True, seed=seed)
        counts[reservoir.contents()[1]] += 1
    expected = 1500 / 3
    statistic = ((counts - expected) ** 2 / (expected * 2 / 3)).sum() * 14 / 15
    assert stats.chi2.sf(statistic, 28) > 1e-4


@pytest.mark.parametrize("stratified", [False, True])
@given(streams, streams, st.integers(1, 12))
def test_merged_reservoirs_are_the_one_that_has_seen_both_streams(stratified, first, second, k):
    def offered(reservoir, stream):
        for i, _ in stream:
            offer(reservoir, [i], [i % 4])

    one, other = (Reservoir(BottomK(k, 1), stratified=stratified) for _ in range(2))
    offered(one, first)
    offered(other, second)
    whole = Reservoir(BottomK(k, 1), stratified=stratified)
    offered(whole, first + second)
    if first or second:
        merged = Reservoir(BottomK(k, 1), stratified=stratified)
        for reservoir, stream in ((one, first), (other, second)):
            if stream:
                merged.merge(reservoir.arrays())
        assert same(merged, whole)
        assert merged.choice.seen == len(first) + len(second)


@pytest.mark.parametrize("stratified", [False, True])
def test_a_reservoir_that_has_kept_nothing_can_be_merged(stratified):
    one, nothing = sampled([1, 2], [0, 1], 5, stratified=stratified), Reservoir(BottomK(5, 1))
    add(nothing, torch.zeros(0, 2), np.empty(0, np.int64))
    before = one.contents()
    one.merge(nothing.arrays())
    assert all(map(np.array_equal, one.contents(), before))


def test_labels_come_with_all_batches_or_none_and_strata_need_them():
    reservoir = sampled([1, 2], [0, 1], 5)
    with pytest.raises(ValueError, match="with labels, or none"):
        add(reservoir, torch.zeros(1, 2), np.array([3]))
    with pytest.raises(ValueError, match="needs the labels of every batch"):
        add(Reservoir(BottomK(5), stratified=True), torch.zeros(1, 2), np.array([3]))
