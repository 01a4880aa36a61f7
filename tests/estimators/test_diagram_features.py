"""Transformers of diagrams: features, names, grids that are learned, and giotto-tda."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

import geomprobe as gp
from geomprobe.estimators import (
    BettiCurve,
    PersistenceImage,
    PersistenceLandscape,
    Silhouette,
    TotalPersistence,
)
from geomprobe.topology import (
    Diagrams,
    betti_curve,
    landscape,
    persistence_image,
    silhouette,
    to_giotto,
    total_persistence,
)

EVERY = [
    gp.PersistenceEntropy(),
    TotalPersistence(2.0),
    BettiCurve(7),
    PersistenceLandscape(2, 7),
    Silhouette(0.5, 7),
    PersistenceImage(5),
]
NAMES = [type(one).__name__ for one in EVERY]
WIDTHS = [1, 1, 7, 14, 7, 25]


def clouds(count=24, seed=0):
    """Noisy circles and discs of 20 to 30 points, and which is which."""
    rng = np.random.default_rng(seed)
    made, labels = [], np.arange(count) % 2
    for label in labels:
        angle = rng.uniform(0, 2 * np.pi, rng.integers(20, 31))
        radius = 1 if label else np.sqrt(rng.uniform(0, 1, len(angle)))
        made.append(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
    return made, labels


@pytest.fixture(scope="module")
def diagrams():
    return gp.RipsPersistence().fit_transform(clouds(6)[0])


@pytest.mark.parametrize(("transformer", "width"), list(zip(EVERY, WIDTHS, strict=True)), ids=NAMES)
def test_features_lie_side_by_side_and_have_names(transformer, width, diagrams):
    fitted = clone(transformer).fit(diagrams)
    features = fitted.transform(diagrams)
    names = fitted.get_feature_names_out()
    assert features.shape == (6, 2 * width)
    assert np.isfinite(features).all()
    assert len(set(names)) == 2 * width
    assert [name[:3] for name in names] == ["h0_"] * width + ["h1_"] * width


def test_features_are_those_of_the_functions(diagrams):
    one = diagrams[2]
    found = {
        type(t).__name__: clone(t).fit(diagrams).transform([one])[0].reshape(2, -1) for t in EVERY
    }
    grids = BettiCurve(7).fit(diagrams).grid_
    image = PersistenceImage(5).fit(diagrams)
    for dim, grid in enumerate(grids):
        deaths = np.concatenate([each[dim] for each in diagrams])
        assert grid[-1] == deaths[np.isfinite(deaths)].max()
        expected = {
            "TotalPersistence": total_persistence(one[dim], 2.0),
            "BettiCurve": betti_curve(one[dim], grid),
            "PersistenceLandscape": landscape(one[dim], grid, 2).ravel(),
            "Silhouette": silhouette(one[dim], grid, 0.5),
            "PersistenceImage": persistence_image(
                one[dim], image.births_[dim], image.lifetimes_[dim], sigma=image.sigma_[dim]
            ).ravel(),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(found[name][dim], values, err_msg=name)


def test_grids_come_from_the_training_diagrams_alone(diagrams):
    scaled = [Diagrams(tuple(10 * dgm for dgm in one)) for one in diagrams]
    fitted = BettiCurve(7).fit(diagrams)
    before = [grid.copy() for grid in fitted.grid_]
    fitted.transform(scaled)
    assert all(np.array_equal(a, b) for a, b in zip(before, fitted.grid_, strict=True))
    assert fitted.fit(scaled).grid_[0][-1] == 10 * before[0][-1]
    assert len(fitted.grid_) == 2


@pytest.mark.parametrize("transformer", EVERY, ids=NAMES)
def test_empty_infinite_and_missing_dimensions(transformer, diagrams):
    empty, endless = np.empty((0, 2)), np.array([[0.0, np.inf]])
    fitted = clone(transformer).fit(diagrams)
    for odd in (Diagrams((empty, empty)), Diagrams((endless, empty)), Diagrams((endless,))):
        features = fitted.transform([odd])
        assert features.shape == fitted.transform(diagrams[:1]).shape
        assert np.isfinite(features).all()
        assert not features[0, len(features[0]) // 2 :].any()
    # Nothing to learn from.
    features = clone(transformer).fit_transform([Diagrams((endless, empty))])
    assert np.isfinite(features).all()


@pytest.mark.parametrize("transformer", EVERY, ids=NAMES)
def test_giottos_array_gives_the_same(transformer, diagrams):
    padded = to_giotto(diagrams)
    finite = [Diagrams(tuple(one.finite(dim) for dim in range(2))) for one in diagrams]
    expected = clone(transformer).fit_transform(finite)
    np.testing.assert_allclose(clone(transformer).fit_transform(padded), expected)


@pytest.mark.parametrize("transformer", EVERY, ids=NAMES)
def test_pickled_and_cloned(transformer, diagrams):
    fitted = clone(transformer).fit(diagrams)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(diagrams), fitted.transform(diagrams))
    assert clone(fitted).get_params() == transformer.get_params()
    assert not [name for name in vars(clone(fitted)) if name.endswith("_")]
    with pytest.raises(NotFittedError):
        clone(fitted).transform(diagrams)


@pytest.mark.parametrize("transformer", EVERY, ids=NAMES)
@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_frames(transformer, frame, diagrams):
    pytest.importorskip(frame)
    fitted = clone(transformer).fit(diagrams)
    try:
        fitted.set_output(transform=frame)
        made = fitted.transform(diagrams)
    except ValueError:
        pytest.skip("this scikit-learn makes no such frames")  # polars: from 1.4 on
    assert type(made).__module__.partition(".")[0] == frame
    assert list(made.columns) == list(fitted.get_feature_names_out())


@pytest.mark.parametrize("transformer", EVERY[1:], ids=NAMES[1:])
def test_ragged_clouds_through_a_pipeline(transformer):
    X, y = clouds()
    pipeline = make_pipeline(
        gp.RipsPersistence(), clone(transformer), StandardScaler(), LogisticRegression()
    )
    assert cross_val_score(pipeline, X, y, cv=3, n_jobs=2).mean() > 0.75


def test_a_grid_search_over_both_steps():
    X, y = clouds()
    pipeline = make_pipeline(gp.RipsPersistence(), BettiCurve(), LogisticRegression())
    grid = {"ripspersistence__max_dim": [0, 1], "betticurve__n_bins": [5, 20]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_score_ > 0.75
    assert len(search.cv_results_["params"]) == 4


def test_a_union_of_features():
    X, _ = clouds(6)
    union = make_union(gp.PersistenceEntropy(), BettiCurve(5))
    features = make_pipeline(gp.RipsPersistence(), union).fit_transform(X)
    assert features.shape == (6, 2 + 10)


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (TotalPersistence(0), "alpha must be positive"),
        (BettiCurve(0), "n_bins must be positive"),
        (PersistenceLandscape(0), "layers must be positive"),
        (PersistenceImage(sigma=-1.0), "sigma must be positive"),
        (PersistenceImage(power=0), "power must be positive"),
        (Silhouette(-1.0), "power cannot be negative"),
    ],
)
def test_parameters_out_of_range_are_refused(transformer, message, diagrams):
    with pytest.raises(ValueError, match=message):
        transformer.fit_transform(diagrams)


def test_too_many_dimensions_are_refused(diagrams):
    fitted = BettiCurve().fit([Diagrams((diagrams[0][0],))])
    with pytest.raises(ValueError, match="fitted to diagrams of 1 homology dimensions, got 2"):
        fitted.transform(diagrams)


# --- giotto-tda ---------------------------------------------------------------------------------


def test_giottos_own_transformers_and_plot_take_our_diagrams(diagrams):
    theirs = pytest.importorskip("gtda.diagrams")
    plotting = pytest.importorskip("gtda.plotting")
    padded = to_giotto(diagrams, infinity_value=3.0)
    for name in ("PersistenceEntropy", "BettiCurve", "PersistenceLandscape", "Silhouette",
                 "HeatKernel", "PersistenceImage", "Amplitude", "PairwiseDistance", "Scaler",
                 "Filtering", "NumberOfPoints", "ComplexPolynomial"):  # fmt: skip
        made = getattr(theirs, name)().fit_transform(padded)
        assert len(made) == 6, name
        assert np.isfinite(made).all(), name
    assert plotting.plot_diagram(padded[0]).data


def test_our_transformers_take_giottos_diagrams():
    homology = pytest.importorskip("gtda.homology")
    theirs = pytest.importorskip("gtda.diagrams")
    X, _ = clouds(6)
    padded = homology.VietorisRipsPersistence().fit_transform(X)
    entropies = theirs.PersistenceEntropy().fit_transform(padded)
    np.testing.assert_allclose(gp.PersistenceEntropy().fit_transform(padded), entropies, rtol=1e-5)
    curves = theirs.BettiCurve(n_bins=50).fit_transform(padded)
    ours = BettiCurve(50).fit_transform(padded).reshape(6, 2, 50)
    # Of bars that end on a point of the grid the rounding of the grid decides.
    assert (ours != curves).mean() < 0.02
    landscapes = theirs.PersistenceLandscape(n_layers=2, n_bins=50).fit_transform(padded)
    ours = PersistenceLandscape(2, 50).fit_transform(padded)
    np.testing.assert_allclose(
        ours.reshape(6, 2, 2, 50), landscapes.reshape(6, 2, 2, 50), atol=1e-6
    )
    silhouettes = theirs.Silhouette(power=2.0, n_bins=50).fit_transform(padded)
    ours = Silhouette(2.0, 50).fit_transform(padded)
    np.testing.assert_allclose(ours.reshape(6, 2, 50), silhouettes, atol=1e-6)
