"""Regions in boxes and whole spaces: closed forms, linear programs, grids, other packages."""

from importlib.util import find_spec
from itertools import pairwise
from math import comb

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from geomprobe.exceptions import MemoryEstimateError
from geomprobe.tropical import region_complex, slice_regions
from tests.tropical.networks import he_network, leave_the_second_layer_uncut


def everywhere(d):
    return [-np.inf] * d, [np.inf] * d


def unit_box(d):
    return [-1.0] * d, [1.0] * d


def by_linear_programs(model, d, half_width=1.0):
    """Count activation patterns with an interior, unit by unit, by linear programs."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    weights = [(p.weight.detach().numpy(), p.bias.detach().numpy()) for p in layers[:-1]]
    bounds = [(-half_width, half_width)] * d + [(0, None)]

    def has_interior(rows, offsets):
        norms = np.linalg.norm(rows, axis=1)
        # rows x + offsets >= radius * norms; the largest radius of a ball that also fits the box.
        left = np.column_stack([-rows, norms])
        box = np.column_stack([np.vstack([np.eye(d), -np.eye(d)]), np.ones(2 * d)])
        found = linprog(
            [0] * d + [-1],
            A_ub=np.vstack([left, box]),
            b_ub=np.concatenate([offsets, np.full(2 * d, half_width)]),
            bounds=bounds,
        )
        return found.status == 0 and -found.fun > 1e-9

    def count(level, unit, slope, offset, rows, offsets, active):
        if level == len(weights):
            return 1
        w, b = weights[level]
        if unit == len(w):
            mask = np.array(active)[:, None]
            return count(
                level + 1, 0, mask * (w @ slope), mask[:, 0] * (w @ offset + b), rows, offsets, []
            )
        row, height = w[unit] @ slope, w[unit] @ offset + b[unit]
        if not row.any():  # Constant here, and off where it is zero.
            now = [*active, float(height > 0)]
            return count(level, unit + 1, slope, offset, rows, offsets, now)
        total = 0
        for sign in (1, -1):
            further = np.vstack([rows, sign * row]), np.append(offsets, sign * height)
            if has_interior(*further):
                total += count(level, unit + 1, slope, offset, *further, [*active, float(sign > 0)])
        return total

    return count(0, 0, np.eye(d), np.zeros(d), np.empty((0, d)), np.empty(0), [])


@pytest.mark.parametrize(("d", "n"), [(1, 9), (2, 20), (3, 20), (4, 14), (5, 10), (6, 9), (8, 10)])
def test_one_hidden_layer_in_general_position(d, n):
    # Zaslavsky: sum of C(n, i) for i up to d.
    found = region_complex(he_network(d, n, 1, seed=d), everywhere(d))
    assert found.activation_regions == sum(comb(n, i) for i in range(d + 1))
    assert found.linear_regions == found.activation_regions
    assert found.certified
    assert found.euler_characteristic == 1


@pytest.mark.parametrize(
    ("widths", "seed"),
    [
        ((1, 6, 5, 1), 0),
        ((2, 6, 5, 1), 1),
        ((3, 5, 4, 1), 2),
        ((4, 5, 3, 1), 3),
        ((3, 4, 3, 3, 1), 4),
    ],
)
def test_linear_programs_count_the_same(widths, seed):
    model, d = he_network(*widths, seed=seed), widths[0]
    found = region_complex(model, unit_box(d))
    assert found.certified
    assert found.activation_regions == by_linear_programs(model, d)


@pytest.mark.parametrize("widths", [(1, 5, 4, 1), (2, 4, 3, 1), (3, 4, 3, 1)])
def test_whole_numbers_as_weights_are_counted_or_refused(widths):
    # Parallel, equal and constant units, and many walls through one point.
    d, refused = widths[0], []
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        model = he_network(*widths)
        for part in model.parameters():
            part.data = torch.randint(-1, 2, part.shape, generator=generator).double()
        try:
            found = region_complex(model, ([-1.37] * d, [1.37] * d))
        except ValueError as error:
            refused.append(str(error))
            continue
        assert found.certified
        assert found.activation_regions == by_linear_programs(model, d, 1.37)
    assert all(f"more than {d} walls go through one point" in message for message in refused)
    assert bool(refused) == (d > 2)


@pytest.mark.parametrize(("widths", "points"), [((2, 8, 6, 1), 600), ((3, 5, 4, 1), 80)])
def test_a_dense_grid_sees_no_more(widths, points):
    model, d = he_network(*widths), widths[0]
    axis = torch.linspace(-1, 1, points, dtype=torch.float64)
    hidden = torch.cartesian_prod(*[axis] * d)
    patterns = []
    with torch.no_grad():
        for layer in model:
            hidden = layer(hidden)
            if isinstance(layer, nn.ReLU):
                patterns.append(np.packbits((hidden > 0).numpy(), axis=1))
    seen = len(np.unique(np.concatenate(patterns, axis=1), axis=0))
    count = region_complex(model, unit_box(d)).activation_regions
    assert 0.9 * count < seen <= count


# Counted by affinitree 0.23.0 in the whole space, and by regioncam 0.5.2 in [-1, 1]^2.
WHOLE = {
    ((2, 8, 8, 1), 0): 129,
    ((2, 8, 8, 1), 1): 105,
    ((3, 8, 8, 8, 1), 0): 1900,
    ((3, 8, 8, 8, 1), 1): 1611,
    ((3, 8, 8, 8, 1), 2): 3408,
    ((3, 16, 16, 1), 0): 4299,
    ((4, 12, 12, 1), 0): 10390,
    ((4, 12, 12, 1), 1): 13046,
    ((5, 7, 6, 5, 1), 1): 5996,  # A ray beside which rounding alone makes a slope.
}
PLANE = {(2, 8, 8, 1): 84, (2, 32, 32, 32, 1): 1880, (2, 64, 64, 1): 4354}


@pytest.mark.parametrize(("widths", "seed"), WHOLE)
def test_affinitree_counted_the_same_in_whole_spaces(widths, seed):
    found = region_complex(he_network(*widths, seed=seed), everywhere(widths[0]))
    assert found.activation_regions == WHOLE[widths, seed]
    assert found.certified


@pytest.mark.parametrize("widths", PLANE)
def test_regioncam_counted_the_same_in_squares(widths):
    found = region_complex(he_network(*widths), unit_box(2))
    assert found.f_vector[2] == PLANE[widths]
    assert found.certified


@pytest.mark.skipif(find_spec("regioncam") is None, reason="regioncam is not installed")
@pytest.mark.parametrize("seed", range(5))
def test_regioncam(seed):
    import regioncam

    model = he_network(2, 24, 24, 1, seed=seed)
    camera = regioncam.Regioncam(size=1)
    for layer in model:
        if isinstance(layer, nn.Linear):
            weight, bias = (p.detach().numpy().astype(np.float32) for p in layer.parameters())
            camera.add(regioncam.nn.Linear(np.ascontiguousarray(weight.T), bias))
        else:
            camera.add(regioncam.nn.ReLU())
    assert region_complex(model, unit_box(2)).f_vector[2] == camera.num_faces


@pytest.mark.skipif(find_spec("affinitree") is None, reason="affinitree is not installed")
@pytest.mark.parametrize("seed", range(3))
def test_affinitree(seed):
    import affinitree

    model = he_network(3, 10, 6, 1, seed=seed).float()
    found = region_complex(model, everywhere(3))
    layers = affinitree.extract_pytorch_architecture(3, model)
    assert found.activation_regions == affinitree.builder.from_layers(layers).num_terminals()


def test_the_two_meshes_agree_in_the_plane(monkeypatch):
    # Half-edges, and vertices and edges with hashed faces, are independent of each other.
    import geomprobe.tropical.enumeration as module

    model = he_network(2, 32, 32, 1)
    polygons = region_complex(model, unit_box(2))
    monkeypatch.setattr(module, "_polygons", module._cells)
    skeleton = region_complex(model, unit_box(2))
    assert skeleton.f_vector == polygons.f_vector
    assert skeleton.linear_regions == polygons.linear_regions
    assert len(skeleton.walls) == len(polygons.walls)


def test_faces_meet_as_in_a_simple_complex():
    found = region_complex(he_network(4, 8, 6, 1), unit_box(4))
    vertices = found.f_vector[0]
    degree = np.bincount(found.edges.ravel(), minlength=vertices)
    inner = (np.abs(found.vertices) < 1 - 1e-9).sum(axis=1)
    # A vertex on k facets has one edge off each of them, and two off each other wall.
    np.testing.assert_array_equal(degree, 2 * inner + (4 - inner))
    assert found.walls.shape == (found.f_vector[3] - on_the_border(found), 2)
    assert len(found.points) == found.f_vector[4]
    assert (np.abs(found.points) < 1).all()


def on_the_border(found):
    """Cells of the eight facets of the box, each a box of one dimension fewer."""
    total = 0
    for axis in range(4):
        for side in (-1.0, 1.0):
            model = fixed(found._tape.model, axis, side)
            total += region_complex(model, unit_box(3)).f_vector[3]
    return total


def fixed(model, axis, value):
    """The network of three inputs, with one of four held fast."""
    rest = [i for i in range(4) if i != axis]
    first = nn.Linear(3, model[0].out_features, dtype=torch.float64)
    with torch.no_grad():
        first.weight.copy_(model[0].weight[:, rest])
        first.bias.copy_(model[0].bias + value * model[0].weight[:, axis])
    return nn.Sequential(first, *list(model)[1:])


def test_points_lie_in_different_regions_and_tell_the_patterns():
    model = he_network(3, 8, 8, 1)
    found = region_complex(model, unit_box(3))
    hidden, patterns = torch.from_numpy(found.points), []
    with torch.no_grad():
        for layer in model:
            hidden = layer(hidden)
            if isinstance(layer, nn.ReLU):
                patterns.append(hidden > 0)
    assert len(torch.unique(torch.cat(patterns, 1), dim=0)) == found.activation_regions


def test_regions_with_one_affine_map_are_merged():
    # Where the second layer is off as a whole, the first one does not matter.
    model = he_network(2, 6, 2, 1, seed=2)
    with torch.no_grad():
        model[2].bias -= 0.7
    found = region_complex(model, unit_box(2))
    assert found.linear_regions < found.activation_regions
    # Against gradients by autograd at a point of each cell, joined by a search.
    points = torch.from_numpy(found.points).requires_grad_()
    gradients = torch.autograd.grad(model(points).sum(), points)[0]
    near = {i: set() for i in range(len(points))}
    for i, j in found.walls.tolist():
        if torch.allclose(gradients[i], gradients[j], rtol=0, atol=1e-9):
            near[i].add(j)
            near[j].add(i)
    seen, regions = set(), 0
    for start in near:
        if start not in seen:
            regions, queue = regions + 1, [start]
            while queue:
                seen.add(at := queue.pop())
                queue += near[at] - seen
    assert regions == found.linear_regions


@pytest.mark.parametrize("act", [nn.LeakyReLU, nn.Hardtanh, nn.PReLU])
def test_other_bends(act):
    model = he_network(3, 6, 5, 1, act=act).double()
    found = region_complex(model, unit_box(3))
    assert found.certified
    if act is not nn.Hardtanh:  # Two parallel walls a unit.
        relu = region_complex(he_network(3, 6, 1), unit_box(3)).activation_regions
        assert found.activation_regions > relu
    # All that there is lies in a cube of this width, whose mesh is another.
    whole, cube = (
        region_complex(model, everywhere(3)),
        region_complex(model, ([-1e6] * 3, [1e6] * 3)),
    )
    assert whole.certified
    assert np.abs(whole.vertices).max() < 1e6
    assert whole.activation_regions == cube.activation_regions
    assert whole.linear_regions == cube.linear_regions


def test_the_whole_of_six_dimensions():
    # Counted by affinitree 0.23.0. The last vertex is millions out.
    found = region_complex(he_network(6, 8, 8, 8, 1).float(), everywhere(6))
    assert (found.activation_regions, found.certified) == (105_588, True)


class Everything(nn.Module):
    """A skip, PReLU, max-pooling, concatenation, absolute values, clipping and a convolution."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.slope = nn.Linear(3, 4), nn.Linear(4, 4), nn.PReLU(4)
        self.filter = nn.Conv1d(1, 2, 2)

    def forward(self, x):
        h = torch.relu(self.first(x))
        h = h + self.slope(self.second(h))
        h = torch.cat([nn.functional.max_pool1d(h[:, None], 2)[:, 0], (h - 0.3).abs()[:, :2]], 1)
        return self.filter(h.clamp(-0.4, 0.6)[:, None]).flatten(1)


def test_every_operation_bends_where_the_gradient_changes():
    model = Everything().double()
    found = region_complex(model, unit_box(3))
    assert found.certified

    def gradients(points):
        points = points.requires_grad_()
        outputs = model(points).sum(0)
        parts = [torch.autograd.grad(out, points, retain_graph=True)[0] for out in outputs]
        return torch.cat(parts, 1).numpy().round(9) + 0.0

    cells = gradients(torch.from_numpy(found.points))
    axis = torch.linspace(-0.999, 0.999, 45, dtype=torch.float64)
    seen = {row.tobytes() for row in gradients(torch.cartesian_prod(axis, axis, axis))}
    assert seen <= {row.tobytes() for row in cells}
    assert 0.8 * found.linear_regions < len(seen) <= found.linear_regions


def test_a_finite_box_does_not_hold_the_whole_space():
    model = he_network(4, 14, 1, seed=4)
    small = region_complex(model, ([-10.0] * 4, [10.0] * 4))
    assert small.certified
    assert small.activation_regions < sum(comb(14, i) for i in range(5))


def test_what_bends_beyond_the_widest_cube_is_told(monkeypatch):
    import geomprobe.tropical.complexes as module

    monkeypatch.setattr(module, "CUBE", 2.0)
    monkeypatch.setattr(module, "SIMPLEX", 0.5)
    monkeypatch.setattr(module, "WIDEST", 2.0)
    for d, width in ((2, "2"), (3, "0.5")):
        found = region_complex(he_network(d, 10, 1), everywhere(d))
        assert not found.certified
        assert f"beyond the half-width {width}," in found.failures[0]


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_certificate_fails_where_a_wall_is_missed(d, monkeypatch):
    import geomprobe.tropical.polyline as polyline

    model = he_network(d, 8, 8, 1)
    assert region_complex(model, unit_box(d)).failures == ()
    crossings = polyline.crossings
    leave_the_second_layer_uncut(monkeypatch)
    monkeypatch.setattr(polyline, "crossings", lambda *given: [p[1:] for p in crossings(*given)])
    found = region_complex(model, unit_box(d))
    assert not found.certified
    told = " ".join(found.failures)
    assert "the network is not affine on a cell, by" in told
    assert ("the network is not affine on a piece, by" in told) == (d == 1)


def test_the_certificate_fails_where_faces_do_not_pair(monkeypatch):
    from geomprobe.tropical.skeleton import Skeleton

    cut = Skeleton._subdivided

    def with_an_edge_of_another_name(mesh, *given):
        mesh.hashes[0] ^= np.uint64(1)
        return cut(mesh, *given)

    monkeypatch.setattr(Skeleton, "_subdivided", with_an_edge_of_another_name)
    found = region_complex(he_network(3, 8, 1), unit_box(3))
    assert not found.certified
    unpaired, missing, *_ = found.failures
    assert "crossed faces do not have just two crossed edges" in unpaired
    assert "edges are missing at vertices" in missing


def test_the_certificate_fails_where_the_euler_characteristic_is_not_one(monkeypatch):
    import geomprobe.tropical.skeleton as module

    face_counts = module.face_counts

    def one_edge_more(*given):
        counts, missing = face_counts(*given)
        return counts + np.array([0, 1, 0, 0]), missing

    monkeypatch.setattr(module, "face_counts", one_edge_more)
    found = region_complex(he_network(3, 8, 1), unit_box(3))
    assert (found.failures, found.certified) == (("the Euler characteristic is 0, not 1",), False)


@pytest.mark.parametrize("far", [1.0, 1e3, 1e6])
def test_where_walls_meet_far_out_nothing_is_lost(far):
    # Two walls that meet beyond all others, at the distance told: 2 + 2 regions, each cut by one.
    model = he_network(3, 3, 1)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0, 0], [1, 1 / far, 0], [0.1, 0.2, 1]]))
        model[0].bias.copy_(torch.tensor([0.3, -0.7, 0.2]))
    found = region_complex(model, everywhere(3))
    assert (found.activation_regions, found.linear_regions, found.certified) == (8, 8, True)
    assert far / 10 < np.abs(found.vertices).max() < 100 * far


DEGENERATE = {
    "zero biases": lambda: unbiased(he_network(3, 6, 1)),
    "a duplicated unit": lambda: with_rows(he_network(3, 6, 1), 2.0),
    "a mirrored unit": lambda: with_rows(he_network(3, 6, 1), -1.5),
}


def unbiased(model):
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.bias.zero_()
    return model


def with_rows(model, factor):
    with torch.no_grad():
        model[0].weight[1] = factor * model[0].weight[0]
        model[0].bias[1] = factor * model[0].bias[0]
    return model


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_networks_are_refused_or_perturbed(name):
    model = DEGENERATE[name]()
    for box in (unit_box(3), everywhere(3)):
        with pytest.raises(ValueError, match="more than 3 walls go through one point, seen at '1'"):
            region_complex(model, box)
    moved = region_complex(model, everywhere(3), perturb=1e-3)
    assert moved.certified
    assert "added to the argument of every bend" in moved.notes[0]
    if name == "zero biases":  # Then it is in general position.
        assert moved.activation_regions == sum(comb(6, i) for i in range(4))


def test_degenerate_networks_in_the_plane_are_counted():
    # n lines through one point make 2 n regions, and n parallel ones n + 1.
    model = unbiased(he_network(2, 7, 1))
    assert region_complex(model, unit_box(2)).activation_regions == 14
    found = region_complex(model, ([-0.9, -0.8], [1.0, 0.7]))
    assert (found.activation_regions, found.certified) == (14, True)
    assert "Not in general position" in found.notes[0]
    assert region_complex(with_rows(model, 3.0), unit_box(2)).activation_regions == 12
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([0.3, 0.4])
        model[0].bias.copy_(torch.linspace(-0.3, 0.3, 7))
    assert region_complex(model, unit_box(2)).activation_regions == 8
    # A deep one without biases: regions are cones, as many as on a circle about the origin.
    model = unbiased(he_network(2, 5, 5, 5, 1, seed=3))
    angle = np.linspace(0, 2 * np.pi, 200_001)[:-1]
    hidden, patterns = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], 1)), []
    with torch.no_grad():
        for layer in model:
            hidden = layer(hidden)
            if isinstance(layer, nn.ReLU):
                patterns.append(hidden > 0)
    pattern = torch.cat(patterns, 1)
    changes = int((pattern != pattern.roll(1, 0)).any(1).sum())
    assert region_complex(model, unit_box(2)).activation_regions == changes


@pytest.mark.parametrize("d", [2, 3])
def test_infinite_and_large_bounds_leave_what_they_do_not_reach(d):
    class Clipped(nn.Module):
        def __init__(self, most):
            super().__init__()
            self.inner, self.most = he_network(d, 4, 1)[0], torch.tensor(most)

        def forward(self, x):
            return self.inner(x).clamp(torch.tensor(-0.2), self.most)

    found, plain = (
        region_complex(Clipped(most), unit_box(d))
        for most in ([torch.inf, 1e30, 0.3, 1e9], [50.0, 50.0, 0.3, 50.0])
    )
    assert found.certified
    assert found.f_vector == plain.f_vector
    assert found.linear_regions == plain.linear_regions


def test_how_many_vertices_of_a_whole_space_to_expect_does_not_depend_on_its_scale():
    model = nn.Sequential(nn.Linear(3, 300), nn.ReLU(), nn.Linear(300, 1)).double()
    with torch.no_grad():
        model[0].bias.mul_(1e-4)
    with pytest.raises(
        MemoryEstimateError, match=r"complex of about [\d.]+e\+0[56] vertices needs"
    ):
        region_complex(model, everywhere(3), memory_share=1e-9)


def test_dead_and_constant_units_change_nothing():
    model = he_network(3, 6, 1)
    count = region_complex(model, unit_box(3)).activation_regions
    wide = he_network(3, 8, 1)
    with torch.no_grad():
        wide[0].weight[:6], wide[0].bias[:6] = model[0].weight, model[0].bias
        wide[0].weight[6:] = 0.0
        wide[0].bias[6], wide[0].bias[7] = 0.0, -1.0
    assert region_complex(wide, unit_box(3)).activation_regions == count


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (([0.0] * 11, [1.0] * 11), "has 11 dimensions, .* at most 10; .*local_complexity"),
        (([0.0, 0.0], [1.0, 0.0]), "low < high"),
        (([0.0, -np.inf], [1.0, np.inf]), "infinite on all sides"),
        (([0.0, 0.0], [1.0]), "two corners of one shape"),
        (([np.nan, 0.0], [1.0, 1.0]), "low < high"),
    ],
)
def test_bad_boxes(box, message):
    with pytest.raises(ValueError, match=message):
        region_complex(nn.Linear(len(box[0]), 1), box)


def test_what_does_not_fit_is_refused(monkeypatch):
    model = he_network(3, 32, 32, 1)
    with pytest.raises(MemoryEstimateError, match=r"complex of about .* vertices needs about"):
        region_complex(model, unit_box(3), memory_share=1e-6)
    # Where the estimate was too low, the count reached is told.
    import geomprobe.tropical.complexes as module

    monkeypatch.setattr(module, "room_for_vertices", lambda *_: 500)
    with pytest.raises(MemoryEstimateError, match=r"5\d\d were reached at '\d'"):
        region_complex(model, unit_box(3))


@pytest.mark.parametrize("widths", [(2, 32, 32, 1), (3, 32, 32, 1), (4, 12, 12, 1), (5, 10, 10, 1)])
def test_the_estimate_is_of_the_right_size(widths, monkeypatch):
    import geomprobe.tropical.enumeration as module

    told = []
    monkeypatch.setattr(module, "require_memory", lambda needed, *_, **__: told.append(needed))
    d = widths[0]
    found = region_complex(he_network(*widths), unit_box(d))
    a_vertex = 8 * (4 * max(pairwise(widths), key=max)[0] + d * (8 + d))
    assert 0.1 < told[0] / a_vertex / len(found.vertices) < 10


def test_slices_and_complexes_count_the_same():
    model = he_network(2, 16, 16, 3)
    a, b, c = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    slice_, complex_ = slice_regions(model, a, b, c, margin=0), region_complex(model, unit_box(2))
    assert len(slice_) == complex_.f_vector[2]
    assert slice_.linear_regions == complex_.linear_regions
