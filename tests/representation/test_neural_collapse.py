import numpy as np
import pytest

from geomprobe.representation import neural_collapse

NUMBERS = ["within_class", "equinorm", "equiangularity", "maximal_angle", "self_duality",
           "disagreement"]  # fmt: skip


def simplex(n_classes, width, rng):
    """Corners of a simplex in a random subspace: the means of collapsed classes."""
    corners = np.eye(n_classes) - 1 / n_classes
    return corners @ np.linalg.qr(rng.normal(size=(width, n_classes)))[0].T


@pytest.mark.parametrize("n_classes", [3, 10])
def test_collapsed_classes_have_zeros(n_classes):
    rng = np.random.default_rng(0)
    means = simplex(n_classes, 20, rng)
    labels = np.repeat(np.arange(n_classes), 5)
    found = neural_collapse(3 * means[labels] + 7.0, labels, weights=0.2 * means)
    for name in NUMBERS[:5]:
        assert getattr(found, name).value == pytest.approx(0, abs=1e-12), name
    # The centre is not at 0, and the bias makes up for it.
    bias = -0.2 * (means @ np.full(20, 7.0))
    found = neural_collapse(3 * means[labels] + 7.0, labels, weights=0.2 * means, bias=bias)
    assert found.disagreement.value == 0


def test_two_classes_are_a_simplex_whatever_they_are():
    rng = np.random.default_rng(0)
    found = neural_collapse(rng.normal(size=(20, 5)), np.arange(20) % 2, weights=np.eye(5)[:2])
    for name in NUMBERS[1:4]:
        assert "two class means" in getattr(found, name).note
    assert found.within_class.value > 0
    assert found.self_duality.value > 0


@pytest.mark.parametrize(("n_classes", "width"), [(2, 2), (2, 16), (3, 3), (10, 64)])
def test_features_far_from_the_origin(n_classes, width):
    """The within-class number knows no origin; rounding of the means is no direction of theirs."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_classes), 8)
    points = rng.normal(size=(len(labels), width)) + 5 * rng.normal(size=(n_classes, width))[labels]
    near = neural_collapse(points, labels).within_class
    for offset in (1e2, 1e3, 1e5):
        far = neural_collapse(points + offset, labels).within_class
        assert far.value == pytest.approx(near.value, rel=1e-6)
        assert far.stderr == pytest.approx(near.stderr, rel=1e-6)


def test_against_the_definitions():
    # Papyan et al. (2020), with pseudo-inverses and loops.
    rng = np.random.default_rng(1)
    labels = np.arange(60) % 4
    X = rng.normal(size=(60, 6)) + 2 * rng.normal(size=(4, 6))[labels]
    W, b = rng.normal(size=(4, 6)), rng.normal(size=4)
    means = np.stack([X[labels == c].mean(axis=0) for c in range(4)])
    M = means - means.mean(axis=0)
    within = sum(np.outer(x - means[c], x - means[c]) for x, c in zip(X, labels, strict=True)) / 60
    between = M.T @ M / 4
    norms = np.linalg.norm(M, axis=1)
    cosines = [M[i] @ M[j] / norms[i] / norms[j] for i in range(4) for j in range(i)]
    nearest = [np.linalg.norm(x - means, axis=1).argmin() for x in X]
    chosen = (X @ W.T + b).argmax(axis=1)
    expected = [
        np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / 4,
        norms.std() / norms.mean(),
        np.std(cosines),
        np.mean(np.abs(np.array(cosines) + 1 / 3)),
        ((W / np.linalg.norm(W) - M / np.linalg.norm(M)) ** 2).sum(),
        np.mean(chosen != np.array(nearest)),
    ]
    found = neural_collapse(X, labels, weights=W, bias=b)
    np.testing.assert_allclose([getattr(found, name).value for name in NUMBERS], expected)
    assert all(getattr(found, name).stderr > 0 for name in NUMBERS)


def test_the_standard_errors_are_the_spread_over_samples():
    rng = np.random.default_rng(0)
    means, W = 2 * rng.normal(size=(3, 6)), rng.normal(size=(3, 6))
    labels = np.arange(120) % 3
    found = [
        neural_collapse(means[labels] + rng.normal(size=(120, 6)), labels, weights=W)
        for _ in range(40)
    ]
    for name in NUMBERS:
        estimates = [getattr(one, name) for one in found]
        spread = np.std([one.value for one in estimates])
        assert 0.6 < np.mean([one.stderr for one in estimates]) / spread < 1.6, name


def test_labels_may_be_any_numbers():
    rng = np.random.default_rng(1)
    X, labels = rng.normal(size=(30, 4)), np.arange(30) % 3
    assert (
        neural_collapse(X, labels).within_class == neural_collapse(X, labels * 7 - 3).within_class
    )


def test_without_a_classifier_two_numbers_have_a_reason():
    found = neural_collapse(np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2)
    assert np.isnan(found.self_duality.value)
    assert "no classifier was given" in found.disagreement.note


@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        (np.arange(5), None, r"shape \(10,\), one a point, got \(5,\)"),
        (np.zeros(10), None, "1 classes, the smallest of 10"),
        (np.arange(10) // 9, None, "2 classes, the smallest of 1"),
        (np.arange(10) % 2, np.ones((3, 2)), r"weights must have shape \(2, 3\)"),
    ],
)
def test_bad_input_is_refused(labels, weights, message):
    with pytest.raises(ValueError, match=message):
        neural_collapse(np.random.default_rng(0).normal(size=(10, 3)), labels, weights=weights)
