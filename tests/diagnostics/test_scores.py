"""Each score against its definition, written out in loops, and against closed forms."""

import math
from itertools import combinations, product

import numpy as np
import pytest
from scipy.special import erf
from scipy.stats import kendalltau, spearmanr

from geomprobe.diagnostics import (
    conditional_information,
    cross_fitted_spearman,
    granulated_kendall,
    kendall,
    noisy_oracle,
    partial_spearman,
    pgdl_score,
    seed_reliability,
    sign_errors,
    within_cells,
)
from geomprobe.diagnostics.partial_rank import explained_by_axis

GRID = np.array([*product(range(3), range(2), range(2))])


def numbers(seed, n=12, ties=False):
    generator = np.random.default_rng(seed)
    return generator.integers(4, size=n).astype(float) if ties else generator.standard_normal(n)


@pytest.mark.parametrize("ties", [False, True])
def test_kendall_is_that_of_scipy_and_weights_are_repetitions(ties):
    measure, gap = numbers(0, ties=ties), numbers(1, ties=ties)
    assert kendall(measure, gap) == pytest.approx(kendalltau(measure, gap).statistic)
    times = np.random.default_rng(2).integers(3, size=len(gap))
    repeated = np.repeat(np.arange(len(gap)), times)
    expected = kendalltau(measure[repeated], gap[repeated]).statistic
    assert kendall(measure, gap, times) == pytest.approx(expected)


@pytest.mark.parametrize("missing", [(), (0, 5, 6)])
def test_granulated_kendall_by_its_definition(missing):
    """Jiang et al. (2020), equation 5, in loops over the groups."""
    levels = np.delete(GRID, missing, axis=0)
    measure, gap = numbers(0, len(levels), ties=True), numbers(1, len(levels))
    by_axis = []
    for axis in range(3):
        groups = {}
        for row, level in enumerate(levels):
            groups.setdefault(tuple(np.delete(level, axis)), []).append(row)
        taus = [
            np.mean(
                [
                    np.sign(measure[a] - measure[b]) * np.sign(gap[a] - gap[b])
                    for a, b in combinations(rows, 2)
                ]
            )
            for rows in groups.values()
            if len(rows) > 1
        ]
        by_axis.append(np.mean(taus))
    found = granulated_kendall(levels, measure, gap)
    np.testing.assert_allclose(found.by_axis, by_axis, atol=1e-12)
    assert found.psi == pytest.approx(np.mean(by_axis))


def test_a_noisy_oracle_scores_as_its_noise_says():
    """sgn(Δ + N(0, 2σ²)) agrees with sgn(Δ) by erf(|Δ|/2σ) on the mean; Jiang et al. section 5."""
    generator = np.random.default_rng(0)
    levels = np.array([*product(range(3), repeat=3)])
    gap = 0.1 * generator.standard_normal(len(levels))
    for sigma in (0.01, 0.05, 0.2):
        near = [(a, b) for a, b in combinations(range(27), 2) if sum(levels[a] != levels[b]) == 1]
        expected = np.mean([erf(abs(gap[a] - gap[b]) / (2 * sigma)) for a, b in near])
        draws = [
            granulated_kendall(levels, noisy_oracle(gap, sigma, generator), gap).psi
            for _ in range(300)
        ]
        error = 4 * np.std(draws) / math.sqrt(len(draws))
        assert np.mean(draws) == pytest.approx(expected, abs=error)


def information_in_loops(levels, measure, gap, chosen, weigh_alike, drop_ties):
    """Both published rules from joint counts in a dictionary: (I(V; W | U), H(W | U))."""
    counts = {}
    for a, b in product(range(len(gap)), repeat=2):
        if drop_ties and (measure[a] == measure[b] or gap[a] == gap[b]):
            continue
        u = (*levels[a, list(chosen)], *levels[b, list(chosen)])
        cell = counts.setdefault(u, np.zeros((2, 2)))
        cell[int(measure[a] > measure[b]), int(gap[a] > gap[b])] += 1
    found, sizes = [], []
    for cell in counts.values():
        p = cell / cell.sum()
        v, w = p.sum(axis=1), p.sum(axis=0)
        inside = sum(
            p[i, j] * math.log2(p[i, j] / (v[i] * w[j]))
            for i, j in product(range(2), repeat=2)
            if p[i, j] > 0
        )
        found.append((inside, -sum(q * math.log2(q) for q in w if q > 0)))
        sizes.append(1.0 if weigh_alike else cell.sum())
    return np.average(found, axis=0, weights=sizes)


@pytest.mark.parametrize("ties", [False, True])
def test_both_conditional_informations_by_their_definitions(ties):
    """Jiang et al. (2020), equations 6 to 8, and the rule of the competition's scoring program."""
    measure, gap = numbers(3, ties=ties), numbers(4)
    measure = measure + gap
    jiang, pgdl = [], []
    for size in range(3):
        for chosen in combinations(range(3), size):
            bits = information_in_loops(GRID, measure, gap, chosen, False, True)
            jiang.append(bits[0] / bits[1])
            if size == 2:
                bits = information_in_loops(GRID, measure, gap, chosen, True, False)
                pgdl.append(bits[0] / bits[1])
    assert conditional_information(GRID, measure, gap) == pytest.approx(min(jiang), abs=1e-12)
    assert pgdl_score(GRID, measure, gap) == pytest.approx(min(pgdl), abs=1e-12)


def test_the_gap_itself_has_all_the_information_and_a_hyper_parameter_none():
    gap = numbers(0)
    assert conditional_information(GRID, gap, gap) == pytest.approx(1)
    assert conditional_information(GRID, -gap, gap) == pytest.approx(1)
    assert conditional_information(GRID, GRID[:, 0].astype(float), gap) == pytest.approx(0)
    assert pgdl_score(GRID, gap, gap) == pytest.approx(1)


def test_partial_spearman_of_one_binary_control_has_a_closed_form():
    """(r_xy - r_xz r_yz) / sqrt((1 - r_xz²)(1 - r_yz²)) on ranks; Yule (1907)."""
    generator = np.random.default_rng(0)
    control = generator.integers(2, size=40)
    x, y = (generator.standard_normal(40) + control for _ in range(2))
    xy, xz, yz = (spearmanr(*pair).statistic for pair in ((x, y), (x, control), (y, control)))
    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_spearman(x, y, control[:, None]) == pytest.approx(expected)


def test_what_hyper_parameters_explain_leaves_no_correlation():
    gap = numbers(0)
    assert math.isnan(partial_spearman(GRID[:, 0] * 1.0, gap, GRID))
    interaction = (GRID[:, 0] * (2 * GRID[:, 1] - 1)).astype(float)
    many = np.tile(GRID, (6, 1))
    generator = np.random.default_rng(1)
    product_of_axes = np.tile(interaction, 6) + 0.05 * generator.standard_normal(len(many))
    follows = np.tile(interaction, 6) + 0.05 * generator.standard_normal(len(many))
    assert partial_spearman(product_of_axes, follows, many) > 0.8  # Main effects do not see it.
    assert abs(cross_fitted_spearman(product_of_axes, follows, many)) < 0.3


def test_cross_fitting_keeps_a_signal_of_its_own():
    generator = np.random.default_rng(0)
    many = np.tile(GRID, (6, 1))
    signal = generator.standard_normal(len(many))
    assert cross_fitted_spearman(signal, many[:, 0] + signal, many) > 0.7
    assert math.isnan(cross_fitted_spearman(signal[:9], signal[:9], many[:9]))


def test_sign_errors_by_hand():
    """Two axes of two values: of four environments, one is ordered the wrong way."""
    levels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    gap, measure = np.array([0.1, 0.2, 0.3, 0.5]), np.array([1.0, 2.0, 3.0, 2.5])
    found = sign_errors(levels, np.arange(4), measure, gap)
    assert sorted(found.errors) == [0, 0, 0, 1]
    assert (found.mean, found.largest) == (0.25, 1.0)
    tied = sign_errors(levels, np.arange(4), np.zeros(4), gap)
    assert set(tied.errors) == {0.5}


def test_differences_that_a_test_set_cannot_tell_have_no_weight():
    """max(0, 1 - 2 exp(-n Δ²/2))² is 0 up to Δ = sqrt(2 ln 2 / n)."""
    levels, n_test = np.array([[0], [1], [2]]), 1000
    least = math.sqrt(2 * math.log(2) / n_test)
    gap = np.array([0.0, 0.9 * least, 3 * least])
    found = sign_errors(levels, np.arange(3), gap, gap, n_test=n_test)
    assert len(found.errors) == 2
    nothing = sign_errors(levels, np.arange(3), gap, gap * 0.1, n_test=n_test)
    assert math.isnan(nothing.mean)


def test_intraclass_correlation_of_the_published_example():
    """Shrout and Fleiss (1979), table 2: ICC(1, 1) is .17 for six targets and four judges."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    cell, values = np.repeat(np.arange(6), 4), np.ravel(ratings).astype(float)
    assert seed_reliability(cell, values) == pytest.approx(0.17, abs=0.005)
    assert seed_reliability(cell, cell.astype(float)) == 1
    assert math.isnan(seed_reliability(np.arange(24), values))


def test_seeds_of_one_cell_are_compared_with_nothing_else():
    generator = np.random.default_rng(0)
    cell = np.repeat(np.arange(12), 3)
    luck = generator.standard_normal(36)
    proxy = within_cells(cell, cell + 1e-3 * generator.standard_normal(36), 5 * cell + luck)
    assert proxy.p > 0.05
    signal = within_cells(cell, luck - 3 * cell, 5 * cell + luck)
    assert (signal.agreement, signal.p) == (1.0, pytest.approx(1 / 1001))
    assert math.isnan(within_cells(np.arange(36), luck, luck).agreement)


def test_permutation_within_cells_is_level():
    """Under independence p is uniform, so its mean over many tables is one half."""
    cell = np.repeat(np.arange(6), 3)
    p = [
        within_cells(cell, numbers(seed, 18), numbers(seed + 1000, 18), draws=100).p
        for seed in range(200)
    ]
    assert np.mean(p) == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 200) + 0.02)


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        (GRID[:-1], "complete grid of 12"),
        (GRID[[0, *range(12)]], "12 cells"),
        (GRID[:3, :1], "one"),
    ],
)
def test_the_competition_s_score_asks_for_a_complete_grid(levels, reason):
    values = np.arange(float(len(levels)))
    with pytest.raises(ValueError, match=reason):
        pgdl_score(levels, values, values)


def test_two_axes_leave_one_hyper_parameter_to_condition_on():
    """Both axes name the pair and leave nothing unknown; such a set is passed over."""
    levels, gap = np.array([*product(range(3), range(4))]), numbers(0)
    assert conditional_information(levels, gap, gap) == pytest.approx(1)
    assert 0 <= conditional_information(levels, numbers(1), gap) < 1


def test_a_nan_is_refused_where_orders_are_counted():
    gap, measure = numbers(0), numbers(1)
    measure[3] = np.nan
    for score in (conditional_information, pgdl_score):
        with pytest.raises(ValueError, match="1 of 12 models have a NaN"):
            score(GRID, measure, gap)
    with pytest.raises(ValueError, match="1 of 12 models have a NaN"):
        within_cells(np.zeros(12, int), measure, gap)


def test_the_share_that_each_hyper_parameter_explains_alone():
    """Ranks 3a + b + 1 on a 3 x 3 grid: sums of squares 54 and 6 of 60."""
    levels = np.array([*product(range(3), range(3))])
    measure = np.exp(3.0 * levels[:, 0] + levels[:, 1])
    assert explained_by_axis(measure, levels) == pytest.approx([0.9, 0.1])
    assert np.isnan(explained_by_axis(np.ones(9), levels)).all()
