import signal

import joblib
import numpy as np
import pytest
from joblib._parallel_backends import ThreadingBackend
from scipy.sparse import coo_matrix
from scipy.spatial.distance import pdist, squareform

import geomprobe as gp
from geomprobe.estimators import rips
from geomprobe.exceptions import MemoryEstimateError
from geomprobe.topology import Diagrams, rips_persistence


@pytest.fixture
def asked(monkeypatch):
    """What the engine is asked for, one entry a cloud; threads see it, processes do not."""
    asked = []

    def persistence(cloud, **options):
        asked.append(options)
        return Diagrams((np.empty((0, 2)),))

    monkeypatch.setattr(rips, "rips_persistence", persistence)
    return asked


def test_diagrams_are_those_of_the_function(shapes):
    X, _ = shapes(4)
    expected = [rips_persistence(cloud) for cloud in X]
    assert gp.RipsPersistence().fit_transform(X) == expected
    assert gp.RipsPersistence(n_jobs=2).fit_transform(X) == expected


def test_every_way_to_hold_clouds():
    X = np.random.default_rng(0).normal(size=(3, 10, 2)).astype(np.float32)
    expected = gp.RipsPersistence().fit_transform(X)
    assert gp.RipsPersistence().fit_transform(list(X)) == expected
    assert gp.RipsPersistence().fit_transform([gp.PointCloud(x) for x in X]) == expected


def test_precomputed_distances_dense_and_sparse(shapes):
    X, _ = shapes(2)
    distances = [squareform(pdist(cloud)) for cloud in X]
    sparse = [coo_matrix(one) for one in distances]
    points = gp.RipsPersistence().fit_transform(X)
    for given in (distances, sparse):
        found = gp.RipsPersistence(metric="precomputed").fit_transform(given)
        for one, other in zip(found, points, strict=True):
            for dim in range(2):
                np.testing.assert_allclose(np.sort(one[dim], 0), np.sort(other[dim], 0), rtol=1e-6)


def test_options_reach_the_function(asked, shapes):
    options = {
        "max_dim": 2,
        "metric": "cityblock",
        "threshold": 3.0,
        "coeff": 3,
        "engine": "ripser",
        "time_limit": 60.0,
        "memory_limit": 2**30,
    }
    gp.RipsPersistence(**options).fit_transform(shapes(2)[0])
    assert asked == 2 * [options | {"n_jobs": None}]


def test_cores_are_taken_by_clouds_or_by_engines(asked, shapes):
    X, _ = shapes(3)
    with joblib.parallel_config(backend="threading"):
        gp.RipsPersistence(n_jobs=2).fit_transform(X)
        gp.RipsPersistence(n_jobs=2).fit_transform(X[:1])
        joblib.Parallel(n_jobs=2)(
            joblib.delayed(gp.RipsPersistence().fit_transform)(X[:1]) for _ in range(2)
        )
    assert [one["n_jobs"] for one in asked] == [1, 1, 1, None, 1, 1]


class AllAtTheEnd(ThreadingBackend):
    """As multiprocessing and ray, which hang or take long in a process with threads."""

    supports_return_generator = False


def test_other_backends_of_joblib(shapes):
    X, _ = shapes(3)
    expected = [rips_persistence(one) for one in X]
    joblib.register_parallel_backend("all-at-the-end", AllAtTheEnd)
    for backend in ("threading", "all-at-the-end"):
        with joblib.parallel_config(backend=backend, n_jobs=2):
            assert gp.RipsPersistence().fit_transform(X) == expected


@pytest.fixture
def hears_interrupts():
    """Python as in a terminal: started in the background of a shell, it ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_interrupts")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_interrupt_hands_over_what_is_done(n_jobs, shapes, monkeypatch):
    def interrupted(cloud, **options):
        if cloud is X[3]:
            signal.raise_signal(signal.SIGINT)
        return rips_persistence(cloud)

    X, _ = shapes(6)
    monkeypatch.setattr(rips, "rips_persistence", interrupted)
    with joblib.parallel_config(backend="threading"), pytest.raises(KeyboardInterrupt) as caught:
        gp.RipsPersistence(n_jobs=n_jobs).fit_transform(X)
    done = caught.value.done
    assert str(caught.value) == f"{len(done)} of 6 clouds were done"
    assert len(done) == 3 if n_jobs == 1 else len(done) <= 4
    monkeypatch.undo()
    assert done == gp.RipsPersistence().fit_transform(X)[: len(done)]


def test_a_failure_names_the_cloud():
    X = [np.eye(3), np.full((3, 3), np.nan)]
    with pytest.raises(ValueError, match="cloud 1: 3 of 3 rows hold NaN"):
        gp.RipsPersistence().transform(X)
    large = [np.random.default_rng(0).normal(size=(60, 3))]
    with pytest.raises(MemoryEstimateError, match="cloud 0: "):
        gp.RipsPersistence(memory_limit=1000).transform(large)
    with pytest.raises(TimeoutError, match="cloud 0: "):
        gp.RipsPersistence(time_limit=1e-3).transform(large)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_dim": -1}, "max_dim must be"),
        ({"coeff": 4}, "coeff must be a prime"),
        ({"threshold": 0.0}, "threshold must be positive"),
        ({"engine": "dionysus"}, "engine must be 'auto' or one of"),
        ({"metric": "euclidian"}, "one of .*'cosine'.*'euclidian'. Did you mean 'euclidean'"),
    ],
)
def test_parameters_out_of_range_are_refused_in_fit(parameters, message):
    with pytest.raises(ValueError, match=message):
        gp.RipsPersistence(**parameters).fit([np.eye(3)])


def test_metrics_by_scipys_other_names_are_known():
    gp.RipsPersistence(metric="cb").fit([np.eye(3)])


def test_what_is_no_list_of_clouds_is_refused():
    with pytest.raises(ValueError, match=r"entry 0 has shape \(2,\); for one cloud pass \[cloud\]"):
        gp.RipsPersistence().fit(np.zeros((3, 2)))
    with pytest.raises(TypeError, match="for one cloud pass"):
        gp.RipsPersistence().fit(gp.PointCloud(np.zeros((3, 2))))
    with pytest.raises(TypeError, match=r"got CloudSet.*list\(clouds.values\(\)\)"):
        gp.RipsPersistence().fit(gp.CloudSet([gp.PointCloud(np.zeros((3, 2)), layer="a")]))
    with pytest.raises(TypeError, match="got list_iterator"):
        gp.RipsPersistence().fit(iter([np.zeros((3, 2))]))
    with pytest.raises(TypeError, match="got int"):
        gp.RipsPersistence().fit(3)
    with pytest.raises(ValueError, match="no clouds"):
        gp.RipsPersistence().transform([])
