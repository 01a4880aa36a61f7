import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geomprobe import CloudSet, PointCloud, Trajectory
from geomprobe.exceptions import FileFormatError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
STEP = st.none() | st.integers(0, 2**62)
META = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT | st.lists(TEXT)
)
LABEL_TYPES = st.sampled_from(["<f4", "<f8", "<i4", "<i8", "|u1", "|b1"])


@st.composite
def point_clouds(draw):
    n, d = draw(st.integers(0, 5)), draw(st.integers(0, 4))
    points = draw(hnp.arrays("<f4", (n, d)))  # NaN and the infinities included
    labels = draw(st.none() | LABEL_TYPES.flatmap(lambda dtype: hnp.arrays(dtype, n)))
    sample_ids = draw(st.none() | hnp.arrays("<i8", n))
    return PointCloud(points, labels, sample_ids, draw(TEXT), draw(STEP), draw(META))


@st.composite
def trajectories(draw):
    length, dim = draw(st.integers(0, 5)), draw(st.integers(0, 4))
    dtype = draw(st.sampled_from(["<f2", "<f4", "<f8"]))
    points = draw(hnp.arrays(dtype, (length, dim)))
    steps = draw(hnp.arrays("<i8", length))
    of_samples = (length, draw(st.integers(0, 3)))
    told = [draw(st.none() | hnp.arrays(dtype, of_samples)) for dtype in ("<f8", "|b1")]
    return Trajectory(points, steps, draw(hnp.arrays("<f8", length)), draw(META), *told)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("clouds") / "file.safetensors"


@given(cloud=point_clouds())
def test_a_cloud_survives_its_file(path, cloud):
    cloud.save(path)
    assert PointCloud.load(path) == cloud


@given(clouds=st.dictionaries(TEXT, point_clouds(), max_size=4))
def test_a_set_survives_its_file_and_keeps_its_order(path, clouds):
    clouds = CloudSet(clouds)
    clouds.save(path)
    loaded = CloudSet.load(path)
    assert loaded == clouds
    assert list(loaded) == list(clouds)


@given(trajectory=trajectories())
def test_a_trajectory_survives_its_file(path, trajectory):
    trajectory.save(path)
    assert Trajectory.load(path) == trajectory


def test_one_noun_does_not_load_as_another(tmp_path):
    PointCloud(np.zeros((2, 2))).save(tmp_path / "cloud")
    CloudSet().save(tmp_path / "set")
    Trajectory(np.zeros((1, 1)), [0], [0.0]).save(tmp_path / "path")
    nouns = {"cloud": PointCloud, "set": CloudSet, "path": Trajectory}
    for name in nouns:
        for other, noun in nouns.items():
            if other != name:
                with pytest.raises(FileFormatError, match="expected a"):
                    noun.load(tmp_path / name)


@pytest.mark.parametrize(
    "points",
    [np.zeros(3), np.zeros((1, 2, 3)), np.zeros((2, 2), complex), [["a", "b"]], 1.0],
)
def test_a_cloud_of_something_else_is_refused(points):
    with pytest.raises(ValueError, match=r"real array of shape \(n, d\)"):
        PointCloud(points)


@pytest.mark.parametrize("name", ["labels", "sample_ids"])
def test_rows_that_do_not_match_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name} must have shape \(3,\).*\(2,\)"):
        PointCloud(np.zeros((3, 2)), **{name: [0, 1]})


def test_labels_that_no_file_could_hold_are_refused():
    with pytest.raises(ValueError, match=r"labels must be numbers.*by index"):
        PointCloud(np.zeros((2, 1)), labels=["cat", "dog"])


@pytest.mark.parametrize(
    ("points", "steps", "losses", "message"),
    [
        (np.zeros(3), [0, 1, 2], [0, 1, 2], "shape"),
        (np.zeros((2, 1), int), [0, 1], [0, 1], "float array"),
        (np.zeros((2, 1)), [0], [0, 1], "steps must have shape"),
        (np.zeros((2, 1)), [0, 1], [0], "losses must have shape"),
    ],
)
def test_a_trajectory_of_something_else_is_refused(points, steps, losses, message):
    with pytest.raises(ValueError, match=message):
        Trajectory(points, steps, losses)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"sample_losses": np.zeros((3, 4))}, r"floats of shape \(2, n\).*\(3, 4\)"),
        ({"sample_losses": np.zeros((2, 4), int)}, "floats of shape"),
        ({"sample_correct": np.zeros((2, 4))}, "booleans of shape"),
    ],
)
def test_answers_to_samples_of_another_kind_are_refused(told, message):
    with pytest.raises(ValueError, match=message):
        Trajectory(np.zeros((2, 1)), [0, 1], [0, 1], **told)


def test_points_become_contiguous_float32_and_trajectories_keep_their_precision():
    points = np.arange(6.0).reshape(2, 3).T
    cloud = PointCloud(points)
    assert cloud.points.dtype == np.float32
    assert cloud.points.flags.c_contiguous
    trajectory = Trajectory(points, range(3), [0, 1, 2])
    assert trajectory.points.dtype == np.float64
    assert (trajectory.steps.dtype, trajectory.losses.dtype) == (np.int64, np.float64)


def test_take_keeps_points_labels_and_ids_together():
    cloud = PointCloud(np.eye(3), labels=[5, 6, 7], sample_ids=[10, 11, 12], layer="l", step=4)
    taken = cloud.take([2, 0])
    expected = PointCloud(np.eye(3)[[2, 0]], [7, 5], [12, 10], "l", 4)
    assert taken == expected
    assert cloud.take(np.array([True, False, False])) == cloud.take([0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite_leaves_out_what_is_not_and_counts_it(bad):
    points = np.arange(8.0).reshape(4, 2)
    points[1, 0] = points[3, 1] = bad
    kept, dropped = PointCloud(points, labels=[0, 1, 2, 3]).finite()
    assert dropped == 2
    assert kept == PointCloud([[0, 1], [4, 5]], labels=[0, 2])
    assert kept.finite() == (kept, 0)


def test_a_set_is_keyed_by_layer_and_names_what_there_is():
    one, two = PointCloud(np.zeros((1, 1)), layer="one"), PointCloud(np.ones((1, 1)), layer="two")
    clouds = CloudSet([one, two])
    assert dict(clouds) == {"one": one, "two": two}
    assert repr(clouds) == "CloudSet({one: (1, 1), two: (1, 1)})"
    with pytest.raises(KeyError, match=r"'three'; there are \['one', 'two'\]"):
        clouds["three"]
    with pytest.raises(ValueError, match="same layer"):
        CloudSet([one, one])
