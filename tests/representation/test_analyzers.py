import numpy as np
import pytest

from geomprobe import CloudSet, Evidence, PointCloud
from geomprobe.representation import (
    RepresentationDimension,
    gride,
    neural_collapse,
    participation_ratio,
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
        "participation_ratio": participation_ratio(points, seed=4),
        "rank_me": rank_me(points, seed=4),
        "within_class": collapse.within_class,
        "equinorm": collapse.equinorm,
        "equiangularity": collapse.equiangularity,
        "maximal_angle": collapse.maximal_angle,
    }
    np.testing.assert_array_equal(finding.arrays["gride"], gride(points).dimensions)
    assert set(finding.scalars) <= set(RepresentationDimension.readings)


def test_without_labels_there_is_no_collapse():
    (finding,) = findings(cloud(labels=False))
    assert set(finding.scalars) == {"two_nn", "participation_ratio", "rank_me"}


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
