"""What all transformers of diagrams have in common."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from geomprobe.topology import Diagrams, to_giotto

EMPTY, ENDLESS = np.empty((0, 2)), np.array([[0.0, np.inf]])
SCIKIT_LEARN = tuple(int(number) for number in sklearn.__version__.split(".")[:2])


def test_features_lie_side_by_side_and_have_names(transformer, width, diagrams):
    features = transformer.fit_transform(diagrams)
    names = transformer.get_feature_names_out()
    assert features.shape == (6, 2 * width)
    assert np.isfinite(features).all()
    assert len(set(names)) == 2 * width
    assert [name[:3] for name in names] == ["h0_"] * width + ["h1_"] * width


def test_scales_come_from_the_training_diagrams_alone(transformer, diagrams):
    scaled = [Diagrams(tuple(10 * dgm for dgm in one)) for one in diagrams]
    expected = transformer.fit(diagrams).transform(diagrams)
    transformer.transform(scaled)
    together = transformer.transform([*diagrams, *scaled])
    np.testing.assert_array_equal(together[:6], expected)
    # Fitted again, it forgets.
    afresh = clone(transformer).fit(scaled).transform(scaled)
    np.testing.assert_array_equal(transformer.fit(scaled).transform(scaled), afresh)


def test_empty_infinite_and_missing_dimensions(transformer, width, diagrams):
    transformer.fit(diagrams)
    without = transformer.transform([Diagrams((EMPTY, EMPTY))])
    for odd in (Diagrams((ENDLESS, EMPTY)), Diagrams((ENDLESS,)), Diagrams(())):
        features = transformer.transform([odd])
        assert features.shape == (1, 2 * width)
        assert np.isfinite(features).all()
        np.testing.assert_array_equal(features[:, width:], without[:, width:])


def test_nothing_to_learn_from(transformer, width):
    features = transformer.fit_transform([Diagrams((ENDLESS, EMPTY))])
    assert features.shape == (1, 2 * width)
    assert np.isfinite(features).all()
    assert len(set(transformer.get_feature_names_out())) == 2 * width


def test_giottos_array_gives_the_same(transformer, diagrams):
    finite = [Diagrams(tuple(one.finite(dim) for dim in range(2))) for one in diagrams]
    expected = transformer.fit_transform(finite)
    np.testing.assert_allclose(transformer.fit_transform(to_giotto(diagrams)), expected)


def test_arrays_of_diagrams_give_the_same(transformer, diagrams):
    array = np.empty(6, dtype=object)
    array[:] = diagrams
    np.testing.assert_array_equal(
        transformer.fit_transform(array), transformer.fit_transform(diagrams)
    )


def test_not_fitted(transformer, diagrams):
    with pytest.raises(NotFittedError):
        transformer.transform(diagrams)
    with pytest.raises(NotFittedError):
        transformer.get_feature_names_out()


@pytest.mark.parametrize(
    "wrong",
    [[], 3, None, "diagrams", [np.zeros((3, 2))], Diagrams((EMPTY,)), np.zeros((0, 3, 3))],
    ids=["empty", "number", "none", "text", "arrays", "bare", "no-rows"],
)
def test_what_is_no_list_of_diagrams_is_refused(transformer, wrong, diagrams):
    with pytest.raises(ValueError, match="list of Diagrams"):
        transformer.fit(wrong)
    with pytest.raises(ValueError, match="list of Diagrams"):
        transformer.fit(diagrams).transform(wrong)


def test_too_many_dimensions_are_refused(transformer, diagrams):
    transformer.fit([Diagrams((diagrams[0][0],))])
    with pytest.raises(ValueError, match="fitted to diagrams of 1 homology dimensions, got 2"):
        transformer.transform(diagrams)


@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_frames(transformer, frame, diagrams):
    module = pytest.importorskip(frame)
    if frame == "polars" and SCIKIT_LEARN < (1, 4):
        pytest.skip("scikit-learn makes polars frames from 1.4 on")
    expected = transformer.fit_transform(diagrams)
    for made in (
        transformer.set_output(transform=frame).fit_transform(diagrams),
        transformer.transform(diagrams),
    ):
        assert isinstance(made, module.DataFrame)
        assert list(made.columns) == list(transformer.get_feature_names_out())
        np.testing.assert_array_equal(made.to_numpy(), expected)
