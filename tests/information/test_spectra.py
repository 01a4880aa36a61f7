import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geomprobe.information import participation_ratio, stable_rank

SPECTRA = arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1e6))


def test_equal_eigenvalues_count_themselves():
    assert stable_rank([2.0, 2.0, 2.0, 0.0]) == 3
    assert participation_ratio([2.0, 2.0, 2.0, 0.0]) == pytest.approx(3)


def test_known_values():
    assert stable_rank([4, 2, 1, 1]) == 8 / 4
    assert participation_ratio([4, 2, 1, 1]) == pytest.approx(64 / 22)


@given(SPECTRA)
def test_one_at_least_then_stable_rank_then_participation_ratio_then_rank(spectrum):
    assume(spectrum.max() > 1e-100)
    rank = np.count_nonzero(spectrum)
    slack = 1 + 1e-12
    assert 1 <= stable_rank(spectrum) <= participation_ratio(spectrum) * slack
    assert participation_ratio(spectrum) <= rank * slack


@pytest.mark.parametrize("measure", [stable_rank, participation_ratio])
@pytest.mark.parametrize("spectrum", [[], [0.0, 0.0], [-1e-18]])
def test_a_zero_matrix_has_neither(measure, spectrum):
    assert math.isnan(measure(spectrum))


@pytest.mark.parametrize("measure", [stable_rank, participation_ratio])
@pytest.mark.parametrize("spectrum", [[1.0, math.nan], [math.inf], [[1.0, 2.0]]])
def test_bad_spectra_are_refused(measure, spectrum):
    with pytest.raises(ValueError, match="finite array of shape"):
        measure(spectrum)
