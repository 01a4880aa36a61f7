"""Ragged lists of clouds through scikit-learn's machinery: circles against clusters, or discs."""

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

import geomprobe as gp
from geomprobe.estimators import BettiCurve, PersistenceLandscape


def classifier(transformer):
    return make_pipeline(gp.RipsPersistence(), transformer, StandardScaler(), LogisticRegression())


def test_circles_and_clusters_are_told_apart(transformer, shapes):
    X, y = shapes(30)
    assert len({len(cloud) for cloud in X}) > 1
    assert cross_val_score(classifier(transformer), X, y, cv=3).mean() > 0.9


def test_processes_give_the_same(shapes):
    X, y = shapes(12)
    alone, together = (
        cross_val_predict(
            classifier(BettiCurve(7)), X, y, cv=3, n_jobs=n_jobs, method="decision_function"
        )
        for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(alone, together)


def test_a_grid_search_over_both_steps(shapes):
    # Components are spread alike in discs and on circles: it takes the loop.
    X, y = shapes(30, "discs")
    grid = {
        "ripspersistence__max_dim": [0, 1],
        "persistencelandscape__layers": [1, 2],
        "persistencelandscape__n_bins": [7],
    }
    search = GridSearchCV(classifier(PersistenceLandscape()), grid, cv=3).fit(X, y)
    assert search.best_params_["ripspersistence__max_dim"] == 1
    assert search.best_score_ > 0.8
    assert search.best_estimator_[1].get_params()["n_bins"] == 7
    assert len(search.cv_results_["params"]) == 4


def test_a_fitted_pipeline_is_kept_in_a_file(transformer, shapes, tmp_path):
    X, y = shapes(12)
    fitted = classifier(transformer).fit(X, y)
    joblib.dump(fitted, tmp_path / "pipeline")
    loaded = joblib.load(tmp_path / "pipeline")
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))


def test_cached_diagrams(shapes, tmp_path):
    X, _ = shapes(8)
    steps = gp.RipsPersistence(), BettiCurve(7)
    cached = make_pipeline(*steps, memory=str(tmp_path))
    expected = make_pipeline(*steps).fit_transform(X)
    for _ in range(2):
        np.testing.assert_array_equal(cached.fit_transform(X), expected)


def test_a_union_of_features_as_a_frame(shapes):
    pandas = pytest.importorskip("pandas")
    X, _ = shapes(6)
    union = make_union(gp.PersistenceEntropy(), BettiCurve(5))
    made = make_pipeline(gp.RipsPersistence(), union).set_output(transform="pandas")
    frame = made.fit_transform(X)
    assert isinstance(frame, pandas.DataFrame)
    assert frame.shape == (6, 2 + 10)
    assert list(frame.columns) == list(union.get_feature_names_out())
