import numpy as np
import pytest

from geomprobe.representation import alpha_req, participation_ratio, rank_me


@pytest.mark.parametrize("r", [1, 3, 10])
def test_the_participation_ratio_of_isotropic_points_is_their_rank(r):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5000, r)) @ np.linalg.qr(rng.normal(size=(40, r)))[0].T
    found = participation_ratio(points + 7.0)
    assert abs(found.value - r) <= 3 * found.stderr + 0.01 * r


def test_the_participation_ratio_of_a_known_covariance():
    # Orthogonal columns of variances 4, 1 and 1: 36 / 18.
    points = np.array([[2, 1, 1], [2, -1, -1], [-2, 1, -1], [-2, -1, 1]], dtype=float)
    assert participation_ratio(points).value == pytest.approx(36 / 18)


def test_rank_me_of_known_singular_values():
    # Garrido et al. (2023), equation 1: of singular values 3 and 1, shares 3/4 and 1/4.
    points = np.diag([3.0, 1.0])
    shares = np.array([0.75, 0.25]) + 1e-7
    assert rank_me(points).value == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    # Not centred: a constant shift is a direction.
    assert rank_me(np.ones((4, 3)) + 1e-9 * np.eye(4, 3)).value == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_req_finds_the_power_of_a_known_spectrum(alpha):
    rng = np.random.default_rng(0)
    points = np.linalg.qr(rng.normal(size=(400, 60)))[0]
    points = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[0]
    found = alpha_req(points * np.arange(1, 61.0) ** (-alpha / 2))
    assert found.value == pytest.approx(alpha, rel=1e-6)


def test_a_spectrum_that_is_too_short_has_no_power():
    found = alpha_req(np.random.default_rng(0).normal(size=(50, 3)))
    assert np.isnan(found.value)
    assert "fewer than three eigenvalues" in found.note


def test_alpha_req_is_the_fit_with_weights_of_one_over_the_rank():
    # powerlaw of Stringer et al. (2019): normal equations with weights 1/j.
    points = np.random.default_rng(0).normal(size=(100, 40)) * np.arange(1, 41.0) ** -0.7
    spectrum = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    ranks = np.arange(4, 41)
    x = np.stack([np.log(ranks), np.ones(37)], axis=1)
    weighted = x / ranks[:, None]
    slope = np.linalg.solve(weighted.T @ x, weighted.T @ np.log(spectrum[3:]))[0]
    assert alpha_req(points).value == pytest.approx(-slope)


@pytest.mark.parametrize(
    "statistic", [participation_ratio, rank_me, lambda X: alpha_req(X, first=1)]
)
def test_the_standard_error_is_the_spread_over_clouds(statistic):
    scale = np.arange(1, 9.0) ** -1

    def cloud(seed):
        return np.random.default_rng(seed).normal(size=(100, 8)) * scale

    spread = np.std([statistic(cloud(seed)).value for seed in range(60)])
    errors = [statistic(cloud(seed)).stderr for seed in range(20)]
    assert 0.6 < np.mean(errors) / spread < 1.6


@pytest.mark.parametrize("window", [(0, 5), (5, 5)])
def test_bad_windows_are_refused(window):
    with pytest.raises(ValueError, match="first must be at least 1 and below last"):
        alpha_req(np.eye(5), first=window[0], last=window[1])
