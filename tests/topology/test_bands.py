import numpy as np
import pytest
from scipy.spatial.distance import cdist

from geomprobe.topology import bands as module
from geomprobe.topology import bottleneck_distance, rips_persistence
from geomprobe.topology.bands import bottleneck_band

# Adamaszek and Adams (2017), The Vietoris-Rips complexes of a circle: with distances in the plane,
# H1 of the whole unit circle lives from 0 to the side of the inscribed triangle.
CIRCLE = ([[0, np.inf]], [[0, np.sqrt(3)]])


def circle(n, rng):
    angles = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize("method", ["bottleneck", "hausdorff"])
def test_the_band_covers_the_diagrams_of_the_circle(method):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(40):
        band = bottleneck_band(circle(120, rng), level=0.8, n_replicates=9, method=method)
        error = max(map(bottleneck_distance, band.diagrams, CIRCLE))
        covered += error <= band.width
    assert covered >= 0.8 * 40


def test_the_band_certifies_the_loop_of_a_circle_and_one_component():
    band = bottleneck_band(circle(300, np.random.default_rng(0)), n_replicates=19)
    assert len(band.significant(1)) == 1
    assert len(band.significant(0)) == 1
    assert (band.level, band.method, band.size, band.n_replicates) == (0.95, "bottleneck", 100, 19)


def test_the_band_certifies_nothing_in_a_square():
    points = np.random.default_rng(0).uniform(size=(300, 2))
    band = bottleneck_band(points, n_replicates=19)
    assert len(band.diagrams[1]) > 10
    assert len(band.significant(1)) == 0


def test_the_width_is_twice_the_quantile_of_the_distances_to_subsets():
    points = circle(60, np.random.default_rng(1))
    whole = rips_persistence(points)
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(9):
        rows = rng.choice(60, 20, replace=False)
        drawn.append(max(map(bottleneck_distance, rips_persistence(points[rows]), whole)))
    band = bottleneck_band(points, level=0.8, n_replicates=9, seed=5)
    assert band.width == pytest.approx(2 * sorted(drawn)[7], rel=1e-6)


def test_the_hausdorff_width_is_four_times_the_quantile_of_the_covering_radii():
    points = circle(60, np.random.default_rng(1))
    rng = np.random.default_rng(5)
    radii = []
    for _ in range(9):
        radii.append(cdist(points, points[rng.choice(60, 12, replace=False)]).min(axis=1).max())
    band = bottleneck_band(points, level=0.8, n_replicates=9, seed=5, size=12, method="hausdorff")
    assert band.width == pytest.approx(4 * sorted(radii)[7], rel=1e-12)


def test_distances_may_be_given():
    points = circle(60, np.random.default_rng(1))
    options = {"n_replicates": 4, "level": 0.8}
    band = bottleneck_band(cdist(points, points), metric="precomputed", **options)
    assert band.width == pytest.approx(bottleneck_band(points, **options).width, rel=1e-6)


@pytest.mark.parametrize(("done", "kept"), [(4, 4), (3, None)])
def test_an_interruption_keeps_what_suffices(monkeypatch, done, kept):
    calls = []

    def impatient(first, second):
        calls.append(1)
        if len(calls) > 2 * done:
            raise KeyboardInterrupt
        return bottleneck_distance(first, second)

    monkeypatch.setattr(module, "bottleneck_distance", impatient)
    points = circle(40, np.random.default_rng(0))
    if kept is None:
        with pytest.raises(KeyboardInterrupt):
            bottleneck_band(points, level=0.8)
    else:
        assert bottleneck_band(points, level=0.8).n_replicates == kept


def test_the_plot_shows_the_band():
    pytest.importorskip("matplotlib").use("Agg")
    band = bottleneck_band(circle(60, np.random.default_rng(0)), n_replicates=19)
    labels = [text.get_text() for text in band.plot().get_legend().get_texts()]
    assert labels == ["H0", "H1", "95%"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bootstrap"}, "method must be one of"),
        ({"level": 1}, "level must be between 0 and 1"),
        ({"n_replicates": 18}, "takes 19 replicates or more, got 18"),
        ({"size": 20}, "from 2 to 19, fewer than the 20 points"),
        ({"size": 1}, "from 2 to 19"),
        ({"X": np.full((20, 2), np.nan)}, "NaN or infinity"),
        ({"metric": "precomputed", "X": 1 / np.eye(2).clip(0.5) - 1}, "fewer than the 2 points"),
        ({"max_dim": -1}, "max_dim"),
        ({"coeff": 4}, "prime"),
    ],
)
def test_bad_input_is_refused(options, message):
    points = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match=message):
        bottleneck_band(**{"X": points, **options})
