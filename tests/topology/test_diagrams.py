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
        return np.array([[b, b + s] for b, s in zip(births, spans, strict=True)]).reshape(-1, 2)

    return Diagrams((dgm(), dgm()))


@given(st.lists(diagrams(), min_size=1, max_size=4))
@settings(deadline=None)
def test_the_round_trip_through_giottos_array(collection):
    array = to_giotto(collection)
    assert array.shape[::2] == (len(collection), 3)
    for dim in (0, 1):
        largest = max(1, *(len(one[dim]) for one in collection), 0)
        assert (array[0, :, 2] == dim).sum() == largest
    back = from_giotto(array)
    for before, after in zip(collection, back, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_infinite_bars_are_left_out_or_given_a_death():
    one = Diagrams(([[0, 1], [0, INF]], []))
    assert to_giotto([one])[0].tolist() == [[0, 1, 0], [0, 0, 1]]
    assert to_giotto([one], infinity_value=9)[0].tolist() == [[0, 1, 0], [0, 9, 0], [0, 0, 1]]


def test_giotto_tda_accepts_ours_and_we_accept_theirs():
    homology = pytest.importorskip("gtda.homology")
    gtda_diagrams = pytest.importorskip("gtda.diagrams")
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(20, 2)) for _ in range(3)]
    theirs = homology.VietorisRipsPersistence().fit_transform(clouds)
    ours = [rips_persistence(cloud) for cloud in clouds]
    distance = gtda_diagrams.PairwiseDistance("bottleneck", order=None)
    both = np.concatenate([_padded(theirs, 60), _padded(to_giotto(ours), 60)])
    assert np.abs(distance.fit_transform(both)[:3, 3:].diagonal()).max() < 1e-6
    for a, b in zip(ours, from_giotto(theirs), strict=True):
        for dim in (0, 1):
            mine, other = a.finite(dim), b[dim]
            assert np.allclose(mine[np.lexsort(mine.T)], other[np.lexsort(other.T)], atol=1e-6)


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
