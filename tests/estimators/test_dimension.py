import math

import numpy as np
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union

import geomprobe as gp
from geomprobe import representation
from geomprobe.estimators import IntrinsicDimension, LinearDimension

INTRINSIC = ("two_nn", "levina_bickel", "local_pca")
LINEAR = ("participation_ratio", "rank_me", "alpha_req")
SCIKIT_LEARN = tuple(int(number) for number in sklearn.__version__.split(".")[:2])


def clouds(count=4, n=60):
    """Squares and cubes in turn, of different widths."""
    rng = np.random.default_rng(0)
    return [
        rng.uniform(size=(n, 2 + i % 2)) @ rng.normal(size=(2 + i % 2, 8 + i)) for i in range(count)
    ]


@pytest.mark.parametrize("method", [*INTRINSIC, *LINEAR])
def test_numbers_are_those_of_the_functions(method):
    # Within clouds of eight dimensions, so that alpha-ReQ has a spectrum.
    X = [np.random.default_rng(seed).normal(size=(60, 8)) for seed in range(3)]
    options, transformer = {"k": 9, "seed": 5}, IntrinsicDimension
    if method in LINEAR:
        transformer = LinearDimension
    if method not in ("levina_bickel", "local_pca"):
        del options["k"]
    made = transformer(method, stderr=True, random_state=5)
    if "k" in options:
        made.set_params(n_neighbors=9)
    found = [getattr(representation, method)(one, **options) for one in X]
    np.testing.assert_array_equal(made.fit_transform(X), [(e.value, e.stderr) for e in found])
    assert made.get_feature_names_out().tolist() == [method, f"{method}_stderr"]
    assert made.set_params(stderr=False).transform(X).tolist() == [[e.value] for e in found]


def test_gride_has_a_feature_a_scale_and_fills_those_beyond_the_points():
    X = [*clouds(2), clouds(1, n=12)[0]]
    made = IntrinsicDimension("gride", n_neighbors=40, stderr=True, fill_value=-1.0)
    found = made.fit_transform(X)
    names = [f"gride_{scale}" for scale in (2, 4, 8, 16, 32)]
    assert list(made.get_feature_names_out()) == [*names, *(f"{name}_stderr" for name in names)]
    for row, cloud in zip(found, X, strict=True):
        scan = representation.gride(cloud, largest=40)
        np.testing.assert_array_equal(row[: len(scan.orders)], scan.dimensions)
        np.testing.assert_array_equal(row[5 : 5 + len(scan.orders)], scan.stderrs)
    assert found[2, 3:5].tolist() == [-1, -1]
    assert np.isnan(found[2, 8:]).all()


def test_every_way_to_hold_clouds_and_jobs():
    X = np.random.default_rng(0).normal(size=(3, 40, 2)).astype(np.float32)
    expected = IntrinsicDimension().fit_transform(X)
    for given in (list(X), [gp.PointCloud(x) for x in X]):
        np.testing.assert_array_equal(IntrinsicDimension().fit_transform(given), expected)
    np.testing.assert_array_equal(IntrinsicDimension(n_jobs=2).fit_transform(X), expected)


def test_a_lattice_has_no_dimension():
    lattice = np.stack(np.meshgrid(*[np.arange(8.0)] * 2), axis=-1).reshape(-1, 2)
    assert np.isnan(IntrinsicDimension().fit_transform([lattice])).all()
    filled = IntrinsicDimension(fill_value=0.0, stderr=True).fit_transform([lattice])
    np.testing.assert_array_equal(filled, [[0.0, math.nan]])
    assert LinearDimension("alpha_req", fill_value=9.0).fit_transform([lattice]) == [[9.0]]


def test_a_union_in_a_pipeline_tells_squares_from_cubes():
    X, y = clouds(24), np.arange(24) % 2
    union = make_union(IntrinsicDimension(), LinearDimension())
    search = GridSearchCV(
        make_pipeline(union, LogisticRegression()),
        {"featureunion__intrinsicdimension__method": ["local_pca", "two_nn"]},
        cv=3,
    )
    assert search.fit(X, y).best_score_ == 1


@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_frames(frame):
    module = pytest.importorskip(frame)
    if frame == "polars" and SCIKIT_LEARN < (1, 4):
        pytest.skip("scikit-learn makes polars frames from 1.4 on")
    X = clouds()
    made = IntrinsicDimension("gride", n_neighbors=4).set_output(transform=frame)
    table = made.fit_transform(X)
    assert isinstance(table, module.DataFrame)
    assert list(table.columns) == ["gride_2", "gride_4"]


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (IntrinsicDimension("pca"), r"one of \('two_nn', 'gride', .* got 'pca'"),
        (LinearDimension("two_nn"), r"one of \('participation_ratio', .* got 'two_nn'"),
        (IntrinsicDimension("levina_bickel", n_neighbors=2), "at least 3 for 'levina_bickel'"),
        (IntrinsicDimension("gride", n_neighbors=1), "at least 2 for 'gride', got 1"),
        (IntrinsicDimension(n_neighbors=2.5), "whole number from 1, got 2.5"),
    ],
)
def test_parameters_out_of_range_are_refused_in_fit(transformer, message):
    with pytest.raises(ValueError, match=message):
        transformer.fit(clouds(1))


def test_what_is_no_cloud_is_refused_and_a_failure_names_it():
    with pytest.raises(TypeError, match=r"for one cloud pass \[cloud\]"):
        LinearDimension().fit(gp.PointCloud(np.zeros((3, 2))))
    with pytest.raises(ValueError, match="cloud 1: TwoNN needs at least 20 distinct points"):
        IntrinsicDimension().transform([clouds(1)[0], np.eye(5)])
