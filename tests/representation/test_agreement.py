"""Intrinsic dimensions as scikit-dimension and dadapy compute them, on the same clouds."""

import numpy as np
import pytest

from geomprobe.representation import gride, levina_bickel, local_pca, two_nn


def sheet():
    """A rolled sheet with noise."""
    rng = np.random.default_rng(0)
    angle, height = rng.uniform(0, 3 * np.pi, 150), rng.uniform(0, 5, 150)
    roll = np.stack([angle * np.cos(angle), angle * np.sin(angle), height], axis=1)
    return roll + 0.05 * rng.normal(size=(150, 3))


def ball():
    """A normal cloud of six dimensions in ten."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(150, 6)) @ rng.normal(size=(6, 10))


CLOUDS = [sheet(), ball()]

#: What they print, to six digits after the point, for the sheet and for the ball. Both give the
#: same for TwoNN; Levina-Bickel and local PCA are of scikit-dimension, Gride is of dadapy.
PRINTED = {
    "two_nn": (2.046814, 5.068433),
    "two_nn by regression": (2.048508, 4.931054),
    "levina_bickel": (1.801670, 4.888086),
    "levina_bickel, plain": (1.799033, 4.923205),
    "local_pca, fukunaga-olsen": (2.133333, 5.020000),
    "local_pca, participation": (1.797220, 3.505923),
    "gride": (
        [2.046814, 1.933989, 1.739093, 1.750240, 1.750206],
        [5.068433, 4.588546, 5.066720, 4.484096, 4.033247],
    ),
    "gride, stderr": (
        [0.167122, 0.113775, 0.072549, 0.051604, 0.036499],
        [0.413836, 0.269825, 0.211286, 0.132245, 0.084048],
    ),
}


def ours(X):
    return {
        "two_nn": two_nn(X).value,
        "two_nn by regression": two_nn(X, method="regression").value,
        # They take n (k - 1) for n (k - 1) - 1, so that theirs is biased.
        "levina_bickel": levina_bickel(X, 10).value * 1350 / 1349,
        "levina_bickel, plain": levina_bickel(X, 10, average="plain").value,
        "local_pca, fukunaga-olsen": local_pca(X, 12).value,
        "local_pca, participation": local_pca(X, 12, criterion="participation").value,
    }


@pytest.mark.parametrize("which", [0, 1], ids=["sheet", "ball"])
def test_the_numbers_that_they_print(which):
    # scikit-dimension 0.5.0: id.TwoNN(discard_fraction=0, method="mle"), id.TwoNN(), id.MLE() with
    # n_neighbors=10 and comb="mle", id.MLE(unbiased=True) with comb="mean", and the mean of
    # dimension_pw_ of id.lPCA(ver).fit_pw with n_neighbors=12.
    for name, value in ours(CLOUDS[which]).items():
        assert value == pytest.approx(PRINTED[name][which], abs=1e-6), name


@pytest.mark.parametrize("which", [0, 1], ids=["sheet", "ball"])
def test_gride_is_that_of_dadapy_but_for_one_point_of_its_likelihood(which):
    # dadapy 0.3.4: Data(X).return_id_scaling_gride(range_max=32). Its likelihood has n - 1 in place
    # of n before log D, which takes 1/n off at the smallest scale, and less at larger ones; its
    # standard errors take all n ratios for independent.
    scan = gride(CLOUDS[which], largest=32)
    theirs = np.array(PRINTED["gride"][which])
    excess = scan.dimensions / theirs - 1
    assert excess[0] == pytest.approx(1 / 149, rel=1e-3)
    assert ((excess > 0) & (np.diff(excess, prepend=1) < 0)).all()
    errors = scan.stderrs / np.sqrt(2)
    np.testing.assert_allclose(errors, PRINTED["gride, stderr"][which], rtol=1 / 140)


def test_scikit_dimension_prints_them_still():
    estimators = pytest.importorskip("skdim").id
    for X, index in zip(CLOUDS, (0, 1), strict=True):
        found = {
            "two_nn": estimators.TwoNN(discard_fraction=0, method="mle").fit(X).dimension_,
            "two_nn by regression": estimators.TwoNN().fit(X).dimension_,
            "levina_bickel": estimators.MLE().fit(X, n_neighbors=10, comb="mle").dimension_,
            "levina_bickel, plain": estimators.MLE(unbiased=True)
            .fit(X, n_neighbors=10, comb="mean")
            .dimension_,
            "local_pca, fukunaga-olsen": estimators.lPCA("FO")
            .fit_pw(X, n_neighbors=12)
            .dimension_pw_.mean(),
            "local_pca, participation": estimators.lPCA("participation_ratio")
            .fit_pw(X, n_neighbors=12)
            .dimension_pw_.mean(),
        }
        for name, value in found.items():
            assert value == pytest.approx(PRINTED[name][index], abs=1e-6), name


def test_dadapy_prints_them_still():
    dadapy = pytest.importorskip("dadapy")
    for X, index in zip(CLOUDS, (0, 1), strict=True):
        data = dadapy.Data(coordinates=X, verbose=False)
        dimensions, errors, _ = data.return_id_scaling_gride(range_max=32)
        np.testing.assert_allclose(dimensions, PRINTED["gride"][index], atol=1e-6)
        np.testing.assert_allclose(errors, PRINTED["gride, stderr"][index], atol=1e-6)
        for name, algorithm in [("two_nn", "ml"), ("two_nn by regression", "base")]:
            value = data.compute_id_2NN(algorithm=algorithm)[0]
            assert value == pytest.approx(PRINTED[name][index], abs=1e-6)
