import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomprobe.sampling import SparseProjection


def test_it_is_the_sparse_matrix_of_kane_and_nelson():
    matrix = SparseProjection(50, 12, nonzeros=4)(torch.eye(50, dtype=torch.float64))
    blocks = matrix.reshape(50, 4, 3)
    assert torch.equal((blocks != 0).sum(dim=2), torch.ones(50, 4, dtype=torch.long))
    assert torch.allclose(matrix.abs()[matrix != 0], torch.tensor(0.5, dtype=torch.float64))


def test_squared_norms_are_kept_on_average():
    # E|Px|^2 = |x|^2 exactly; Var <= 2|x|^4/k (Kane and Nelson 2014): mean over 400 seeds.
    x = torch.randn(1, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    k, seeds = 64, 400
    ratios = [float(SparseProjection(300, k, seed=s)(x).square().sum()) for s in range(seeds)]
    ratios = np.array(ratios) / float(x.square().sum())
    assert abs(ratios.mean() - 1) < 4 * np.sqrt(2 / k / seeds)


def test_distances_are_within_the_stated_distortion():
    points = torch.randn(100, 5000, generator=torch.Generator().manual_seed(1))
    projection = SparseProjection(5000, 2048)
    ratio = torch.pdist(projection(points)) / torch.pdist(points)
    assert (ratio - 1).abs().max() < projection.distortion(100)


@given(st.integers(1, 19))
def test_a_vector_may_come_in_pieces(cut):
    x = torch.randn(2, 20, dtype=torch.float64)
    projection = SparseProjection(20, 8)
    parts = projection(x[:, :cut]) + projection(x[:, cut:], start=cut)
    assert torch.allclose(parts, projection(x))


def test_same_seed_same_map_and_the_global_stream_is_untouched():
    before = torch.random.get_rng_state()
    a, b = SparseProjection(30, 8, seed=5), SparseProjection(30, 8, seed=5)
    x = torch.eye(30)
    assert torch.equal(a(x), b(x))
    assert not torch.equal(a(x), SparseProjection(30, 8, seed=6)(x))
    assert torch.equal(before, torch.random.get_rng_state())


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="multiple of nonzeros=4"):
        SparseProjection(10, 6)
    with pytest.raises(ValueError, match="not within"):
        SparseProjection(10, 4)(torch.zeros(1, 8), start=3)
