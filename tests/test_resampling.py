import numpy as np
import pytest

from geomprobe.resampling import delete_half_stderr


def test_constant_statistic_has_no_spread():
    assert delete_half_stderr(lambda rows: 3.0, 20) == 0


# The standard error of a mean of n independent points is sd/sqrt(n). Its estimate from r halves has
# a relative standard deviation of 1/sqrt(2 (r - 1)); four of those is the width allowed here.
@pytest.mark.parametrize("n", [40, 41, 1000])
@pytest.mark.parametrize("replicates", [12, 200])
def test_standard_error_of_a_mean_is_within_its_own_error_of_the_formula(n, replicates):
    points = np.random.default_rng(n).normal(size=n)
    estimated = delete_half_stderr(lambda rows: points[rows].mean(), n, replicates=replicates)
    known = points.std(ddof=1) / np.sqrt(n)
    assert abs(estimated / known - 1) < 4 / np.sqrt(2 * (replicates - 1))


# Over many seeds the mean of the variance estimates is the known variance: with the sample variance
# s^2, a half drawn without replacement has Var(mean) = s^2 (1/h - 1/n) (Cochran 1977, theorem 2.2),
# which the factor h/(n - h) turns into s^2/n. Their scatter is the stated one where the means of
# halves are nearly normal, which those of 100 points are.
@pytest.mark.parametrize("n", [10, 11, 100])
def test_variance_is_unbiased_for_a_mean_and_its_scatter_is_as_stated(n):
    points = np.random.default_rng(0).exponential(size=n)
    estimates = np.array(
        [delete_half_stderr(lambda rows: points[rows].mean(), n, seed=s) for s in range(2000)]
    )
    known = points.var(ddof=1) / n
    deviation = (estimates**2).std(ddof=1) / np.sqrt(len(estimates))
    assert abs((estimates**2).mean() - known) < 4 * deviation
    if n == 100:
        stated = 1 / np.sqrt(2 * (12 - 1))
        assert estimates.std() / estimates.mean() == pytest.approx(stated, rel=0.1)


# The standard error of the median of a normal sample is sd sqrt(pi/(2 n)) for large n; a delete-one
# jackknife does not get this one right, a delete-half one does (Shao and Wu 1989).
def test_standard_error_of_a_median():
    n, estimates = 401, []
    for seed in range(60):
        points = np.random.default_rng(seed).normal(size=n)
        estimates.append(delete_half_stderr(lambda rows, p=points: np.median(p[rows]), n))
    assert np.mean(np.square(estimates)) == pytest.approx(np.pi / (2 * n), rel=0.2)


def test_an_array_of_statistics_is_judged_entry_by_entry():
    points = np.random.default_rng(0).normal(size=(50, 3)) * [1, 10, 0]
    together = delete_half_stderr(lambda rows: points[rows].mean(axis=0), 50)
    alone = [delete_half_stderr(lambda rows, i=i: points[rows, i].mean(), 50) for i in range(3)]
    np.testing.assert_allclose(together, alone)


def test_rows_are_a_sorted_half_without_repeats():
    seen = []
    delete_half_stderr(lambda rows: seen.append(rows) or 0.0, 9, replicates=5)
    assert len(seen) == 5
    for rows in seen:
        assert len(rows) == 4
        assert np.all(np.diff(rows) > 0)
        assert set(rows) <= set(range(9))


def test_same_seed_same_result():
    points = np.random.default_rng(0).normal(size=30)
    first, again, other = (
        delete_half_stderr(lambda rows: points[rows].mean(), 30, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_points_give_nan_of_the_statistics_shape(n):
    assert np.isnan(delete_half_stderr(lambda rows: 1.0, n))
    assert np.isnan(delete_half_stderr(lambda rows: np.ones((2, 3)), n)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_halves_without_a_finite_number_are_left_out(bad):
    def after(good):
        values = iter([*good, *[bad] * 12])
        return delete_half_stderr(lambda rows: next(values), 10)

    assert np.isnan(after([]))
    assert np.isnan(after([1.0]))
    # Two values, 1 and 3: variance 2 with one degree of freedom.
    assert after([1.0, 3.0]) == pytest.approx(np.sqrt(2))


def test_an_undefined_entry_leaves_the_others_defined():
    stderr = delete_half_stderr(lambda rows: np.array([np.nan, rows.mean()]), 10)
    assert np.isnan(stderr[0])
    assert stderr[1] > 0
