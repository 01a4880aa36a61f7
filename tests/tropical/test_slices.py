"""Planes through three inputs: closed forms, the complex of the same plane, and the network."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe.exceptions import MemoryEstimateError
from geomprobe.tropical import region_complex, slice_regions
from tests.tropical.networks import he_network, leave_the_second_layer_uncut


def corners(*points):
    return [torch.tensor(point, dtype=torch.float64) for point in points]


def test_one_hidden_layer_cuts_a_large_rectangle_like_lines_in_general_position():
    """Zaslavsky (1975): 1 + n + C(n, 2) regions of n lines in the plane."""
    far = 1e4
    model = he_network(2, 9, 1)
    found = slice_regions(model, *corners([-far, -far], [far, -far], [-far, far]))
    assert found.certified
    assert found.activation_regions == found.linear_regions == 1 + 9 + math.comb(9, 2)
    assert found.areas.sum() == pytest.approx((2 * far * 1.5) ** 2)


def test_a_slice_of_a_plane_has_the_regions_of_the_complex():
    model = he_network(2, 24, 24, 1, seed=1)
    found = slice_regions(model, *corners([-1, -1], [1, -1], [-1, 1]), margin=0.0)
    whole = region_complex(model, (-torch.ones(2).double(), torch.ones(2).double()))
    assert found.certified
    assert (found.activation_regions, found.linear_regions) == (
        whole.activation_regions,
        whole.linear_regions,
    )


def test_inside_each_polygon_the_network_is_the_affine_map_that_is_told():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(12, 3),
    ).double()  # fmt: skip
    torch.manual_seed(0)
    a, b, c = torch.randn(3, 1, 6, 6).double()
    found = slice_regions(model, a, b, c)
    assert found.certified
    assert found.linear_regions <= found.activation_regions <= len(found)
    # Euclidean coordinates: a at the origin, b on the first axis.
    first = (b - a) / (b - a).norm()
    second = (c - a) - ((c - a) * first).sum() * first
    second /= second.norm()

    def network(points):
        x = a + points[:, 0, None, None, None] * first + points[:, 1, None, None, None] * second
        with torch.no_grad():
            return model.eval()(x).numpy()

    at = torch.from_numpy(found.points)
    step = 1e-4 * math.sqrt(float(np.abs(found.areas).min()))
    for axis in range(2):
        moved = at.clone()
        moved[:, axis] += step
        slopes = (network(moved) - network(at)) / step
        np.testing.assert_allclose(slopes, found.gradients[:, :, axis], atol=1e-5)
    np.testing.assert_allclose(network(torch.from_numpy(found.vertices)), found.outputs, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(found.anchors[1]), float((b - a).norm()))


def test_two_outputs_are_equal_and_largest_on_the_decision_boundary():
    model = he_network(3, 16, 16, 4, seed=2)
    a, b, c = corners([0, 0, 0], [2, 0, 0], [0, 2, 0])
    found = slice_regions(model, a, b, c, margin=0.5)
    segments = found.decision_boundary()
    assert len(segments) > 3
    points = np.concatenate([segments.mean(axis=1), segments[:, 0]])
    with torch.no_grad():
        outputs = model(torch.tensor(np.column_stack([points, np.zeros(len(points))]))).numpy()
    first, second = np.sort(outputs, axis=1)[:, -2:].T
    np.testing.assert_allclose(first, second, atol=1e-9)


def test_a_dead_layer_merges_all_activation_regions_into_one_linear_region():
    model = he_network(2, 12, 5, 1)
    with torch.no_grad():
        model[2].bias.fill_(-1e3)
    found = slice_regions(model, *corners([-1, -1], [1, -1], [-1, 1]))
    assert found.activation_regions > 10
    assert found.linear_regions == 1


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (([0, 0], [1, 1], [2, 2]), {}, "on one line"),
        (([0, 0], [1, 0], [0, 1]), {"margin": -1.0}, "margin must be 0 or more"),
        (([0, 0], [1, 0], [0, 1, 2]), {}, "shape"),
        (([0, 0], [1, 0], [0, math.nan]), {}, "NaN"),
    ],
)
def test_bad_input(points, options, message):
    with pytest.raises(ValueError, match=message):
        slice_regions(he_network(2, 4, 1), *corners(*map(list, points)), **options)


def test_what_does_not_fit_is_refused(monkeypatch):
    model, plane = he_network(2, 32, 32, 1), corners([-1, -1], [1, -1], [-1, 1])
    with pytest.raises(MemoryEstimateError, match=r"of about .* vertices needs about"):
        slice_regions(model, *plane, memory_share=1e-9)
    # Where the estimate was too low, the count reached is told.
    monkeypatch.setattr("geomprobe.tropical.slices.room_for_vertices", lambda *_: 500)
    with pytest.raises(MemoryEstimateError, match=r"polygons .*: \d{3} were reached at '\d'"):
        slice_regions(model, *plane)


def test_the_certificate_fails_where_a_line_or_a_polygon_is_missed(monkeypatch):
    from geomprobe.tropical.merging import Cells
    from geomprobe.tropical.polygons import Polygons

    model, plane = he_network(2, 8, 8, 1), corners([-1, -1], [1, -1], [-1, 1])
    assert slice_regions(model, *plane).failures == ()
    cells = Polygons.cells

    def all_but_one(mesh):
        every = cells(mesh)
        return Cells(every.corners[: every.starts[-1]], every.starts[:-1])

    with monkeypatch.context() as patch:
        leave_the_second_layer_uncut(patch)
        missed = slice_regions(model, *plane)
    assert not missed.certified
    (failure,) = missed.failures
    assert "the network is not affine on a polygon, by" in failure
    monkeypatch.setattr(Polygons, "cells", all_but_one)
    missed = slice_regions(model, *plane)
    assert not missed.certified
    number, area = missed.failures
    assert number == "the number of polygons is not E - V + 1"
    assert area.startswith("areas sum to 0.9")


def test_picture():
    from matplotlib import pyplot
    from matplotlib.collections import LineCollection

    found = slice_regions(he_network(2, 6, 2), *corners([-1.0, -1], [1, -1], [-1, 1]))
    axes = found.plot()
    assert axes.get_title() == f"{len(found)} polygons"
    (decided,) = (part for part in axes.collections if isinstance(part, LineCollection))
    assert len(found.decision_boundary()) > 2
    np.testing.assert_array_equal(decided.get_segments(), found.decision_boundary())
    pyplot.close("all")
