import io

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from tqdm import tqdm

from geomprobe.topology import ph_dimension, prim
from geomprobe.topology.metrics import euclidean_distances

UNCONNECTED = np.full((50, 50), np.inf)
np.fill_diagonal(UNCONNECTED, 0)


def cantor_dust(n, rng):
    """Uniform on the product of two Cantor sets, of dimension 2 log 2 / log 3 (Hutchinson 1981)."""
    digits = 2 * rng.integers(0, 2, (2, n, 30))
    return (digits / 3.0 ** np.arange(1, 31)).sum(axis=2).T


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_uniform_cubes_have_their_dimension_within_the_error(d, seed):
    # Steele (1988): the sum of the powers grows as n^(1 - alpha/d).
    points = np.random.default_rng(seed).uniform(size=(1000, d))
    estimate = ph_dimension(points, random_state=seed).estimate
    assert abs(estimate.value - d) < 2 * estimate.stderr
    assert estimate.stderr < 0.3 * d


@pytest.mark.parametrize("seed", range(4))
def test_the_cantor_dust_has_its_dimension_within_the_error(seed):
    points = cantor_dust(1000, np.random.default_rng(seed))
    estimate = ph_dimension(points, random_state=seed).estimate
    assert abs(estimate.value - 2 * np.log(2) / np.log(3)) < 3 * estimate.stderr
    assert estimate.stderr < 0.5
    # With smaller powers the scales below the smallest gap seen count for less.
    finer = ph_dimension(points, alpha=0.5, random_state=seed).estimate
    assert abs(finer.value - 2 * np.log(2) / np.log(3)) < abs(
        estimate.value - 2 * np.log(2) / np.log(3)
    )


@pytest.mark.long
@pytest.mark.parametrize("d", [2, 3])
def test_the_sampling_error_is_the_spread_over_fresh_clouds(d):
    # The part of finite size is the same in all of them, and left out by hand.
    found = [
        ph_dimension(np.random.default_rng(seed).uniform(size=(500, d)), random_state=seed)
        for seed in range(40)
    ]
    values = [one.estimate.value for one in found]
    errors = [one.estimate.stderr for one in found]
    assert np.std(values) < 1.5 * np.median(errors)


def test_a_path_far_from_the_origin_keeps_its_dimension():
    path = np.cumsum(np.random.default_rng(0).normal(size=(600, 40)), axis=0)
    near = ph_dimension(path).estimate
    far = ph_dimension(1e3 + 1e-3 * path).estimate
    assert far.value == pytest.approx(near.value, rel=1e-9)


def test_products_in_single_precision_would_lose_a_twentieth_of_the_dimension():
    # Those that are not centred took the late iterates of a training from 1.370 to 1.295.
    path = 2000 + np.cumsum(np.random.default_rng(0).normal(size=(600, 40)), axis=0)
    exact = ph_dimension(squareform(pdist(path)), metric="precomputed").estimate.value
    assert ph_dimension(path).estimate.value == pytest.approx(exact, rel=1e-6)
    single = path.astype(np.float32)
    squares = (single**2).sum(1)
    spoiled = np.sqrt(np.maximum(squares[:, None] + squares - 2 * single @ single.T, 0))
    spoiled = np.minimum(spoiled, spoiled.T) * (1 - np.eye(600))
    lost = 1 - ph_dimension(spoiled, metric="precomputed").estimate.value / exact
    assert lost > 0.03


def test_scale_does_not_matter_and_distances_serve_as_points_do():
    points = np.random.default_rng(0).normal(size=(300, 3))
    plain = ph_dimension(points)
    assert ph_dimension(7 * points).estimate.value == pytest.approx(plain.estimate.value)
    given = ph_dimension(euclidean_distances(points), metric="precomputed")
    assert given.estimate.value == pytest.approx(plain.estimate.value)
    assert plain == ph_dimension(points)


def test_points_that_all_lie_apart_have_none():
    apart = 1 - np.eye(200) + np.triu(1e-3 * np.random.default_rng(0).uniform(size=(200, 200)), 1)
    estimate = ph_dimension(np.maximum(apart, apart.T), metric="precomputed").estimate
    assert np.isnan(estimate.value)
    assert "0.98 or more" in estimate.note


def test_sums_that_follow_no_power_give_none():
    # On a line the tree is as long as the range, which hangs on the last few points of a power law.
    points = np.stack([1.2 ** np.arange(60), np.zeros(60)], axis=1)
    found = ph_dimension(points, n_subsets=1)
    assert found.slope < 0.98
    assert found.r_squared < 0.9
    assert np.isnan(found.estimate.value)
    assert found.estimate.note.startswith("the sums do not follow a power of the size: R^2 =")


def test_points_that_mostly_coincide_have_none():
    points = np.zeros((200, 2))
    points[0] = 1
    estimate = ph_dimension(points, n_subsets=1).estimate
    assert np.isnan(estimate.value)
    assert "so many points coincide" in estimate.note


@pytest.mark.parametrize("done", [0, 1, 4])
def test_after_an_interrupt_the_dimension_stands_on_the_halves_that_were_done(monkeypatch, done):
    points = np.random.default_rng(0).normal(size=(200, 2))
    whole = ph_dimension(points).estimate
    calls = 0

    def interrupted(distances, subsets, alpha):
        nonlocal calls
        calls += 1
        if calls > 10 * (1 + done):  # Ten sizes a fit.
            raise KeyboardInterrupt
        return sums_of_trees(distances, subsets, alpha)

    sums_of_trees = prim.sums_of_trees
    monkeypatch.setattr(prim, "sums_of_trees", interrupted)
    found = ph_dimension(points).estimate
    assert found.value == whole.value
    assert found.note == f"interrupted after {done} of 8 halves"
    assert np.isnan(found.stderr) if done < 2 else found.stderr > 0


@pytest.mark.parametrize("coincide", [False, True])
def test_a_bar_appears_and_ends(monkeypatch, coincide):
    def at_once(*given, **options):
        shown = {**options, "delay": 0, "mininterval": 0, "file": screen}
        bars.append(tqdm(*given, **shown))
        return bars[-1]

    screen, bars = io.StringIO(), []
    monkeypatch.setattr("tqdm.auto.tqdm", at_once)
    points = np.random.default_rng(0).normal(size=(200, 2))
    if coincide:  # It ends early.
        points[1:] = 0
    ph_dimension(points, n_subsets=1, progress=False)
    assert not screen.getvalue()
    ph_dimension(points, n_subsets=1)
    assert "PH dimension: " in screen.getvalue()
    assert screen.getvalue().endswith("\r")  # It is wiped out.
    assert [(bar.disable, bar.n) for bar in bars] == [(True, 0), (True, 10 if coincide else 90)]


def test_the_fit_can_be_seen():
    import matplotlib

    matplotlib.use("Agg")
    found = ph_dimension(np.random.default_rng(0).normal(size=(200, 2)))
    assert "dimension" in found.plot().get_legend_handles_labels()[1][1]
    assert len(found.sizes) == len(found.sums) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"X": np.eye(20)}, "at least 40 points, got 20"),
        ({"X": np.ones((50, 2))}, "all 50 points are equal"),
        ({"alpha": 0}, "alpha must be positive"),
        ({"n_sizes": 2}, "n_sizes must be at least 4"),
        ({"replicates": 1}, "replicates must be at least 2"),
        ({"X": UNCONNECTED, "metric": "precomputed"}, "needs all distances of the points"),
    ],
)
def test_bad_input_is_refused(options, message):
    points = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(ValueError, match=message):
        ph_dimension(**{"X": points, **options})
