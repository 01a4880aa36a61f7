from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomprobe.sampling import SparseProjection

#: The fewest coordinates that are folded for k = 64, plus some that fill no run of 64.
FOLDED = 64 * 4096 + 1000


def seeded(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spiky(n, dim, spikes, seed=0):
    """Rows with so many entries of 1 or -1 at random places."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack([torch.randperm(dim, generator=generator)[:spikes] for _ in range(n)])
    signs = torch.randint(2, (n, spikes), generator=generator, dtype=torch.float64) * 2 - 1
    return torch.zeros(n, dim, dtype=torch.float64).scatter_(1, places, signs)


def test_it_is_the_sparse_matrix_of_kane_and_nelson():
    matrix = SparseProjection(50, 12, nonzeros=4)(torch.eye(50, dtype=torch.float64))
    blocks = matrix.reshape(50, 4, 3)
    assert torch.equal((blocks != 0).sum(dim=2), torch.ones(50, 4, dtype=torch.long))
    assert torch.allclose(matrix.abs()[matrix != 0], torch.tensor(0.5, dtype=torch.float64))
    x = seeded(3, 50)
    assert torch.allclose(SparseProjection(50, 12, nonzeros=4)(x), x @ matrix)


@pytest.mark.parametrize("start", [0, 31, 1 << 18, (1 << 20) - 20, 1_100_000 - 40])
def test_a_folded_map_is_such_a_matrix_too(start):
    dim, k = 1_100_000, 16
    projection = SparseProjection(dim, k, nonzeros=4)
    columns = projection(torch.eye(40, dtype=torch.float64), start=start)
    blocks = columns.reshape(40, 4, 4)
    assert torch.equal((blocks != 0).sum(dim=2), torch.ones(40, 4, dtype=torch.long))
    assert torch.allclose(columns.abs()[columns != 0], torch.tensor(0.5, dtype=torch.float64))
    x = torch.zeros(1, dim, dtype=torch.float64)
    x[0, start : start + 40] = seeded(40)
    assert torch.allclose(projection(x), x[:, start : start + 40] @ columns)


def test_squared_norms_are_kept_on_average():
    # E|Px|^2 = |x|^2 exactly; Var <= 2|x|^4/k (Kane and Nelson 2014): mean over 400 seeds.
    x = seeded(1, 300)
    k, seeds = 64, 400
    ratios = [float(SparseProjection(300, k, seed=s)(x).square().sum()) for s in range(seeds)]
    ratios = np.array(ratios) / float(x.square().sum())
    assert abs(ratios.mean() - 1) < 4 * np.sqrt(2 / k / seeds)


def test_two_coordinates_share_an_output_as_rarely_as_if_each_were_spread_by_itself():
    # Runs of 64 go to one of 4 places and are turned: 1/256, and never within a run. Of 400 maps,
    # each of some hundred pairs of coordinates.
    dim, k, maps = 640, 256, 400
    basis = torch.eye(dim)
    outputs = torch.stack(
        [
            SparseProjection(dim, k, nonzeros=1, seed=s)(basis).abs().argmax(dim=1)
            for s in range(maps)
        ]
    )
    pairs = [(i, (7 * i + 65) % dim) for i in range(0, dim, 5)]
    shared = np.array([float((outputs[:, i] == outputs[:, j]).double().mean()) for i, j in pairs])
    same_run = np.array([i // 64 == j // 64 for i, j in pairs])
    assert not shared[same_run].any()
    apart = shared[~same_run]
    assert abs(apart.mean() - 1 / k) < 4 * np.sqrt(1 / k / maps / len(apart))
    assert apart.max() < 8 / k


def patterns():
    run = seeded(64, seed=3).repeat(-(-FOLDED // 64))[:FOLDED]
    return {"random": seeded(FOLDED), "one run repeated": run, "constant": torch.ones_like(run)}


@pytest.mark.parametrize("name", patterns())
def test_squared_norms_of_folded_vectors_are_kept_with_the_stated_variance(name):
    # E|SFx|^2 = |x|^2 and Var <= 2/k + 2/R + 4/(kR) for |x| = 1: conditioning on the folding F.
    x = patterns()[name][None].float()
    k, rows, seeds = 64, 4096, 80
    ratios = [float(SparseProjection(FOLDED, k, seed=s)(x).square().sum()) for s in range(seeds)]
    ratios = np.array(ratios) / float(x.double().square().sum())
    variance = 2 / k + 2 / rows + 4 / (k * rows)
    assert abs(ratios.mean() - 1) < 4 * np.sqrt(variance / seeds)
    # The variance of n nearly Gaussian numbers has relative standard deviation sqrt(2/(n - 1)).
    assert ratios.var(ddof=1) < variance * (1 + 4 * np.sqrt(2 / (seeds - 1)))


@pytest.mark.parametrize(
    "points",
    [seeded(100, 5000), spiky(100, 5000, 16), seeded(100, 5000) ** 5],
    ids=["random", "spiky", "heavy tails"],
)
def test_distances_are_within_the_stated_distortion(points):
    projection = SparseProjection(5000, 2048)
    ratio = torch.pdist(projection(points)) / torch.pdist(points)
    assert (ratio - 1).abs().max() < projection.distortion(100)


def test_a_count_sketch_spoils_pairs_of_spikes_and_more_nonzeros_soften_it():
    # Of pairs of equal spikes in different runs 1/k share the output of a count sketch: their
    # distance becomes 0 or 2.
    dim, k, lanes = 600, 64, 64
    basis = torch.eye(dim, dtype=torch.float64)
    off = torch.pdist(SparseProjection(dim, k, nonzeros=1)(basis)).square() / 2 - 1
    pairs = dim * (dim - 1) / 2
    spoiled = float((off.abs() > 1e-9).double().mean())
    run = np.arange(dim) // lanes
    apart = np.mean(run[:, None] != run) * dim / (dim - 1)
    assert abs(spoiled - apart / k) < 5 * np.sqrt(1 / k / pairs)
    assert torch.allclose(off[off.abs() > 1e-9].abs(), torch.ones(1, dtype=torch.float64))
    softer = torch.pdist(SparseProjection(dim, k, nonzeros=8)(basis)).square() / 2 - 1
    errors = (softer * 8).round() / 8
    assert torch.allclose(softer, errors)
    assert softer.square().mean() < 2 / k
    assert (errors.abs() == 1).double().mean() < 0.1 * spoiled


@given(st.integers(1, 19))
def test_a_vector_may_come_in_pieces(cut):
    x = torch.randn(2, 20, dtype=torch.float64)
    projection = SparseProjection(20, 8)
    parts = projection(x[:, :cut]) + projection(x[:, cut:], start=cut)
    assert torch.allclose(parts, projection(x))


LONG = SparseProjection(2_200_000, 64)


@settings(max_examples=20)
@given(st.lists(st.integers(0, LONG.dim), max_size=3))
def test_a_long_vector_may_come_in_pieces(cuts):
    x = torch.ones(1, LONG.dim)  # All sums are whole numbers, exact in float32.
    borders = [0, *sorted(cuts), LONG.dim]
    parts = [LONG(x[:, a:b], start=a) for a, b in pairwise(borders)]
    assert torch.equal(sum(parts), LONG(x))


@pytest.mark.parametrize("dim", [3000, FOLDED])
def test_an_image_does_not_depend_on_threads_or_on_the_other_rows(dim):
    rows = seeded(5, dim, dtype=torch.float32)
    projection = SparseProjection(dim, 64)
    together, threads = projection(rows), torch.get_num_threads()
    assert torch.equal(together, torch.cat([projection(row[None]) for row in rows]))
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert torch.equal(together, SparseProjection(dim, 64)(rows))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("dim", [30, FOLDED])
def test_same_seed_same_map_and_the_global_stream_is_untouched(dim):
    before = torch.random.get_rng_state()
    a, b = SparseProjection(dim, 8, seed=5), SparseProjection(dim, 8, seed=5)
    x = seeded(1, dim)
    assert torch.equal(a(x), b(x))
    assert not torch.equal(a(x), SparseProjection(dim, 8, seed=6)(x))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("dim", [30, FOLDED])
def test_the_device_follows_the_rows(dim):
    with torch.device("meta"):
        projection = SparseProjection(dim, 8)
        image = projection(torch.zeros(2, dim))
    assert image.device.type == "meta"
    assert image.shape == (2, 8)
    x = seeded(2, dim)
    assert torch.equal(projection(x), SparseProjection(dim, 8)(x))


@pytest.mark.parametrize("dim", [30, FOLDED])
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_is_summed_in_float32_and_double_in_float64(dim, dtype, expected):
    x = seeded(1, dim).to(dtype)
    image = SparseProjection(dim, 8)(x)
    assert image.dtype == expected
    assert torch.allclose(image.double(), SparseProjection(dim, 8)(x.double()), atol=1e-2)


@pytest.mark.parametrize("dim", [30, FOLDED])
def test_no_rows_have_no_images(dim):
    assert SparseProjection(dim, 8)(torch.zeros(0, dim)).shape == (0, 8)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="multiple of nonzeros=4"):
        SparseProjection(10, 6)
    with pytest.raises(ValueError, match="multiple of nonzeros=0"):
        SparseProjection(10, 6, nonzeros=0)
    with pytest.raises(ValueError, match="not within"):
        SparseProjection(10, 4)(torch.zeros(1, 8), start=3)
