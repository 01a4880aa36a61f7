import numpy as np
import pytest

import geomprobe as gp
from geomprobe.estimators import TotalPersistence
from geomprobe.topology import total_persistence


def test_diagrams_without_bars_get_the_fill_value():
    # Four edges of length 1 have log2 4 bits.
    diagrams = gp.RipsPersistence().fit_transform([np.arange(5.0)[:, None]])
    assert gp.PersistenceEntropy(fill_value=-1).fit_transform(diagrams).tolist() == [[2.0, -1.0]]


def test_normalized_entropies():
    diagrams = gp.RipsPersistence().fit_transform([2 * np.eye(4)])
    # Three bars of length 2 sqrt 2 have log2 3 bits.
    expected = np.log2(3) / np.log2(6 * np.sqrt(2))
    found = gp.PersistenceEntropy(normalize=True).fit_transform(diagrams)
    assert np.allclose(found, [[expected, 0]], rtol=1e-6)


def test_total_persistence_to_a_power(diagrams):
    # The unit square: three edges of length 1, and a loop from 1 to sqrt 2.
    square = gp.RipsPersistence().fit_transform([np.array([[0, 0], [0, 1], [1, 1], [1, 0.0]])])
    found = TotalPersistence(2.0).fit_transform(square)
    np.testing.assert_allclose(found, [[3, (np.sqrt(2) - 1) ** 2]], rtol=1e-6)
    expected = [[total_persistence(one[dim], 0.5) for dim in range(2)] for one in diagrams]
    np.testing.assert_array_equal(TotalPersistence(0.5).fit_transform(diagrams), expected)


def test_powers_out_of_range_are_refused(diagrams):
    for alpha in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="alpha must be positive"):
            TotalPersistence(alpha).fit(diagrams)


def test_names(diagrams):
    names = gp.PersistenceEntropy().fit(diagrams).get_feature_names_out()
    assert names.tolist() == ["h0_entropy", "h1_entropy"]
    names = TotalPersistence().fit(diagrams).get_feature_names_out()
    assert names.tolist() == ["h0_total_persistence", "h1_total_persistence"]
