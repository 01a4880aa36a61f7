import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

import geomprobe as gp
from geomprobe.topology import rips_persistence, to_giotto


def clouds(count=24, seed=0):
    """Noisy circles and discs of 20 to 30 points, and which is which."""
    rng = np.random.default_rng(seed)
    made, labels = [], np.arange(count) % 2
    for label in labels:
        angle = rng.uniform(0, 2 * np.pi, rng.integers(20, 31))
        radius = 1 if label else np.sqrt(rng.uniform(0, 1, len(angle)))
        made.append(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
    return made, labels


def pipeline():
    return make_pipeline(gp.RipsPersistence(), gp.PersistenceEntropy(), LogisticRegression())


def test_diagrams_are_those_of_the_function():
    X, _ = clouds(4)
    for cloud, diagrams in zip(X, gp.RipsPersistence().fit_transform(X), strict=True):
        assert diagrams == rips_persistence(cloud)
    parallel = gp.RipsPersistence(n_jobs=2).fit_transform(X)
    assert parallel == gp.RipsPersistence().fit_transform(X)


def test_every_way_to_hold_clouds():
    X = np.random.default_rng(0).normal(size=(3, 10, 2)).astype(np.float32)
    expected = gp.RipsPersistence().fit_transform(X)
    assert gp.RipsPersistence().fit_transform(list(X)) == expected
    assert gp.RipsPersistence().fit_transform([gp.PointCloud(x) for x in X]) == expected


def test_ragged_clouds_through_pipeline_cross_validation_and_grid_search():
    X, y = clouds()
    assert cross_val_score(pipeline(), X, y, cv=3).mean() > 0.8
    search = GridSearchCV(pipeline(), {"ripspersistence__max_dim": [0, 1]}, cv=3).fit(X, y)
    assert search.best_params_ == {"ripspersistence__max_dim": 1}


def test_entropies_of_ours_and_of_giottos_array_are_the_same():
    X, _ = clouds(5)
    diagrams = gp.RipsPersistence().fit_transform(X)
    ours = gp.PersistenceEntropy().fit_transform(diagrams)
    assert ours.shape == (5, 2)
    assert np.allclose(ours, gp.PersistenceEntropy().fit_transform(to_giotto(diagrams)))


def test_diagrams_without_bars_get_the_fill_value():
    line = [np.arange(5.0)[:, None]]
    diagrams = gp.RipsPersistence().fit_transform(line)
    assert gp.PersistenceEntropy(fill_value=-1).fit_transform(diagrams).tolist() == [[2.0, -1.0]]


def test_normalized_entropies():
    diagrams = gp.RipsPersistence().fit_transform([2 * np.eye(4)])
    # Three bars of length 2 sqrt 2 have log2 3 bits.
    expected = np.log2(3) / np.log2(6 * np.sqrt(2))
    found = gp.PersistenceEntropy(normalize=True).fit_transform(diagrams)
    assert np.allclose(found, [[expected, 0]], rtol=1e-6)


def test_scikit_learn_is_told_that_samples_are_no_rows():
    for estimator in (gp.RipsPersistence(), gp.PersistenceEntropy()):
        try:
            from sklearn.utils import get_tags
        except ImportError:  # before scikit-learn 1.6
            assert estimator._get_tags()["X_types"] == ["3darray"]
        else:
            tags = get_tags(estimator).input_tags
            assert (tags.two_d_array, tags.three_d_array) == (False, True)


def test_names_and_pandas_output():
    X, _ = clouds(3)
    made = make_pipeline(gp.RipsPersistence(), gp.PersistenceEntropy())
    frame = made.set_output(transform="pandas").fit_transform(X)
    assert list(frame.columns) == ["h0_entropy", "h1_entropy"]
    assert len(frame) == 3


@pytest.mark.parametrize(
    "estimator",
    [gp.RipsPersistence(max_dim=2, metric="cityblock", threshold=3.0, coeff=3, n_jobs=2),
     gp.PersistenceEntropy(normalize=True, fill_value=-1.0)],
    ids=["rips", "entropy"],
)  # fmt: skip
def test_parameters_are_stored_untouched_and_cloned(estimator):
    parameters = estimator.get_params()
    assert clone(estimator).get_params() == parameters
    assert all(getattr(estimator, name) is value for name, value in parameters.items())
    assert not [name for name in vars(estimator) if name.endswith("_")]
    assert estimator.set_params(**parameters) is estimator


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"entry 0 has shape \(2,\); for one cloud pass \[cloud\]"):
        gp.RipsPersistence().fit(np.zeros((3, 2)))
    with pytest.raises(TypeError, match="for one cloud pass"):
        gp.RipsPersistence().fit(gp.PointCloud(np.zeros((3, 2))))
    with pytest.raises(TypeError, match=r"got CloudSet.*list\(clouds.values\(\)\)"):
        gp.RipsPersistence().fit(gp.CloudSet([gp.PointCloud(np.zeros((3, 2)), layer="a")]))
    with pytest.raises(ValueError, match="no clouds"):
        gp.RipsPersistence().transform([])
    with pytest.raises(ValueError, match="list of Diagrams"):
        gp.PersistenceEntropy().fit([np.zeros((3, 2))])
    with pytest.raises(ValueError, match="list of Diagrams"):
        gp.PersistenceEntropy().fit(np.zeros((0, 3, 3)))
    fitted = gp.PersistenceEntropy().fit(gp.RipsPersistence(0).transform([np.eye(3)]))
    with pytest.raises(ValueError, match="fitted to diagrams of 1 homology dimensions, got 2"):
        fitted.transform(gp.RipsPersistence(1).transform([np.eye(3)]))
