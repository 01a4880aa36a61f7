"""Critical points of deep linear networks, built by hand, against the Hessian itself."""

from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe import Samples
from geomprobe.algebraic import classify_linear_critical_point, gaussian_binomial
from geomprobe.algebraic.bent_loss import bent_loss

RNG = np.random.default_rng(0)
INPUTS, HIDDEN, OUTPUTS = 3, 4, 4
X, Y = RNG.normal(size=(20, INPUTS)), RNG.normal(size=(20, OUTPUTS))
ROOT = np.linalg.cholesky(X.T @ X / len(X))
U, S, V = np.linalg.svd(Y.T @ X / len(X) @ np.linalg.inv(ROOT).T, full_matrices=False)


def build(kept, blocks, rng):
    """Weights whose product keeps some singular directions, with other blocks beside them.

    They are critical where two of the blocks are zero.
    """
    depth, r = len(blocks), len(kept)
    rest = [i for i in range(INPUTS) if i not in kept]
    bottom = [np.concatenate([S[kept, None] * V[kept], blocks[0] @ V[rest]])]
    middle = [
        np.block([[np.eye(r), np.zeros((r, HIDDEN - r))], [np.zeros((HIDDEN - r, r)), block]])
        for block in blocks[1:-1]
    ]
    weights = [*bottom, *middle, np.concatenate([U[:, kept], U[:, rest] @ blocks[-1]], axis=1)]
    weights[0] = weights[0] @ np.linalg.inv(ROOT)
    for layer in range(depth - 1):
        change = rng.normal(size=(HIDDEN, HIDDEN))
        weights[layer] = change @ weights[layer]
        weights[layer + 1] = weights[layer + 1] @ np.linalg.inv(change)
    return weights


def hessian_index(weights, x=X, y=Y):
    model = nn.Sequential(*[nn.Linear(*w.shape[::-1], bias=False) for w in weights]).double()
    for layer, weight in zip(model, weights, strict=True):
        layer.weight.data = torch.as_tensor(weight)
    here = bent_loss(model, Samples(torch.as_tensor(x), torch.as_tensor(y)), nn.MSELoss())
    assert here.slope < 1e-9
    return here.index


def cases(depth):
    """Every set of directions, with every choice of blocks of which two are zero."""
    rng = np.random.default_rng(1)
    for size in range(INPUTS + 1):
        for kept in combinations(range(INPUTS), size):
            e, q = HIDDEN - size, INPUTS - size
            shapes = [(e, q), *[(e, e)] * (depth - 2), (q, e)]
            for present in product((0, 1), repeat=depth):
                if q and sum(present) > depth - 2:
                    continue
                blocks = [on * rng.normal(size=s) for on, s in zip(present, shapes, strict=True)]
                yield list(kept), build(list(kept), blocks, rng)


@pytest.mark.parametrize("depth", [2, 3, pytest.param(4, marks=pytest.mark.long)])
def test_every_kind_is_that_of_the_hessian(depth):
    # Achour, Malgouyres and Gerchinovitz (2024): negative curvature tells strict saddles.
    kinds = Counter()
    for kept, weights in cases(depth):
        found = classify_linear_critical_point(weights, X, Y)
        index = hessian_index(weights)
        kinds[found.kind] += 1
        assert found.kept == tuple(kept)
        assert found.morse_index.value == index
        assert (found.kind == "strict saddle") == (index > 0)
        assert (found.kind == "global minimum") == (len(kept) == INPUTS)
        # The widths allow every matrix: only the minimum is pure (Trager et al., 2020).
        assert found.pure == (found.kind == "global minimum")
    assert kinds["non-strict saddle"] == {2: 0, 3: 3, 4: 15}[depth]
    assert min(kinds["global minimum"], kinds["strict saddle"]) > 0


def two_layers(matrix, kept, width, rng):
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    below = np.zeros((width, matrix.shape[1]))
    above = np.zeros((len(matrix), width))
    below[: len(kept)] = np.sqrt(s[kept])[:, None] * v[kept]
    above[:, : len(kept)] = u[:, kept] * np.sqrt(s[kept])
    change = rng.normal(size=(width, width))
    return [change @ below, above @ np.linalg.inv(change)]


@pytest.mark.parametrize(("rows", "columns", "width"), [(4, 4, 2), (4, 6, 2), (3, 5, 1)])
def test_pure_points_of_narrow_networks_have_gaussian_indices(rows, columns, width):
    rng = np.random.default_rng(2)
    matrix, m = rng.normal(size=(rows, columns)), min(rows, columns)
    x = np.eye(columns) * np.sqrt(columns)
    y = x @ matrix.T
    indices = []
    for size in range(width + 1):
        for kept in combinations(range(m), size):
            weights = two_layers(matrix, list(kept), width, rng)
            found = classify_linear_critical_point(weights, x, y)
            assert found.kept == kept
            # Only points of full rank depend on the functions alone.
            assert found.pure == (size == width)
            assert found.morse_index.method == "closed form of two layers"
            assert found.morse_index.value == hessian_index(weights, x, y)
            first = kept == tuple(range(width))
            assert found.kind == ("global minimum" if first else "strict saddle")
            if size == width:
                indices.append(int(found.morse_index.value))
    assert np.bincount(indices).tolist() == gaussian_binomial(m, width).tolist()


def test_weights_of_torch_after_training_are_a_global_minimum():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 4, bias=False)).double()
    x, y = torch.as_tensor(X), torch.as_tensor(Y)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=500, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    found = classify_linear_critical_point([layer.weight for layer in model], X, Y)
    assert found.kind == "global minimum"
    assert found.kept == (0, 1)
    assert found.pure
    assert found.largest_rank == 2
    assert found.loss == pytest.approx(found.least_loss)
    mean = float(np.square(Y - model(x).detach().numpy()).sum(axis=1).mean())
    assert found.loss == pytest.approx(mean / 2)


def test_a_weak_direction_that_is_missed_makes_a_saddle():
    matrix = np.diag([1.0, 1e-4, 1e-5])
    x = np.eye(3) * np.sqrt(3)
    for kept, width, kind, pure in [
        ([0], 2, "strict saddle", False),
        ([0, 2], 2, "strict saddle", True),
        ([0, 1], 2, "global minimum", True),
        ([0, 1], 3, "strict saddle", False),
    ]:
        weights = two_layers(matrix, kept, width, np.random.default_rng(4))
        found = classify_linear_critical_point(weights, x, x @ matrix.T)
        assert (found.kind, found.pure, found.kept) == (kind, pure, tuple(kept))


def test_the_random_stream_is_left_as_it_was():
    stream = torch.get_rng_state()
    zero = [np.zeros((4, 3)), np.zeros((4, 4)), np.zeros((4, 4))]
    found = classify_linear_critical_point(zero, X, Y)
    assert found.kind == "non-strict saddle"
    assert found.morse_index.method == "eigenvalues of the Hessian"
    assert torch.equal(stream, torch.get_rng_state())


def test_what_is_not_critical():
    rng = np.random.default_rng(3)
    found = classify_linear_critical_point([rng.normal(size=(4, 3))] * 1, X, Y)
    assert found.kind == "not critical"
    assert not found.pure
    assert np.isnan(found.morse_index.value)


def test_coinciding_singular_values_are_left_open():
    zero = [np.zeros((3, 3)), np.zeros((3, 3))]
    found = classify_linear_critical_point(zero, np.eye(3), np.eye(3))
    assert found.kind == "undetermined"
    assert "the theorem is silent" in found.notes[0]
    # The Hessian is not: the residual couples each of three units with all three directions.
    assert found.morse_index.value == 9


def test_inputs_in_a_plane():
    inputs = X @ np.diag([1, 1, 0])
    best = np.linalg.lstsq(inputs, Y, rcond=None)[0].T
    found = classify_linear_critical_point([best], inputs, Y)
    assert found.kind == "global minimum"
    assert found.kept == (0, 1)
    assert "do not span" in found.notes[0]


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ([np.ones(3)], {}, "weights must be matrices"),
        ([], {}, "weights must be matrices"),
        ([np.ones((2, 3)), np.ones((4, 3))], {}, r"shape \(width, width below\)"),
        ([np.ones((4, 2))], {}, "do not fit weights"),
        ([np.full((4, 3), np.inf)], {}, "must be finite, and inputs not all zero"),
        ([np.ones((4, 3))], {"tolerance": 0}, "tolerance must be between 0 and 1"),
    ],
)
def test_bad_input_is_refused(weights, options, message):
    with pytest.raises(ValueError, match=message):
        classify_linear_critical_point(weights, X, Y, **options)
