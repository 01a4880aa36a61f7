"""Products of the rows of two factors are a block of the Gram matrix of both."""

import pytest
import torch

from geomprobe.information import cross_products
from geomprobe.information.cross_products import add_cross_products
from geomprobe.information.factors import Lookup, Outer, Rows

N, M, K = 3, 4, 2


def outer(t, i, o, groups=1):
    def make(n):
        inputs = torch.randn(n, groups, t, i).double()
        return Outer(inputs, torch.randn(n, K, groups, t, o).double())

    return make


def lookup(rows):
    return lambda n: Lookup(torch.randint(rows, (n, 5)), torch.randn(n, K, 5, 6).double(), rows)


FACTORS = {
    "one position": outer(1, 6, 4),
    "inner products": outer(3, 40, 50),
    "gradients": outer(20, 2, 3),
    "groups": outer(4, 3, 2, groups=3),
    "a small table": lookup(4),
    "a large table": lookup(1000),
    "rows": lambda n: Rows(torch.randn(n, K, 11).double()),
}


def joined(left, right):
    parts = {
        name: torch.cat([one, getattr(right, name)]) if isinstance(one, torch.Tensor) else one
        for name, one in vars(left).items()
    }
    return type(left)(**parts)


@pytest.mark.parametrize("name", FACTORS)
def test_a_block_of_the_gram_matrix_of_both(name, monkeypatch):
    torch.manual_seed(0)
    left, right = FACTORS[name](N), FACTORS[name](M)
    whole = torch.zeros((N + M) * K, (N + M) * K).double()
    joined(right, left).add_to(whole)
    expected = whole[M * K :, : M * K]
    for entries in (2**22, 1):
        monkeypatch.setattr(cross_products, "_CHUNK_ENTRIES", entries)
        block = torch.ones(N * K, M * K).double()
        add_cross_products(block, left, right)
        torch.testing.assert_close(block - 1, expected)


def test_tables_without_a_common_row_do_not_meet():
    left, right = lookup(3)(N), lookup(3)(M)
    right = Lookup(right.places + 3, right.grads, 6)
    block = torch.zeros(N * K, M * K).double()
    add_cross_products(block, left, right)
    assert not block.any()


def test_sequences_of_different_lengths():
    torch.manual_seed(0)
    for i, o in ((2, 3), (40, 50)):
        left, right = outer(3, i, o)(N), outer(5, i, o)(M)
        rows = [
            torch.einsum("ngti,nkgto->nkio", one.inputs, one.grads).flatten(2).flatten(0, 1)
            for one in (left, right)
        ]
        block = torch.zeros(N * K, M * K).double()
        add_cross_products(block, left, right)
        torch.testing.assert_close(block, rows[0] @ rows[1].T)
