"""Secant varieties against the theorem of Alexander and Hirschowitz and published defects."""

import pytest

from geomprobe.algebraic import (
    alexander_hirschowitz,
    generic_rank,
    neurovariety_dimension,
    secant_dimension,
)

# (n, d, k): forms of degree d in n + 1 variables as sums of k powers; the first 8 are defective.
FORMS = {
    (2, 2, 2): 5,
    (3, 2, 2): 7,
    (3, 2, 3): 9,
    (4, 2, 3): 12,
    (2, 4, 5): 14,
    (3, 4, 9): 34,
    (4, 4, 14): 69,
    (4, 3, 7): 34,
    (2, 3, 4): 10,
    (2, 4, 4): 12,
    (2, 5, 7): 21,
    (3, 3, 5): 20,
    (3, 4, 8): 32,
    (4, 3, 6): 30,
    (5, 3, 9): 54,
    (4, 4, 13): 65,
}
# P^m x P^n in bidegree (1, d), s terms; the first two of Abo and Brambilla's defective cases.
SEGRE_VERONESE = {
    (2, 3, 2, 5): 29,
    (1, 2, 3, 5): 19,
    (2, 3, 2, 4): 24,
    (1, 2, 3, 4): 16,
    (3, 3, 2, 5): 35,
}
# Strassen, and Abo, Ottaviani and Peterson; the first three are defective by one.
SEGRE = {
    ((3, 3, 3), 4): 26,
    ((3, 4, 4), 5): 44,
    ((2, 2, 2, 2), 3): 14,
    ((2, 2, 2), 2): 8,
    ((3, 3, 3), 5): 27,
    ((4, 4, 4), 7): 64,
    ((3, 3, 4), 5): 36,
}


@pytest.mark.parametrize(("form", "dimension"), FORMS.items())
def test_sums_of_powers(form, dimension):
    n, d, k = form
    found = secant_dimension([n + 1], k, [d])
    assert found.dimension == dimension == alexander_hirschowitz(n + 1, d, k)
    assert (found.defect > 0) == (form in list(FORMS)[:8])
    # The shallow network whose functions they are, by another matrix.
    assert neurovariety_dimension((n + 1, k, 1), d).dimension == dimension


def test_the_theorem_holds_for_all_small_forms():
    for variables in range(1, 5):
        for degree in range(1, 5):
            for rank in range(1, 12):
                found = secant_dimension([variables], rank, [degree])
                assert found.dimension == alexander_hirschowitz(variables, degree, rank)


@pytest.mark.parametrize(("case", "dimension"), SEGRE_VERONESE.items())
def test_partially_symmetric_tensors(case, dimension):
    m, n, d, s = case
    assert secant_dimension((m + 1, n + 1), s, (1, d)).dimension == dimension
    assert neurovariety_dimension((n + 1, s, m + 1), d).dimension == dimension


@pytest.mark.parametrize(("case", "dimension"), SEGRE.items())
def test_tensors(case, dimension):
    shape, rank = case
    found = secant_dimension(shape, rank)
    assert found.dimension == dimension
    assert found.defect == (case in list(SEGRE)[:3])
    assert found.filling == (dimension == found.ambient)


def test_matrices_have_bounded_rank():
    for rank in range(1, 6):
        r = min(rank, 4)
        assert secant_dimension((4, 5), rank).dimension == r * (4 + 5 - r)


@pytest.mark.parametrize(
    ("shape", "degrees", "rank"),
    [
        ((2, 2, 2), None, 2),
        ((2, 3, 3), None, 3),
        ((3, 3, 3), None, 5),
        ((4, 4, 4), None, 7),
        ((2, 2, 2, 2), None, 4),
        ((3, 6), None, 3),
        ((3,), (4,), 6),
        ((4,), (4,), 10),
        ((5,), (4,), 15),
        ((5,), (3,), 8),
        ((4,), (3,), 5),
        ((7,), (2,), 7),
        ((2,), (9,), 5),
        ((3, 4), (1, 2), 6),
    ],
)
def test_rank_of_generic_tensors(shape, degrees, rank):
    # Strassen, Lickteig, Catalisano, Geramita and Gimigliano; Alexander and Hirschowitz.
    assert generic_rank(shape, degrees) == rank


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: secant_dimension((), 2), r"got \(\) and \(\)"),
        (lambda: secant_dimension((2, 0), 2), r"all at least 1; got \(2, 0\)"),
        (lambda: secant_dimension((2, 2), 2, (1,)), r"got \(2, 2\) and \(1,\)"),
        (lambda: secant_dimension((2, 2), 0), "rank must be at least 1, got 0"),
        (lambda: generic_rank((2, 2), (1, 0)), "all at least 1"),
        (lambda: alexander_hirschowitz(3, 2, 0), "at least 1, got 3, 2 and 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
