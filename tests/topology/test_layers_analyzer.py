from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

import geomprobe as gp
from geomprobe.topology import betti_curve, rips_persistence, total_persistence
from geomprobe.topology.analyzers.layers import LayerTopology, _trend
from geomprobe.topology.geodesics import geodesic_distances


def examine(clouds, *, seed=0, **options):
    evidence = gp.Evidence(gp.CloudSet(clouds), seed=seed)
    return {found.subject: found for found in gp.analyze(evidence, LayerTopology(**options))}


def circle(n, seed=0):
    angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def blobs(n, k, seed=0):
    """Points in k squares far apart, as many in each."""
    points = np.random.default_rng(seed).uniform(size=(n, 2))
    points[:, 0] += 50 * (np.arange(n) % k)
    return points


def test_classes_of_known_topology():
    points = np.concatenate([circle(150), blobs(150, 3), np.zeros((80, 2)), [[7, 7]] * 5])
    labels = np.repeat([4, 7, 9, 11], [150, 150, 80, 5])
    found = examine([gp.PointCloud(points, labels=labels, layer="a")])["a"]
    assert found.arrays["classes"].tolist() == [4, 7, 9]
    # One circle; three squares; one point, 80 times.
    assert found.arrays["betti_0_of_class"].tolist() == [1, 3, 1]
    assert found.arrays["betti_1_of_class"].tolist() == [1, 0, 0]
    assert found.scalars["betti_0"].value == pytest.approx(5 / 3)
    assert found.scalars["betti_1"].value == pytest.approx(1 / 3)
    assert found.scalars["betti_0"].n == 380
    assert any("3 of 4 classes" in note for note in found.notes)


def test_the_numbers_are_those_of_the_geodesic_diagrams():
    points = np.random.default_rng(1).normal(size=(70, 3)).astype(np.float32)
    found = examine([gp.PointCloud(points, layer="a")], n_neighbors=4, scale=1.5)["a"]
    diagrams = rips_persistence(geodesic_distances(points, 4), metric="precomputed")
    for dim in (0, 1):
        expected = betti_curve(diagrams[dim], [1.5])[0]
        assert found.scalars[f"betti_{dim}"].value == expected
        curve = betti_curve(diagrams[dim], found.arrays["steps"])
        assert np.array_equal(found.arrays[f"betti_curve_{dim}"], curve)
    total = total_persistence(diagrams[1])
    assert total > 0
    assert found.scalars["h1_total_persistence"].value == pytest.approx(total)
    assert any("Give the data as (inputs, class numbers)" in note for note in found.notes)
    regression = gp.PointCloud(points, labels=np.linspace(0, 1, 70), layer="a")
    assert examine([regression], n_neighbors=4, scale=1.5)["a"].scalars == found.scalars


def test_a_network_that_joins_clusters_shows_a_falling_trend():
    clouds = [gp.PointCloud(blobs(120, k), layer=f"layer{6 - k}") for k in (5, 4, 3, 2, 1)]
    found = examine(clouds, n_neighbors=6)
    assert [found[cloud.layer].scalars["betti_0"].value for cloud in clouds] == [5, 4, 3, 2, 1]
    model = found["model"]
    assert model.scalars["betti_0_trend"].value == pytest.approx(-1)
    assert model.scalars["betti_0_trend"].stderr == pytest.approx(0, abs=1e-12)
    # Two of 120 orders are as strictly monotone.
    assert model.scalars["betti_0_trend_p"].value == pytest.approx(2 / 120)
    assert model.scalars["betti_0_trend_p"].exact
    assert model.arrays["betti_0"].tolist() == [5, 4, 3, 2, 1]
    assert model.notes[0].endswith("layer1, layer2, layer3, layer4, layer5.")


def test_where_nothing_changes_there_is_no_trend():
    clouds = [gp.PointCloud((i + 1) * circle(70), layer=f"l{i}") for i in range(4)]
    for name, estimate in examine(clouds)["model"].scalars.items():
        assert np.isnan(estimate.value), name
        assert estimate.note == "it is the same in every layer"


@pytest.mark.parametrize("n", [4, 6, 12])
def test_the_trend_is_spearmans_and_its_p_that_of_all_orders(n):
    rng = np.random.default_rng(n)
    values = np.round(rng.normal(size=n) + 0.1 * np.arange(n), 1)
    values[1] = values[0]
    trend, p = _trend(values, values + rng.normal(size=(9, n)), 0)
    expected = spearmanr(np.arange(n), values)
    assert trend.value == pytest.approx(expected.statistic)
    assert trend.stderr > 0
    if n <= 6:
        orders = [spearmanr(order, values).statistic for order in permutations(range(n))]
        assert p.value == pytest.approx(np.mean(np.abs(orders) >= abs(trend.value) - 1e-9))
        assert p.exact
    else:
        assert p.value == pytest.approx(expected.pvalue, abs=0.03)
        assert p.stderr == pytest.approx((p.value * (1 - p.value) / 10_000) ** 0.5)
    assert ("cannot give less than 0.083" in p.note) == (n == 4)


def test_standard_errors_agree_with_repeated_sampling():
    # The spread over fresh samples is what the error of one sample estimates.
    def cloud(seed):
        points = np.random.default_rng(seed).normal(size=(100, 2))
        return gp.PointCloud(points, layer="a")

    found = [examine([cloud(seed)], n_neighbors=6)["a"].scalars for seed in range(20)]
    name = "h1_total_persistence"
    errors, values = zip(*((one[name].stderr, one[name].value) for one in found), strict=True)
    assert 0.3 < np.median(errors) / np.std(values) < 3


def test_large_classes_are_thinned_alike_in_every_layer():
    points = circle(300)
    clouds = [gp.PointCloud(scale * points, layer=name) for name, scale in (("a", 1), ("b", 8))]
    found = examine(clouds, max_points=90)
    assert found["a"].scalars == found["b"].scalars
    assert found["a"].scalars["betti_1"].n == 90
    assert "A uniform sample of 90 points of 1 classes." in found["a"].notes
    labels = np.arange(300) % 3
    found = examine([gp.PointCloud(points, labels=labels, layer="a")], max_classes=2)
    assert found["a"].arrays["classes"].tolist() == [0, 1]


def test_points_that_are_not_finite_are_left_out():
    points = circle(80)
    spoiled = np.concatenate([points, [[np.nan, 0]]])
    found = examine([gp.PointCloud(spoiled, layer="a")])["a"]
    assert found.scalars == examine([gp.PointCloud(points, layer="a")])["a"].scalars
    assert "1 points that are not finite are left out." in found.notes


def test_one_layer_that_fails_leaves_the_others():
    clouds = [gp.PointCloud(circle(20), layer="few"), gp.PointCloud(circle(80), layer="fine")]
    with pytest.warns(gp.GeomprobeWarning, match="no class has the 60 points"):
        found = examine(clouds)
    assert "the largest of 1 has 20" in found["few"].failed
    assert found["fine"].failed is None
    assert "takes three layers, and there are 1" in found["model"].scalars["betti_0_trend"].note
    with pytest.warns(gp.GeomprobeWarning, match="no class has|no layer could be used"):
        assert examine(clouds[:1])["model"].failed == "no layer could be used"


def test_every_scalar_has_a_reading_and_findings_are_saved(tmp_path):
    clouds = [gp.PointCloud(circle(70, seed), layer=f"l{seed}") for seed in range(3)]
    for finding in examine(clouds).values():
        assert set(finding.scalars) <= set(LayerTopology.readings)
        finding.save(tmp_path / "finding.json")
        assert gp.Finding.load(tmp_path / "finding.json") == finding
    assert all(sentence.endswith(".") for sentence in LayerTopology.readings.values())


def test_same_seed_same_finding():
    cloud = gp.PointCloud(np.random.default_rng(0).normal(size=(150, 3)), layer="a")
    options = {"max_points": 100, "n_neighbors": 5}
    a, b = (examine([cloud], **options, seed=5)["a"] for _ in range(2))
    assert a.scalars == b.scalars
    assert a.scalars != examine([cloud], **options, seed=6)["a"].scalars


@pytest.mark.parametrize(
    "bad", [{"n_neighbors": 0}, {"scale": 0.5}, {"max_points": 59}, {"replicates": 1}]
)
def test_bad_parameters_are_refused_at_construction(bad):
    with pytest.raises(ValueError, match="must be at least"):
        LayerTopology(**bad)
