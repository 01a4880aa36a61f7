import numpy as np
import pytest
import torch

import geomprobe as gp
from geomprobe.topology import rips_persistence
from geomprobe.topology.analyzers import PersistentHomology


def examine(points, *, seed=0, **options):
    clouds = gp.CloudSet([gp.PointCloud(points, layer="a")])
    (finding,) = gp.analyze(gp.Evidence(clouds, seed=seed), PersistentHomology(**options))
    return finding


def circle(n, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 2 * np.pi, n)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points + noise * rng.normal(size=points.shape)


def test_the_numbers_are_those_of_the_diagrams():
    points = circle(50, 0.05).astype(np.float32)
    finding, diagrams = examine(points), rips_persistence(points)
    scalars = {name: estimate.value for name, estimate in finding.scalars.items()}
    assert scalars["h0_total_persistence"] == pytest.approx(diagrams.finite(0)[:, 1].sum())
    assert scalars["h1_longest_bar"] == pytest.approx(diagrams.lifetimes(1).max())
    births, deaths = diagrams[1].T
    assert scalars["h1_death_birth_ratio"] == pytest.approx((deaths / births).max())
    assert np.array_equal(np.sort(finding.arrays["diagram_h1"], axis=0), np.sort(diagrams[1], 0))
    assert finding.arrays["betti_h0"][0] == 50
    assert finding.arrays["betti_h0"][-1] == 1
    assert finding.failed is None


def test_giotto_tda_computes_the_entropies_and_betti_curves_where_it_is_installed(monkeypatch):
    gtda = pytest.importorskip("gtda.diagrams")
    called = []
    for name in ("BettiCurve", "PersistenceEntropy"):
        transformer = getattr(gtda, name)

        def record(*args, name=name, transformer=transformer, **options):
            called.append(name)
            return transformer(*args, **options)

        monkeypatch.setattr(gtda, name, record)
    finding = examine(circle(20), replicates=2)
    assert set(called) == {"BettiCurve", "PersistenceEntropy"}
    assert finding.notes[-1].endswith("entropies and Betti curves by giotto-tda.")


def test_standard_errors_agree_with_repeated_sampling():
    # The spread of the statistic over 40 fresh samples is what the error of one sample estimates.
    names = ("h0_total_persistence", "h1_longest_bar")
    findings = [examine(circle(60, 0.05, seed), replicates=6) for seed in range(40)]
    for name in names:
        values = [finding.scalars[name].value for finding in findings]
        errors = [finding.scalars[name].stderr for finding in findings]
        assert 0.4 < np.median(errors) / np.std(values) < 2.5, name


def test_large_clouds_are_thinned_and_long_diagrams_cut_and_said_so():
    finding = examine(circle(90, 0.1), max_points=60, bars=10)
    assert finding.scalars["h0_entropy"].n == 60
    assert len(finding.arrays["diagram_h0"]) == 10
    assert np.isinf(finding.arrays["diagram_h0"]).sum() == 1
    notes = " ".join(finding.notes)
    assert "60 of 90 points" in notes
    assert "leaves out its 50 shortest bars" in notes


def test_points_that_are_not_finite_are_counted_and_left_out():
    points = circle(30).astype(np.float32)
    spoiled = np.concatenate([points, [[np.nan, 0], [0, np.inf]]])
    finding = examine(spoiled)
    assert finding.scalars["points_excluded"].value == 2
    assert "2 points that are not finite are left out." in finding.notes
    assert finding.scalars["h1_entropy"] == examine(points).scalars["h1_entropy"]
    assert "points_excluded" not in examine(points).scalars


def test_one_layer_that_fails_leaves_the_others():
    clouds = gp.CloudSet(
        [gp.PointCloud(np.zeros((3, 2)), layer="few"), gp.PointCloud(circle(20), layer="fine")]
    )
    with pytest.warns(gp.GeomprobeWarning, match="3 finite points are too few"):
        few, fine = gp.analyze(gp.Evidence(clouds), PersistentHomology())
    assert "3 finite points are too few" in few.failed
    assert fine.failed is None


@pytest.mark.parametrize("bad", [{"max_dim": -1}, {"max_points": 3}, {"replicates": 1}])
def test_bad_parameters_are_refused_at_construction(bad):
    with pytest.raises(ValueError, match="must be at least"):
        PersistentHomology(**bad)


def test_what_is_undefined_says_why():
    line = np.arange(10.0)[:, None]
    finding = examine(line)
    assert np.isnan(finding.scalars["h1_longest_bar"].value)
    assert "no bar" in finding.scalars["h1_longest_bar"].note
    assert finding.scalars["h1_total_persistence"].value == 0
    assert finding.scalars["h0_total_persistence"].value == 9


def test_every_scalar_of_every_dimension_has_a_reading():
    finding = examine(circle(20), max_dim=2)
    assert set(finding.scalars) <= set(PersistentHomology.readings)
    assert all(sentence.endswith(".") for sentence in PersistentHomology.readings.values())


def test_same_seed_same_finding_saved_and_loaded_and_no_global_stream_is_touched(tmp_path):
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    a, b = (examine(circle(50), max_points=20, seed=5) for _ in range(2))
    assert a.scalars == b.scalars
    assert a.scalars != examine(circle(50), max_points=20, seed=6).scalars
    a.save(tmp_path / "finding.json")
    assert gp.Finding.load(tmp_path / "finding.json") == a
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
