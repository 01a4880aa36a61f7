"""Landscapes, silhouettes and images by hand, and against giotto-tda and persim."""

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomprobe.topology import Diagrams, rips_persistence
from geomprobe.topology.distances import bottleneck_distance
from geomprobe.topology.landscapes import (
    average_landscape,
    landscape,
    landscapes,
    persistence_image,
    silhouette,
    silhouettes,
)

INF = np.inf
BARS = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), max_size=8).map(
    lambda rows: np.array([(birth, birth + length) for birth, length in rows]).reshape(-1, 2)
)
# Tents of heights 2 at 2, 1 at 3, and 1/2 at 8.5; what never dies or lasts no time has none.
BY_HAND = [[0, 4], [2, 4], [8, 9], [1, INF], [5, 5]]


def test_landscapes_by_hand():
    grid = [0, 1, 2, 2.5, 3, 3.5, 4, 8.5, 20]
    layers = landscape(BY_HAND, grid, 4)
    assert layers.tolist() == [
        [0, 1, 2, 1.5, 1, 0.5, 0, 0.5, 0],
        [0, 0, 0, 0.5, 1, 0.5, 0, 0, 0],
        [0] * 9,
        [0] * 9,
    ]
    assert landscape([], grid, 2).tolist() == [[0] * 9] * 2


@pytest.mark.parametrize(("power", "weights"), [(0, (1, 1, 1)), (1, (4, 2, 1)), (2, (16, 4, 1))])
def test_silhouettes_by_hand(power, weights):
    expected = np.array([2 * weights[0], weights[0] + weights[1], weights[2] / 2]) / sum(weights)
    assert silhouette(BY_HAND, [2, 3, 8.5], power) == pytest.approx(expected)
    assert silhouette([[1, INF]], [2, 3], power).tolist() == [0, 0]


def test_a_large_power_leaves_the_longest_bar():
    tent = landscape(BY_HAND, np.linspace(0, 9, 10))[0] * (np.linspace(0, 9, 10) < 5)
    assert np.allclose(silhouette(BY_HAND, np.linspace(0, 9, 10), 2000), tent)


@settings(deadline=None)
@given(BARS, BARS)
def test_landscapes_are_stable(first, second):
    # Bubenik (2015): no layer moves further than the bottleneck distance.
    grid = np.linspace(0, 15, 61)
    moved = np.abs(landscape(first, grid, 8) - landscape(second, grid, 8)).max()
    assert moved <= bottleneck_distance(first, second) + 1e-9


def test_an_image_integrates_its_gaussians():
    # All of both Gaussians, each by its lifetime squared; then a quarter of one.
    wide = persistence_image([[1, 3], [2, 3], [0, INF]], [-50, 50], [-50, 50], sigma=1, power=2)
    assert wide == pytest.approx(np.array([[5.0]]))
    quarter = persistence_image([[1, 3]], [1, 50], [2, 50], sigma=0.5)
    assert quarter == pytest.approx(np.array([[0.5]]))
    one = persistence_image([[0, 1]], [-0.1, 0.1], [0.9, 1.0, 1.1], sigma=1.0)
    # A pixel of 0.2 by 0.1 in the middle of a standard Gaussian of the plane: area / 2 pi.
    assert one == pytest.approx(np.full((1, 2), 0.02 / (2 * np.pi)), rel=4e-3)
    assert persistence_image([], [0, 1], [0, 1, 2], sigma=1).tolist() == [[0, 0]]


def test_persim_makes_the_same_image():
    persim = pytest.importorskip("persim")
    dgm = rips_persistence(np.random.default_rng(0).normal(size=(40, 3)))[1]
    imager = persim.PersistenceImager(
        birth_range=(0, 2), pers_range=(0, 1), pixel_size=0.1, kernel_params={"sigma": 0.03}
    )
    ours = persistence_image(dgm, np.linspace(0, 2, 21), np.linspace(0, 1, 11), sigma=np.sqrt(0.03))
    assert np.allclose(ours, imager.transform(dgm), atol=1e-12)


def test_persim_makes_the_same_landscape():
    persim = pytest.importorskip("persim")
    dgm = rips_persistence(np.random.default_rng(1).normal(size=(40, 3)))[1]
    theirs = persim.PersLandscapeApprox(dgms=[dgm], hom_deg=0, start=0, stop=3, num_steps=301)
    layers = len(theirs.values)
    assert layers > 2
    # persim moves births and deaths to its grid, by half a step of 0.01 at most.
    ours = landscape(dgm, np.linspace(0, 3, 301), layers)
    assert np.abs(ours - theirs.values).max() < 0.011
    exact = persim.PersLandscapeExact(dgms=[dgm], hom_deg=0)
    corners = np.array(exact.critical_pairs[0])
    assert np.allclose(landscape(dgm, corners[:, 0])[0], corners[:, 1], atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_giotto_tda_computes_the_same(seed):
    pytest.importorskip("gtda")
    diagrams = rips_persistence(np.random.default_rng(seed).normal(size=(40, 3)))
    grid = np.linspace(0, 3, 101)
    for layers in (1, 5, 60):
        ours, theirs = (landscapes(diagrams, grid, layers, giotto=g) for g in (False, True))
        assert ours.shape == (2, layers, 101)
        assert np.allclose(ours, theirs, atol=1e-12)
    for power in (0.5, 1, 3):
        ours, theirs = (silhouettes(diagrams, grid, power, giotto=g) for g in (False, True))
        assert np.allclose(ours, theirs, atol=1e-12)


def test_padding_has_no_say_at_power_0():
    # giotto-tda weights the bars of length zero that it pads with like all others there.
    diagrams = Diagrams(([[0, 1], [0, 2], [0, 3]], [[1, 2]]))
    assert silhouettes(diagrams, [1.0, 1.5, 2.0], 0)[1] == pytest.approx([0, 0.5, 0])


def test_giotto_tda_makes_about_the_same_image():
    gtda = pytest.importorskip("gtda.diagrams")
    dgm = rips_persistence(np.random.default_rng(2).normal(size=(60, 3)))[1]
    low, high, longest = dgm[:, 0].min(), dgm[:, 0].max(), np.diff(dgm).max()
    shortest = np.diff(dgm).min()
    imager = gtda.PersistenceImage(sigma=0.1, n_bins=200, weight_function=np.array)
    one = np.concatenate([dgm, np.ones((len(dgm), 1))], axis=1)[None]
    theirs = np.rot90(imager.fit_transform(one)[0, 0], k=-1)
    births, lifetimes = np.linspace(low, high, 200), np.linspace(shortest, longest, 200)
    half = np.array([births[1] - births[0], lifetimes[1] - lifetimes[0]]) / 2
    ours = persistence_image(
        dgm,
        np.append(births - half[0], births[-1] + half[0]),
        np.append(lifetimes - half[1], lifetimes[-1] + half[1]),
        sigma=0.1,
    ) / (4 * half.prod())
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999
    assert np.abs(ours - theirs).max() < 0.05 * ours.max()


def test_every_dimension_has_its_own():
    diagrams = Diagrams((BY_HAND, [[1, 2]], []))
    grid = np.linspace(0, 9, 19)
    both = landscapes(diagrams, grid, 2, giotto=False)
    assert np.array_equal(both[1], landscape([[1, 2]], grid, 2))
    assert not both[2].any()
    assert np.array_equal(silhouettes(diagrams, grid, giotto=False)[0], silhouette(BY_HAND, grid))


def circle(n, seed):
    angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_the_average_is_that_of_the_subsets():
    points, grid = circle(80, 0), np.linspace(0, 2, 21)
    found = average_landscape(points, size=20, n_subsets=7, layers=2, grid=grid, seed=3)
    rng = np.random.default_rng(3)
    drawn = [rips_persistence(points[rng.choice(80, 20, replace=False)])[1] for _ in range(7)]
    curves = np.array([landscape(dgm, grid, 2) for dgm in drawn])
    assert np.allclose(found.mean, curves.mean(axis=0))
    assert np.allclose(found.stderr, curves.std(axis=0, ddof=1) / 7**0.5)
    # The 97.5 % quantile of Student's t with 6 degrees of freedom, from a table.
    assert np.allclose(found.upper - found.mean, 2.4469 * found.stderr, atol=1e-4)
    assert (found.lower >= 0).all()
    assert found == average_landscape(points, size=20, n_subsets=7, layers=2, grid=grid, seed=3)
    whole = average_landscape(points, size=80, n_subsets=2)
    assert whole.stderr.max() < 1e-6
    assert whole.grid[-1] == pytest.approx(rips_persistence(points)[1].max())


@pytest.mark.long
def test_the_band_covers_at_its_level():
    points, grid = circle(60, 1), np.array([1.3, 1.4, 1.5])
    options = {"size": 15, "grid": grid, "level": 0.9}
    truth = average_landscape(points, n_subsets=1500, seed=99, **options)
    covered = np.zeros(3)
    for seed in range(80):
        band = average_landscape(points, n_subsets=20, seed=seed, **options)
        # The truth has an error of its own, a tenth of the band's.
        covered += ((band.lower <= truth.mean) & (truth.mean <= band.upper))[0]
    # Three binomial errors of 0.034.
    assert (np.abs(covered / 80 - 0.9) < 0.1).all()


def test_an_outlier_that_few_subsets_hold_matters_little():
    # Chazal et al. (2015): the landscape of the whole breaks down, the average does not.
    points, grid = circle(300, 2), np.linspace(0, 2, 41)
    spoiled = np.concatenate([points, [[0.0, 0.0]]])
    of_all = [landscape(rips_persistence(p)[1], grid)[0] for p in (points, spoiled)]
    averages = [average_landscape(p, size=40, grid=grid).mean[0] for p in (points, spoiled)]
    assert np.abs(averages[0] - averages[1]).max() < 0.3 * np.abs(of_all[0] - of_all[1]).max()


def test_the_picture_has_a_line_and_a_band_a_layer():
    import matplotlib

    matplotlib.use("Agg")
    axes = average_landscape(circle(40, 3), size=20, n_subsets=4, layers=2).plot()
    assert len(axes.lines) == len(axes.collections) == 2
    assert axes.get_xlabel() == "scale"


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupt_returns_what_is_done(monkeypatch, after):
    done = []

    def interrupted(*arguments, **options):
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(rips_persistence(*arguments, **options))
        return done[-1]

    monkeypatch.setattr(
        import_module("geomprobe.topology.landscapes"), "rips_persistence", interrupted
    )
    if after < 2:
        with pytest.raises(KeyboardInterrupt):
            average_landscape(circle(40, 4), size=10)
    else:
        assert average_landscape(circle(40, 4), size=10).n_subsets == 3


def test_bad_input_is_refused():
    points = circle(10, 5)
    for bad in ({"size": 11}, {"size": 1}):
        with pytest.raises(ValueError, match="size must be from 2 to the 10 points"):
            average_landscape(points, **bad)
    for bad in ({"n_subsets": 1}, {"dim": -1}, {"layers": 0}, {"level": 1.0}):
        with pytest.raises(ValueError, match="n_subsets must be at least 2"):
            average_landscape(points, size=5, **bad)
    with pytest.raises(ValueError, match="layers must be at least 1"):
        landscape([], [0], 0)
    with pytest.raises(ValueError, match=r"grid must have shape \(m,\)"):
        landscape([], [[0]])
    with pytest.raises(ValueError, match="power cannot be negative"):
        silhouette([], [0], -1)
    with pytest.raises(ValueError, match="sigma and power must be positive"):
        persistence_image([], [0, 1], [0, 1], sigma=0)
    with pytest.raises(ValueError, match="lifetimes must be two edges"):
        persistence_image([], [0, 1], [1, 0], sigma=1)
