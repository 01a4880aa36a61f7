"""Parallel, equal, concurrent and nearly so: counts against exact arithmetic in fractions.

Either the count is exact, or the network is refused, or a note tells what was taken for rounding.
"""

import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe.tropical import linear_pieces, region_complex, slice_regions, tropical_form
from tests.tropical.networks import he_network


def distinct(rows):
    """Hyperplanes a.x + b = 0, once each: the first entry of a that is not zero is made 1."""
    planes = []
    for row in rows:
        exact = [Fraction(entry) for entry in row]
        lead = next((entry for entry in exact[:-1] if entry), None)
        if lead is not None and (plane := [entry / lead for entry in exact]) not in planes:
            planes.append(plane)
    return planes


def everywhere(rows):
    """Regions of hyperplanes in R^d, by deletion and restriction (Zaslavsky 1975)."""
    if not (planes := distinct(rows)):
        return 1
    *others, last = planes
    axis = next(i for i, entry in enumerate(last[:-1]) if entry)
    on_last = [[a - plane[axis] * b for a, b in zip(plane, last, strict=True)] for plane in others]
    return everywhere(others) + everywhere([row[:axis] + row[axis + 1 :] for row in on_last])


def in_square(rows):
    """Regions of lines in (-1, 1)^2: one more for each, and for each further one at a point."""
    corners = [(x, y) for x in (-1, 1) for y in (-1, 1)]
    heights = [
        (line, [line[0] * x + line[1] * y + line[2] for x, y in corners]) for line in distinct(rows)
    ]
    lines = [line for line, at in heights if min(at) < 0 < max(at)]
    points = {}
    for i, (a, b, c) in enumerate(lines):
        for j, (d, e, f) in enumerate(lines[:i]):
            if determinant := a * e - b * d:
                point = (b * f - c * e) / determinant, (c * d - a * f) / determinant
                if max(map(abs, point)) < 1:
                    points.setdefault(point, set()).update((i, j))
    return 1 + len(lines) + sum(len(through) - 1 for through in points.values())


def one_layer(rows):
    """The network whose units have these weights and biases, none of which cancel in the output."""
    weights = torch.tensor(rows, dtype=torch.float64)
    model = nn.Sequential(
        nn.Linear(weights.shape[1] - 1, len(rows)), nn.ReLU(), nn.Linear(len(rows), 1)
    )
    model.double()
    with torch.no_grad():
        model[0].weight.copy_(weights[:, :-1])
        model[0].bias.copy_(weights[:, -1])
        model[2].weight.copy_(1 + torch.arange(len(rows)) / 8)
    return model


def through(point, *normals):
    return [(*normal, -float(np.dot(normal, point))) for normal in normals]


TURNS = [(np.cos(i), np.sin(i)) for i in range(5)]
PLANE = {
    "4 parallel": [(0.6, 0.8, 0.1 * i - 0.3) for i in range(4)],
    "grid": [(1, 0, 0.2 * i - 0.3) for i in range(4)] + [(0, 1, 0.2 * i - 0.3) for i in range(3)],
    "skew grid": [(0.6, 0.8, 0.2 * i - 0.3) for i in range(4)]
    + [(0.5, -0.7, 0.21 * i - 0.3) for i in range(3)],
    "5 concurrent": through((0, 0), *TURNS),
    "5 concurrent, binary": through((0.25, 0.5), (1, 2), (3, 1), (1, -1), (2, -5), (1, 0)),
    "equal": [(0.3, 0.7, 0.1), (0.3, 0.7, 0.1), (0.5, -0.2, 0.05)],
    "twice": [(0.3, 0.7, 0.1), (0.6, 1.4, 0.2), (0.5, -0.2, 0.05)],
    "mirrored": [(0.3, 0.7, 0.1), (-0.3, -0.7, -0.1), (0.5, -0.2, 0.05)],
    "constant": [(0.3, 0.7, 0.1), (0, 0, 0), (0, 0, 1), (0, 0, -1), (0.5, -0.2, 0.05)],
    "corners": [(1, 1, -2), (1, -1, 0), (1, 1, 0), (1, 0.5, -1.5), (1, 1, -0.5)],
    "sides": [(1, 0, -1), (0, 1, 1), (1, 1, 0)],
    "far apart": [(1, 0, 0), (1, 0, 1e5), (0, 1, 0.1)],
}
NEARLY = {
    f"{what} {e:g}": rows(e)
    for e in (1e-6, 1e-9, 1e-12, 1e-15)
    for what, rows in {
        "turned": lambda e: [(0.3, 0.7, 0.1), (0.3 + e, 0.7, 0.1), (0.5, -0.2, 0.05)],
        "meeting far off": lambda e: [(1, 0.5, 0.1), (1, 0.5 + e, 0.2), (0.5, -0.2, 0.05)],
        "shifted": lambda e: [(0.3, 0.7, 0.1), (0.3, 0.7, 0.1 + e), (0.5, -0.2, 0.05)],
        "concurrent": lambda e: [(1, 0, 0), (0, 1, 0), (1, 1, e)],
        "at corners": lambda e: [(1, 1, e - 2), (1, -1, -2 - e), (1, 0.5, -1.5)],
    }.items()
}
del NEARLY["meeting far off 1e-15"]  # Counts as parallel, as the page on linear regions says.


def counted(find, *args, **options):
    """The count and whether a reader is warned; None if the network is refused."""
    try:
        found = find(*args, **options)
    except ValueError as refusal:
        if "walls go through one point" not in str(refusal):
            raise
        return None
    return found.activation_regions, bool(found.notes or found.failures)


@pytest.mark.parametrize("name", [*PLANE, *NEARLY])
def test_lines_in_the_plane(name):
    rows = (PLANE | NEARLY)[name]
    model, anchors = one_layer(rows), torch.tensor([[-1.0, -1], [1, -1], [-1, 1]]).double()
    here, all_over = in_square(rows), everywhere(rows)
    found = [
        (counted(region_complex, model, ([-1.0] * 2, [1.0] * 2)), here),
        (counted(slice_regions, model, *anchors, margin=0), here),
        (counted(region_complex, model, ([-np.inf] * 2, [np.inf] * 2)), all_over),
    ]
    for (count, warned), exact in found:
        assert count == exact or (name in NEARLY and warned)


SPACE = {
    "parallel": [(0.6, 0.7, 0.2, 0.1 * i - 0.3) for i in range(4)],
    "grid": [
        (*np.eye(3)[axis], 0.2 * i - 0.3) for axis, n in enumerate((3, 2, 2)) for i in range(n)
    ],
    "a book": [(a, b, 0.3 * a - b, 0.1 * a) for a, b in TURNS[:4]],
    "a prism": [(1, 0, 0, -0.1), (0, 1, 0, -0.2), (1, 1, 0, 0.3), (0.2, 0.3, 1, 0)],
    "equal": [(0.3, 0.7, 0.2, 0.1)] * 2 + [(0.5, -0.2, 0.1, 0.05)],
    "concurrent": through((0.1, 0.2, 0.3), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)),
    "constant": [(0.3, 0.7, 0.2, 0.1), (0, 0, 0, 0), (0, 0, 0, 1), (0.5, -0.2, 0.1, 0.05)],
} | {
    f"{what} {e:g}": rows(e)
    for e in (1e-6, 1e-9, 1e-12, 1e-15)
    for what, rows in {
        "turned": lambda e: [(0.3, 0.7, 0.2, 0.1), (0.3 + e, 0.7, 0.2, 0.1), (0.1, 0.4, -0.3, 0)],
        "shifted": lambda e: [(0.3, 0.7, 0.2, 0.1), (0.3, 0.7, 0.2, 0.1 + e), (0.1, 0.4, -0.3, 0)],
        "concurrent": lambda e: [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 1, 1, e)],
    }.items()
}


@pytest.mark.parametrize("name", SPACE)
def test_planes_in_space(name):
    rows = SPACE[name]
    found = counted(region_complex, one_layer(rows), ([-np.inf] * 3, [np.inf] * 3))
    if name in ("parallel", "grid", "a prism", "constant"):
        assert found[0] == everywhere(rows)
    elif name in ("a book", "equal", "concurrent"):
        assert found is None
    else:
        assert found is None or found[0] == everywhere(rows) or found[1]


LINE = {
    "4 apart": [(1, 0.3 * i - 0.4) for i in range(4)],
    "far out": [(1, 1), (2, -3), (1, -1e7)],
    "near and far": [(1, 0), (1, -1e7)],
    "near and farther": [(1, 0), (1, -4.9e8)],
    "at a round number": [(1, -1e6)],
    "twice": [(1, 0), (2, 0), (-1, 0), (1, 1)],
    "constant": [(0, 0), (0, 1), (1, 0.5)],
    "none": [(0, 1)],
} | {f"close {e:g}": [(1, 0), (1, e)] for e in (1e-3, 1e-6, 1e-9, 1e-12, 1e-15)}


@pytest.mark.parametrize("name", LINE)
def test_points_on_the_line(name):
    found = counted(region_complex, one_layer(LINE[name]), ([-np.inf], [np.inf]))
    assert found == (everywhere(LINE[name]), name == "twice")


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
@pytest.mark.parametrize(("at", "other"), [(3, -2), (0, 1e5)])
def test_close_points_beside_a_far_one_are_told_apart_or_noted(gap, at, other):
    rows = [(1, -at), (1, -at - gap), (1, -other)]
    count, warned = counted(region_complex, one_layer(rows), ([-np.inf], [np.inf]))
    assert count == everywhere(rows) or warned
    assert not warned or gap < 1e-3


def test_an_interval_tells_what_rounding_decides():
    model = one_layer([(1, 0), (1, 1e-13)])
    found = region_complex(model, ([-1.0], [1.0]))
    assert (found.activation_regions, found.certified) == (2, True)
    assert "1 times a unit bends where another does" in found.notes[0]


@pytest.mark.parametrize(
    ("rows", "start", "end", "pieces"),
    [
        (PLANE["4 parallel"], (-1, -1), (1, 1), 5),
        (PLANE["equal"], (-1, -1), (1, 1), 3),
        ([(1, 0, 0), (0, 1, 0), (0.5, 0.5, 0.1)], (0, -1), (0, 1), 3),  # In the first wall.
        ([(0.3, 0.7, 0), (0, 1, 0.1), (0.5, 0.5, 0.1)], (-0.7, 0.3), (0.7, -0.3), 3),
        (through((0.1, 0.1), *TURNS), (-0.9, -0.9), (1.1, 1.1), 2),
        ([(1, 0, 0), (1, 0, -1), (1, 0, -0.5)], (0, 0), (1, 0), 2),  # The ends lie in walls.
        ([(1, 0, 0), (1, 0, 1e-9)], (-0.5, 0), (0.5, 0), 3),
        ([(1, 0, 0), (1, 0, 1e-11)], (-0.5, 0), (0.5, 0), 3),
        ([(1, 0, 0), (1, 0, 1e-13)], (-0.5, 0), (0.5, 0), 2),  # Below 1e-12 of the segment.
    ],
)
def test_lines_across_lines(rows, start, end, pieces):
    ends = torch.tensor([start, end], dtype=torch.float64)
    found = linear_pieces(one_layer(rows), *ends)
    assert (found.activation_pieces, found.certified) == (pieces, True)


@pytest.mark.parametrize(
    ("gap", "note"),
    [(1e-13, "1 times a unit bends where another does"), (1e-11, "shorter .*: 1"), (1e-3, None)],
)
def test_lines_tell_what_rounding_decides(gap, note):
    model = one_layer([(1, 0, 0), (1, 0, gap)])
    found = linear_pieces(model, *torch.tensor([[-0.5, 0], [0.5, 0]], dtype=torch.float64))
    assert bool(found.notes) == bool(note)
    if note:
        assert re.search(note, found.notes[0])


@pytest.mark.parametrize("factor", [1.0, 3.0, 0.1])
def test_what_cancels_does_not_bend(factor):
    """Units of a second layer that are zero but for rounding, on a line and in the plane."""
    first, twice = he_network(2, 9, 1), he_network(2, 18, 6, 1)
    with torch.no_grad():
        for part, own in ((twice[0].weight, first[0].weight), (twice[0].bias, first[0].bias)):
            part.copy_(torch.cat([own, factor * own]))
        twice[2].weight[:3, 9:] = -twice[2].weight[:3, :9] / factor
        twice[2].bias[:3] = 0.0
    bending = nn.Linear(18, 3).double()
    single = nn.Sequential(twice[0], nn.ReLU(), bending, nn.ReLU(), nn.Linear(3, 1).double())
    with torch.no_grad():
        bending.weight.copy_(twice[2].weight[3:])
        bending.bias.copy_(twice[2].bias[3:])
    ends = torch.tensor([[-2.0, -1.5], [1.8, 2.2]]).double()
    lines = [linear_pieces(model, *ends).activation_pieces for model in (twice, single)]
    assert lines[0] == lines[1] > 9
    box = [-1.0] * 2, [1.0] * 2
    boxes = [region_complex(model, box).activation_regions for model in (twice, single)]
    assert boxes[0] == boxes[1] > 20


@pytest.mark.parametrize("name", PLANE)
def test_a_monomial_for_each_region(name):
    """All weights out being positive, P is the sum of the units, convex, and Q is constant."""
    form = tropical_form(one_layer(PLANE[name]), torch.zeros(2).double())
    assert form.n_terms[0] == (everywhere(PLANE[name]), 1)
    assert form.verified
