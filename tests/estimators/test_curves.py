"""Curves of a bar from 0 to 2 and one from 1 to 3, worked out by hand."""

import numpy as np
import pytest

from geomprobe.estimators import BettiCurve, PersistenceLandscape, Silhouette
from geomprobe.topology import Diagrams, betti_curve, landscape, silhouette

TWO_BARS = [Diagrams((np.array([[0.0, 2.0], [1.0, 3.0]]),))]


def test_by_hand():
    curve = BettiCurve(4).fit(TWO_BARS)
    assert curve.grid_[0].tolist() == [0, 1, 2, 3]
    assert curve.transform(TWO_BARS).tolist() == [[1, 2, 1, 0]]
    layers = PersistenceLandscape(3, 7).fit_transform(TWO_BARS).reshape(3, 7)
    # On 0, 0.5, ..., 3: the tents peak at 1 and 2, and meet at 1.5 with height 0.5.
    assert layers[0].tolist() == [0, 0.5, 1, 0.5, 1, 0.5, 0]
    assert layers[1].tolist() == [0, 0, 0, 0.5, 0, 0, 0]
    assert not layers[2].any()
    assert Silhouette(1.0, 4).fit_transform(TWO_BARS).tolist() == [[0, 0.5, 0.5, 0]]


def test_those_of_the_functions(diagrams):
    one = diagrams[2]
    curve = BettiCurve(9).fit(diagrams)
    layers = PersistenceLandscape(2, 9).fit(diagrams)
    mean = Silhouette(0.5, 9).fit(diagrams)
    for dim, grid in enumerate(curve.grid_):
        ends = np.concatenate([each[dim].ravel() for each in diagrams])
        assert grid[[0, -1]].tolist() == [ends.min(), ends[np.isfinite(ends)].max()]
        for transformer, expected in [
            (curve, betti_curve(one[dim], grid)),
            (layers, landscape(one[dim], grid, 2)),
            (mean, silhouette(one[dim], grid, 0.5)),
        ]:
            found = transformer.transform([one])[0].reshape(2, -1)[dim]
            np.testing.assert_allclose(found, expected.ravel(), atol=1e-12)


def test_names_tell_the_scale():
    names = PersistenceLandscape(2, 3).fit(TWO_BARS).get_feature_names_out()
    assert names[:3].tolist() == [f"h0_landscape_1_at_{scale}" for scale in ("0", "1.5", "3")]
    assert names[3:].tolist() == [f"h0_landscape_2_at_{scale}" for scale in ("0", "1.5", "3")]
    assert BettiCurve(2).fit(TWO_BARS).get_feature_names_out().tolist() == [
        "h0_betti_at_0",
        "h0_betti_at_3",
    ]
    assert Silhouette(n_bins=1).fit(TWO_BARS).get_feature_names_out() == ["h0_silhouette_at_0"]


def test_names_of_scales_that_lie_close_have_more_digits():
    close = [Diagrams((np.array([[1.0, 1.0004]]),))]
    names = BettiCurve(3).fit(close).get_feature_names_out()
    assert names.tolist() == ["h0_betti_at_1", "h0_betti_at_1.0002", "h0_betti_at_1.0004"]


@pytest.mark.parametrize("bars", [[], [[0.0, np.inf]], [[1.0, 1.0]], [[1.0, 1.0 + 1e-15]]])
def test_scales_where_there_is_nothing_to_learn_from(bars):
    fitted = BettiCurve(5).fit([Diagrams((np.array(bars),))])
    low = min(bars, default=[0.0])[0]
    assert fitted.grid_[0].tolist() == [low, low + 0.25, low + 0.5, low + 0.75, low + 1]


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (BettiCurve(0), "n_bins must be a whole number from 1, got 0"),
        (Silhouette(n_bins=2.5), "n_bins must be a whole number from 1, got 2.5"),
        (PersistenceLandscape(0), "layers must be a whole number from 1, got 0"),
        (Silhouette(-1.0), "power must be 0 or more, got -1.0"),
    ],
)
def test_parameters_out_of_range_are_refused(transformer, message):
    with pytest.raises(ValueError, match=message):
        transformer.fit(TWO_BARS)
