import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomprobe.topology import Diagrams, from_giotto, rips_persistence, to_giotto

mpl.use("agg")

INF = np.inf


@st.composite
def diagrams(draw):
    def dgm():
        n = draw(st.integers(0, 5))
        births = draw(st.lists(st.floats(0, 10), min_size=n, max_size=n))
        spans = draw(st.lists(st.floats(0.01, 10), min_size=n, max_size=n))
        spans = [draw(st.sampled_from([span, INF])) for span in spans]
        return np.array([[b, b + s] for b, s in zip(births, spans, strict=True)]).reshape(-1, 2)

    return Diagrams((dgm(), dgm()))


@given(st.lists(diagrams(), min_size=1, max_size=4), st.sampled_from([99.0, INF]))
@settings(deadline=None)
def test_the_round_trip_through_giottos_array(collection, infinity_value):
    array = to_giotto(collection, infinity_value=infinity_value)
    assert array.shape[::2] == (len(collection), 3)
    for dim in (0, 1):
        largest = max(1, *(len(one[dim]) for one in collection), 0)
        assert (array[0, :, 2] == dim).sum() == largest
    back = from_giotto(array, infinity_value=infinity_value)
    for before, after in zip(collection, back, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    without = from_giotto(to_giotto(collection))
    for before, after in zip(collection, without, strict=True):
        assert all(np.array_equal(before.finite(dim), after[dim]) for dim in (0, 1))


def test_infinite_bars_are_left_out_or_given_a_death():
    one = Diagrams(([[0, 1], [0, INF]], []))
    assert to_giotto([one])[0].tolist() == [[0, 1, 0], [0, 0, 1]]
    assert to_giotto([one], infinity_value=9)[0].tolist() == [[0, 1, 0], [0, 9, 0], [0, 0, 1]]


CLOUDS = [np.random.default_rng(i).normal(size=(20, 2)) for i in range(3)]


def test_giotto_tda_accepts_ours_and_we_accept_theirs():
    homology = pytest.importorskip("gtda.homology")
    gtda_diagrams = pytest.importorskip("gtda.diagrams")
    theirs = homology.VietorisRipsPersistence().fit_transform(CLOUDS)
    ours = [rips_persistence(cloud) for cloud in CLOUDS]
    distance = gtda_diagrams.PairwiseDistance("bottleneck", order=None)
    both = np.concatenate([_padded(theirs, 60), _padded(to_giotto(ours), 60)])
    assert np.abs(distance.fit_transform(both)[:3, 3:].diagonal()).max() < 1e-6
    for a, b in zip(ours, from_giotto(theirs), strict=True):
        for dim in (0, 1):
            mine, other = a.finite(dim), b[dim]
            assert np.allclose(mine[np.lexsort(mine.T)], other[np.lexsort(other.T)], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Amplitude", {"metric": "persistence_image", "order": None}),
        ("BettiCurve", {}),
        ("ComplexPolynomial", {}),
        ("Filtering", {"epsilon": 0.1}),
        ("HeatKernel", {"n_bins": 9}),
        ("NumberOfPoints", {}),
        ("PairwiseDistance", {"metric": "wasserstein"}),
        ("PersistenceEntropy", {}),
        ("PersistenceImage", {"n_bins": 9}),
        ("PersistenceLandscape", {}),
        ("Scaler", {}),
        ("Silhouette", {}),
    ],
)
def test_giottos_transformers_give_the_same_for_ours_as_for_theirs(name, options):
    homology = pytest.importorskip("gtda.homology")
    transformer = getattr(pytest.importorskip("gtda.diagrams"), name)(**options)
    theirs = homology.VietorisRipsPersistence().fit_transform(CLOUDS)
    ours = to_giotto([rips_persistence(cloud) for cloud in CLOUDS])
    one, other = (transformer.fit_transform(array) for array in (ours, theirs))
    if name in ("Filtering", "Scaler"):  # Diagrams again, with their bars in some order.
        one, other = (np.sort(_padded(array, 60), axis=1) for array in (one, other))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_what_giotto_cuts_comes_back_as_infinite():
    homology = pytest.importorskip("gtda.homology")
    options = {"max_edge_length": 0.8, "infinity_values": 5.0, "reduced_homology": False}
    theirs = homology.VietorisRipsPersistence(**options).fit_transform(CLOUDS)
    found = from_giotto(theirs, infinity_value=5.0)
    for cloud, one in zip(CLOUDS, found, strict=True):
        expected = rips_persistence(cloud, threshold=0.8)
        for dim in (0, 1):
            assert np.isinf(one[dim]).sum() == np.isinf(expected[dim]).sum()
            np.testing.assert_allclose(
                np.sort(one.finite(dim), axis=0), np.sort(expected.finite(dim), axis=0), atol=1e-6
            )
    assert sum(np.isinf(one[0]).sum() for one in found) > 3


def test_giottos_plots_show_every_bar_of_ours():
    plotting = pytest.importorskip("gtda.plotting")
    homology = pytest.importorskip("gtda.homology")
    ours = [rips_persistence(cloud) for cloud in CLOUDS]
    array = to_giotto(ours)
    for figure in (
        plotting.plot_diagram(array[0]),
        homology.VietorisRipsPersistence.plot(array, sample=0),
    ):
        shown = {trace.name: trace for trace in figure.data if trace.name}
        for dim in (0, 1):
            pairs = {tuple(row) for row in np.round(ours[0].finite(dim), 9)}
            drawn = zip(shown[f"H{dim}"].x, shown[f"H{dim}"].y, strict=True)
            assert pairs <= {tuple(row) for row in np.round(list(drawn), 9)}


def _padded(array, rows):
    """Bring every dimension to the same number of rows, as giotto-tda wants of one array."""
    blocks = []
    for dim in (0, 1):
        block = array[:, array[0, :, 2] == dim]
        pad = np.zeros((len(array), rows - block.shape[1], 3))
        pad[:, :, 2] = dim
        blocks.append(np.concatenate([block, pad], axis=1))
    return np.concatenate(blocks, axis=1)


def test_the_conventions_of_gudhi_and_persim():
    one = Diagrams(([[0, 1], [0, INF]], [[2, 3]]))
    assert one.to_gudhi() == [(0, (0, 1)), (0, (0, INF)), (1, (2, 3))]
    assert [dgm.tolist() for dgm in one.to_persim()] == [[[0, 1]], [[2, 3]]]
    assert one.lifetimes(0).tolist() == [1, INF]
    assert len(one) == 2


def test_the_picture_shows_every_bar():
    one = Diagrams(([[0, 1], [0, INF]], [[2, 3]]))
    axes = one.plot()
    offsets = [collection.get_offsets() for collection in axes.collections]
    assert [len(points) for points in offsets] == [2, 1]
    assert offsets[0][1, 1] > 3
    Diagrams(([], [])).plot()


def test_arrays_that_are_no_diagrams_are_refused():
    with pytest.raises(ValueError, match=r"got shape \(2, 3\)"):
        from_giotto(np.zeros((2, 3)))
    for row in ([0, 1, -1], [0, 1, 0.5], [0, np.nan, 0]):
        with pytest.raises(ValueError, match="without NaN and with whole dimensions from 0"):
            from_giotto([[row]])
    with pytest.raises(ValueError, match=r"shape \(n, 2\).*got \(2, 4\)"):
        Diagrams((np.zeros((2, 4)),))
    with pytest.raises(ValueError, match="no diagrams"):
        to_giotto([])
    with pytest.raises(ValueError, match="same homology dimensions"):
        to_giotto([Diagrams(([],)), Diagrams(([], []))])
