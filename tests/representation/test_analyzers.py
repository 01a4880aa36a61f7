import numpy as np
import pytest
import torch
from torch import nn

from geomprobe import CloudSet, Evidence, PointCloud
from geomprobe.representation import (
    RepresentationDimension,
    RepresentationSimilarity,
    alpha_req,
    cka,
    gride,
    levina_bickel,
    neural_collapse,
    participation_ratio,
    procrustes,
    rank_me,
    two_nn,
)


def cloud(layer="a", labels=True, n=100):
    rng = np.random.default_rng(0)
    which = np.arange(n) % 3
    points = rng.normal(size=(n, 6)) + 3 * rng.normal(size=(3, 6))[which]
    return PointCloud(points.astype(np.float32), which if labels else None, layer=layer)


def findings(*clouds, **options):
    return list(RepresentationDimension(**options)(Evidence(CloudSet(clouds), seed=4)))


def test_numbers_are_those_of_the_functions():
    one = cloud()
    (finding,) = findings(one)
    points = one.points.astype(np.float64)
    collapse = neural_collapse(points, one.labels, seed=4)
    assert finding.scalars == {
        "two_nn": two_nn(points, seed=4),
        "levina_bickel": levina_bickel(points, seed=4),
        "participation_ratio": participation_ratio(points, seed=4),
        "rank_me": rank_me(points, seed=4),
        "alpha_req": alpha_req(points, seed=4),
        "within_class": collapse.within_class,
        "equinorm": collapse.equinorm,
        "equiangularity": collapse.equiangularity,
        "maximal_angle": collapse.maximal_angle,
    }
    np.testing.assert_array_equal(finding.arrays["gride"], gride(points).dimensions)
    assert set(finding.scalars) <= set(RepresentationDimension.readings)


def test_rescaling_a_relu_network_leaves_every_number():
    # A power of two, so that the rescaled network computes the same to the last bit.
    model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 5))
    x, labels = torch.randn(60, 4), np.arange(60) % 3

    def examined():
        with torch.no_grad():
            layers = {"hidden": model[:2](x), "out": model(x)}
        clouds = [
            PointCloud(points.numpy(), labels, np.arange(60), layer=layer)
            for layer, points in layers.items()
        ]
        given = Evidence(CloudSet(clouds))
        return [
            {name: one.value for name, one in finding.scalars.items()}
            for analyzer in (RepresentationDimension(), RepresentationSimilarity())
            for finding in analyzer(given)
        ]

    before = examined()
    with torch.no_grad():
        model[0].weight.mul_(8), model[0].bias.mul_(8), model[2].weight.div_(8)
    assert examined() == [pytest.approx(numbers, rel=1e-9, nan_ok=True) for numbers in before]


def test_without_labels_there_is_no_collapse():
    (finding,) = findings(cloud(labels=False))
    collapse = {"within_class", "equinorm", "equiangularity", "maximal_angle"}
    assert set(finding.scalars) == {*RepresentationDimension.readings} - {
        "points_excluded",
        *collapse,
    }


def test_what_is_left_out_is_told():
    points = cloud().points.copy()
    points[0] = np.nan
    points[1:11] = points[11:21]
    (finding,) = findings(PointCloud(points, np.arange(100), layer="a"))
    assert finding.scalars["points_excluded"].value == 1
    notes = " ".join(finding.notes)
    assert "10 duplicates are left out" in notes
    assert "No neural collapse: neural collapse needs two classes" in notes
    (finding,) = findings(cloud(), max_points=50)
    assert "A uniform sample of 50 of 100 points." in finding.notes


def test_a_layer_that_fails_does_not_touch_the_others():
    failed, fine = findings(cloud("few", n=12), cloud("many"))
    assert "at least 20 distinct points" in failed.failed
    assert fine.scalars


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="max_points must be at least 20"):
        RepresentationDimension(max_points=10)


def test_too_few_points_for_many_neighbours_cost_that_number_alone():
    (finding,) = findings(cloud(n=30))
    assert "40 distinct points or more, got 30" in finding.scalars["levina_bickel"].note
    assert finding.scalars["two_nn"].value > 0


def layers_of_same_samples(n=80, seed=0):
    """Three layers that saw some of the same samples, in orders of their own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)) * [3, 2, 1, 1, 1, 1]
    maps = np.eye(6), np.linalg.qr(rng.normal(size=(6, 6)))[0], rng.normal(size=(6, 2))
    for layer, weights in zip("abc", maps, strict=True):
        ids = rng.permutation(n)[: n - 5]
        yield PointCloud(x[ids] @ weights, sample_ids=ids, layer=layer)


def similarities(*clouds, **options):
    return list(RepresentationSimilarity(**options)(Evidence(CloudSet(clouds), seed=4)))


def test_layers_are_compared_on_the_samples_that_all_saw():
    clouds = list(layers_of_same_samples())
    first, second, third = similarities(*clouds)
    # A rotation lies between the first two.
    assert second.scalars["cka_previous"].value == pytest.approx(1, abs=1e-5)
    ids = sorted(set.intersection(*(set(one.sample_ids.tolist()) for one in clouds)))
    a, c = (
        np.stack([one.points[one.sample_ids.tolist().index(i)] for i in ids])
        for one in (clouds[0], clouds[2])
    )
    expected = cka(a, c, seed=4)
    assert first.scalars["cka_last"].value == pytest.approx(expected.value)
    assert first.scalars["cka_last"].stderr == pytest.approx(expected.stderr)
    assert first.scalars["cka_last"].n == len(ids) < 75
    assert set(first.scalars) == {"cka_last"}
    assert set(third.scalars) == {"cka_previous", "procrustes_previous"}
    assert second.scalars["procrustes_previous"].value == pytest.approx(0, abs=1e-3)
    b = np.stack([clouds[1].points[clouds[1].sample_ids.tolist().index(i)] for i in ids])
    expected = procrustes(b, c, seed=4)
    assert third.scalars["procrustes_previous"].value == pytest.approx(expected.value)
    assert third.scalars["procrustes_previous"].stderr == pytest.approx(expected.stderr)
    matrix = np.stack([one.arrays["cka"] for one in (first, second, third)])
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1)
    assert f"On the {len(ids)} samples that all 3 layers saw." in first.notes


def test_samples_in_common_are_limited():
    clouds = list(layers_of_same_samples())
    (first, *_), (again, *_) = similarities(*clouds, max_points=20), similarities(*clouds)
    assert first.scalars["cka_last"].n == 20
    assert first.scalars["cka_last"] != again.scalars["cka_last"]
    assert "On 20 of the" in first.notes[0]


def test_a_layer_that_cannot_be_compared_fails_alone():
    a, b, c = layers_of_same_samples()
    several = PointCloud(c.points, sample_ids=c.sample_ids // 2, layer="tokens")
    constant = PointCloud(0 * c.points, sample_ids=c.sample_ids, layer="dead")
    nameless = PointCloud(c.points, layer="nameless")
    found = {one.subject: one for one in similarities(several, a, constant, nameless, b)}
    assert "several points a sample" in found["tokens"].failed
    assert "points are equal" in found["dead"].failed
    assert "no sample ids" in found["nameless"].failed
    assert found["a"].scalars["cka_last"].value == pytest.approx(1, abs=1e-5)
    assert found["a"].arrays["cka"].shape == (2,)


def test_a_layer_that_is_constant_on_the_samples_in_common_has_no_number():
    a, b, _ = layers_of_same_samples()
    points = 0 * b.points
    alone = np.flatnonzero(~np.isin(b.sample_ids, a.sample_ids))
    points[alone] = 1
    _, found = similarities(a, PointCloud(points, sample_ids=b.sample_ids, layer="b"))
    assert np.isnan(found.scalars["cka_previous"].value)
    assert "points are equal" in found.scalars["procrustes_previous"].note


def test_rows_that_are_not_finite_are_no_samples_in_common():
    a, b, _ = layers_of_same_samples()
    points = a.points.copy()
    points[:10] = np.nan
    whole, less = (
        similarities(a, b)[0],
        similarities(PointCloud(points, sample_ids=a.sample_ids, layer="a"), b)[0],
    )
    assert less.scalars["cka_last"].n < whole.scalars["cka_last"].n


def test_nothing_to_compare_is_told():
    a, b, _ = layers_of_same_samples()
    (found,) = similarities(a)
    assert "1 layers to compare" in found.failed
    elsewhere = PointCloud(b.points, sample_ids=b.sample_ids + 1000, layer="b")
    (found,) = similarities(a, elsewhere)
    assert "0 samples in common" in found.failed
    with pytest.raises(ValueError, match="max_points must be at least 8"):
        RepresentationSimilarity(max_points=5)
