"""Intrinsic dimensions of sets whose dimension is known, and closed forms of the likelihoods."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist

from geomprobe.representation import gride, levina_bickel, local_pca, two_nn
from geomprobe.representation.neighbours import distinct_points, nearest_neighbours


def cube(n, d, rng):
    return rng.uniform(size=(n, d))


def sphere(n, d, rng):
    points = rng.normal(size=(n, d + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def embedded(points, rng):
    return points @ np.linalg.qr(rng.normal(size=(100, points.shape[1])))[0].T


@pytest.mark.parametrize("shape", [cube, sphere])
@pytest.mark.parametrize(
    "estimate",
    [two_nn, lambda X: two_nn(X, method="regression"), lambda X: levina_bickel(X, 10)],
    ids=["mle", "regression", "levina-bickel"],
)
def test_cubes_and_spheres_have_their_dimension_within_the_error(estimate, shape):
    """Every dimension from 1 to 20, in 100."""
    dimensions = np.arange(1, 21)
    found = []
    for d in dimensions:
        rng = np.random.default_rng(2)
        found.append(estimate(embedded(shape(400, d, rng), rng)))
    values, errors = (np.array([getattr(e, name) for e in found]) for name in ("value", "stderr"))
    missed = (values - dimensions) / errors
    assert np.abs(missed).max() < 3
    assert np.sqrt((missed**2).mean()) < 1.3
    # So that the error says something: a third in low dimensions, a half on average.
    assert (errors[:3] < 0.36 * dimensions[:3]).all()
    assert (errors / dimensions).mean() < 0.6
    assert (values > 0.6 * dimensions).all()


def test_the_error_of_sampling_is_the_spread_over_clouds():
    values, errors = [], []
    for seed in range(40):
        found = two_nn(cube(200, 2, np.random.default_rng(seed)))
        values.append(found.value)
        errors.append(float(found.method.partition("sampling ")[2].partition(",")[0]))
    assert 0.7 < np.mean(errors) / np.std(values) < 1.4


def test_neighbours_are_those_of_all_distances():
    points = np.random.default_rng(0).normal(size=(200, 30)) + 1e5
    distances = np.sort(cdist(points, points), axis=1)[:, 1:6]
    indices, found = nearest_neighbours(points - points.mean(axis=0), 5)
    np.testing.assert_allclose(found, distances, rtol=1e-9)
    of_indices = np.linalg.norm(points[indices] - points[:, None], axis=2)
    np.testing.assert_allclose(of_indices, distances, rtol=1e-9)


def test_neighbours_in_small_clusters_far_apart():
    # The rounding of |x|^2 + |y|^2 - 2 x.y is far above the distances inside a cluster.
    rng = np.random.default_rng(0)
    centres = 1e6 * rng.normal(size=(6, 20))
    points = (centres[:, None] + 1e-3 * rng.normal(size=(6, 30, 20))).reshape(-1, 20)
    points -= points.mean(axis=0)
    distances = np.sort(cdist(points, points), axis=1)[:, 1:4]
    np.testing.assert_allclose(nearest_neighbours(points, 3)[1], distances, rtol=1e-12)


def test_two_nn_by_hand():
    points = np.random.default_rng(0).normal(size=(50, 3))
    first, second = np.sort(cdist(points, points), axis=1)[:, 1:3].T
    assert two_nn(points).value == pytest.approx(49 / np.log(second / first).sum())


def test_the_regression_leaves_the_largest_ratios_out():
    # Facco et al. (2017): -log(1 - i/n) against the i-th smallest log ratio, up to 0.9 n.
    points = np.random.default_rng(0).normal(size=(50, 3))
    first, second = np.sort(cdist(points, points), axis=1)[:, 1:3].T
    x, y = np.sort(np.log(second / first))[:45], -np.log(1 - np.arange(1, 46) / 50)
    assert two_nn(points, method="regression").value == pytest.approx((x @ y) / (x @ x))


def test_duplicates_count_once():
    points = np.random.default_rng(0).normal(size=(60, 2))
    expected = two_nn(points)
    found = two_nn(np.concatenate([points, points[:20], points[:5]]))
    assert found.value == pytest.approx(expected.value)
    assert found.n == 60
    assert found.note == "25 duplicates left out"


def test_levina_bickel_by_hand():
    points = np.random.default_rng(0).normal(size=(40, 3))
    nearest = np.sort(cdist(points, points), axis=1)[:, 1:6]
    sums = np.log(nearest[:, -1:] / nearest[:, :-1]).sum(axis=1)
    assert levina_bickel(points, 5).value == pytest.approx((40 * 4 - 1) / sums.sum())
    assert levina_bickel(points, 5, average="plain").value == pytest.approx((3 / sums).mean())


def test_gride_maximises_its_likelihood():
    # Denti et al. (2022), equation 6, maximised numerically.
    points = np.random.default_rng(0).normal(size=(100, 3))
    nearest = np.sort(cdist(points, points), axis=1)[:, 1:]
    scan = gride(points, largest=8)
    assert scan.orders.tolist() == [1, 2, 4]
    for order, found in zip(scan.orders, scan.dimensions, strict=True):
        mu = nearest[:, 2 * order - 1] / nearest[:, order - 1]

        def loss(d, mu=mu, n1=order, n2=2 * order):
            terms = np.log(d) + (n2 - n1 - 1) * np.log(mu**d - 1)
            return -(terms - ((n2 - 1) * d + 1) * np.log(mu)).sum()

        best = minimize_scalar(loss, bounds=(0.1, 20), method="bounded", options={"xatol": 1e-9})
        assert found == pytest.approx(best.x, rel=1e-5)
        step = 1e-3
        curvature = (loss(best.x + step) - 2 * loss(best.x) + loss(best.x - step)) / step**2
        index = scan.orders.tolist().index(order)
        assert scan.stderrs[index] == pytest.approx(np.sqrt(2 / curvature), rel=1e-3)


def test_the_errors_of_gride_are_the_spread_over_clouds():
    scans = [gride(np.random.default_rng(seed).normal(size=(300, 3))) for seed in range(40)]
    spread = np.std([scan.dimensions for scan in scans], axis=0)
    ratio = np.mean([scan.stderrs for scan in scans], axis=0) / spread
    assert ((ratio > 0.6) & (ratio < 1.7)).all()


def test_a_lattice_has_no_ratios():
    lattice = np.stack(np.meshgrid(*[np.arange(8.0)] * 2), axis=-1).reshape(-1, 2)
    found = two_nn(lattice)
    assert np.isnan(found.value)
    assert "lattice" in found.note
    assert np.isnan(gride(lattice).dimensions[0])
    some = np.concatenate([lattice, 20 + np.random.default_rng(0).normal(size=(64, 2))])
    assert "equally far" in two_nn(some).note


def test_gride_sees_noise_at_small_scales_and_the_curve_beyond():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 2000)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    scan = gride(circle + 0.02 * rng.normal(size=circle.shape), largest=256)
    assert scan.dimensions[0] > 1.6
    assert scan.dimensions[-1] < 1.3
    assert (np.diff(scan.scales) > 0).all()


def test_the_scan_is_drawn():
    pytest.importorskip("matplotlib").use("Agg")
    axes = gride(np.random.default_rng(0).normal(size=(50, 2))).plot()
    assert axes.get_ylabel() == "intrinsic dimension"


@pytest.mark.parametrize(
    ("criterion", "expected"), [("fukunaga-olsen", 2), ("variance", 2), ("participation", 1.8)]
)
def test_local_pca_of_a_plane(criterion, expected):
    rng = np.random.default_rng(0)
    found = local_pca(embedded(cube(300, 2, rng), rng), 20, criterion=criterion)
    assert found.value == pytest.approx(expected, abs=0.1)


def test_local_pca_by_hand():
    points = np.random.default_rng(0).normal(size=(40, 3)) * [3, 1, 0.3]
    order = np.argsort(cdist(points, points), axis=1)[:, 1:11]
    spectra = [np.linalg.eigvalsh(np.cov(points[rows].T))[::-1] for rows in order]
    above = [(values > 0.05 * values[0]).sum() for values in spectra]
    explained = [1 + (np.cumsum(values) / values.sum() < 0.8).sum() for values in spectra]
    ratios = [values.sum() ** 2 / (values**2).sum() for values in spectra]
    assert local_pca(points, 10).value == pytest.approx(np.mean(above))
    found = local_pca(points, 10, criterion="variance", share=0.2)
    assert found.value == pytest.approx(np.mean(explained))
    found = local_pca(points, 10, criterion="participation")
    assert found.value == pytest.approx(np.mean(ratios))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X: two_nn(X[:10]), "at least 20 distinct points, got 10"),
        (lambda X: two_nn(np.repeat(X[:15], 4, axis=0)), "at least 20 distinct points, got 15"),
        (lambda X: two_nn(X, method="mean"), "'mle' or 'regression', got 'mean'"),
        (lambda X: two_nn(X, discard=1), "discard"),
        (lambda X: two_nn(X * np.nan), "NaN or infinity"),
        (lambda X: two_nn(X * 0), "points are equal"),
        (lambda X: levina_bickel(X, 2), "k must be at least 3"),
        (lambda X: levina_bickel(X, 40), "80 distinct points or more, got 50"),
        (lambda X: levina_bickel(X, average="mean"), "'inverse' or 'plain'"),
        (lambda X: gride(X, largest=1), "largest must be at least 2"),
        (lambda X: gride(X[:5]), "at least 8 distinct points"),
        (lambda X: local_pca(X, 25), "more than 2 k distinct points; got k=25 and 50"),
        (lambda X: local_pca(X, criterion="pca"), "'fukunaga-olsen', 'variance' or"),
        (lambda X: local_pca(X, criterion="participation", share=0.1), "takes none"),
        (lambda X: local_pca(X, share=1), "share must be between 0 and 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0).normal(size=(50, 2)))


def test_distinct_points_are_centred():
    points, duplicates = distinct_points([[1.0, 0.0], [1.0, 0.0], [4.0, 0.0]])
    assert points.tolist() == [[-1, 0], [2, 0]]
    assert duplicates == 1
