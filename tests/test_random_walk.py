"""The principal components of a random walk, against dense linear algebra and published limits."""

import numpy as np
import pytest

from geomprobe.random_walk import walk_components, walk_participation, walk_variances


@pytest.mark.parametrize("n", [2, 3, 10, 57])
def test_variances_and_components_are_those_of_the_expected_gram_matrix(n):
    """Sums of orthonormal increments, centred and diagonalised by numpy."""
    sums = np.tri(n)
    centred = sums - sums.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = values[::-1][:-1], vectors[:, ::-1][:, :-1]
    np.testing.assert_allclose(walk_variances(n), values / values.sum(), atol=1e-12)
    assert walk_participation(n) == pytest.approx(values.sum() ** 2 / (values**2).sum())
    waves = walk_components(n, n - 1)
    np.testing.assert_allclose(np.abs((waves * vectors).sum(axis=0)), 1.0)


def test_the_null_tends_to_the_published_limits():
    # Antognini and Sohl-Dickstein (2018): the first two components explain 60.8 % and 15.2 %.
    np.testing.assert_allclose(walk_variances(10**5, 2), [6 / np.pi**2, 1.5 / np.pi**2], rtol=1e-8)
    assert walk_participation(10**5) == pytest.approx(2.5)


@pytest.mark.parametrize("function", [walk_variances, walk_participation, walk_components])
def test_a_walk_of_one_point_is_refused(function):
    with pytest.raises(ValueError, match="at least 2 points"):
        function(1)


def test_more_components_than_there_are_are_refused():
    with pytest.raises(ValueError, match="k must be from 1 to 4, got 5"):
        walk_components(5, 5)
