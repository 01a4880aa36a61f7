"""Arithmetic modulo a prime against Python's whole numbers, ranks against planted ones."""

import numpy as np
import pytest
import sympy

from geomprobe.algebraic.elimination import eliminate, minus_product
from geomprobe.algebraic.prime_field import PRIMES, PrimeField, certified_rank

FIELDS = [PrimeField(prime) for prime in PRIMES]


def whole(array):
    return array.astype(np.int64).astype(object)


def equal(field, a, b):
    """Whether arrays of whole numbers agree modulo the prime, the first within the interval."""
    return np.abs(a).max() <= field.prime // 2 and not ((whole(a) - b) % field.prime).any()


def test_primes_are_the_largest_two_below_the_bound():
    assert PRIMES[0] == sympy.prevprime(2**31)
    assert PRIMES[1] == sympy.prevprime(PRIMES[0])


@pytest.mark.parametrize("field", FIELDS)
def test_products_and_powers_are_exact(field):
    rng = np.random.default_rng(0)
    a, b = field.draw(rng, 6, 300), field.draw(rng, 300, 5)
    assert equal(field, field.product(a, b), whole(a) @ whole(b))
    assert equal(field, field.times(a[:, :5], b[:6]), whole(a[:, :5]) * whole(b[:6]))
    assert equal(field, field.power(a, 11), whole(a) ** 11)
    assert equal(
        field, field.product(a.reshape(2, 3, 300), b), (whole(a) @ whole(b)).reshape(2, 3, 5)
    )


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("depth", [1, 127, 128, 129, 1000])
def test_the_largest_entries_do_not_overflow(field, sign, depth):
    half = float(field.prime // 2)
    # Of all entries these have the largest parts below and above the split.
    for left in (half, half - half % 65536 + 32768, half - half % 65536 - 32767):
        a, b = np.full((2, depth), left), np.full((depth, 3), sign * half)
        assert equal(field, field.product(a, b), whole(a) @ whole(b))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("m", "n", "rank"), [(40, 30, 7), (25, 90, 25), (70, 33, 33), (5, 5, 0)])
def test_rank_and_first_independent_columns_are_those_planted(field, m, n, rank):
    rng = np.random.default_rng(1)
    matrix = field.product(field.draw(rng, m, rank), field.draw(rng, rank, n))
    # Two columns of zeros and a double one in front.
    front = np.concatenate([np.zeros((m, 2)), matrix[:, :1], matrix[:, :1]], axis=1)
    whole_matrix = np.concatenate([front, matrix], axis=1)
    columns = field.pivots(whole_matrix)
    assert columns.tolist() == [2, *range(5, 4 + rank)][:rank]


def test_other_rows_are_the_combinations_that_are_returned():
    field = FIELDS[0]
    rng = np.random.default_rng(2)
    matrix = field.product(field.draw(rng, 60, 21), field.draw(rng, 21, 50))
    rows, columns, others, multipliers = eliminate(matrix, field.prime)
    assert sorted([*rows, *others]) == list(range(60))
    assert len(columns) == 21
    assert not minus_product(matrix, others, multipliers, matrix[rows], field.prime).any()


def test_rank_of_whole_numbers_is_that_of_sympy():
    rng = np.random.default_rng(3)
    matrix = rng.integers(-9, 9, (12, 5)) @ rng.integers(-9, 9, (5, 9))
    matrix[:, 3] = 2 * matrix[:, 1] - matrix[:, 0]
    reduced, pivots = sympy.Matrix(matrix).rref()
    assert tuple(FIELDS[0].pivots(matrix.astype(float))) == pivots
    assert reduced.rank() == 5


def test_points_are_added_until_one_adds_nothing():
    # The span of 1, x, ..., x^6 in 10 rows, and a bound that is too large.
    asked = []

    def values(field, rng, n):
        asked.append(n)
        x = field.draw(rng, n)
        return np.stack([field.power(x, k % 7) for k in range(10)])

    found = certified_rank(values, rows=10, bound=10, per_point=1, degree=6, seed=0, what="a test")
    assert found.rank == 7
    assert found.by_prime == dict.fromkeys(PRIMES, 7)
    assert not found.proven
    assert found.error_probability == pytest.approx(np.prod([60 / p for p in PRIMES]))
    proven = certified_rank(values, rows=10, bound=7, per_point=1, degree=6, seed=0, what="a test")
    assert proven.proven
    assert proven.error_probability == 0
    assert asked == [11, 11, 8, 8]


def test_a_vector_valued_point_may_add_less_than_its_size():
    # Both outputs are the same function: n points of two columns have rank n alone.
    asked = []

    def values(field, rng, n):
        asked.append(n)
        x = field.draw(rng, n)
        return np.repeat(np.stack([field.power(x, k) for k in range(6)]), 2, axis=1)

    found = certified_rank(values, rows=6, bound=6, per_point=2, degree=5, seed=0, what="a test")
    assert found.rank == 6
    assert asked == [4, 8, 4, 8]
