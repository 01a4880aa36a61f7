import numpy as np
import pytest

from geomprobe.information import FisherGram

ROWS = np.random.default_rng(0).normal(size=(6, 2, 40))  # 6 samples, 2 rows each, 40 parameters


def gram_of(rows):
    n_samples, per_sample, n_parameters = rows.shape
    flat = rows.reshape(-1, n_parameters)
    return FisherGram(
        flat @ flat.T / n_samples, n_samples, n_parameters, "true", "vmap", per_sample
    )


def test_spectrum_and_trace_are_those_of_the_dense_matrix():
    flat = ROWS.reshape(-1, 40)
    dense = flat.T @ flat / 6
    gram = gram_of(ROWS)
    np.testing.assert_allclose(gram.spectrum(), np.linalg.eigvalsh(dense)[::-1][:12], rtol=1e-12)
    assert gram.trace() == pytest.approx(np.trace(dense), rel=1e-13)


def test_traces_of_samples_average_to_the_trace():
    gram = gram_of(ROWS)
    np.testing.assert_allclose(gram.sample_traces(), (ROWS**2).sum(axis=(1, 2)))
    assert gram.sample_traces().mean() == pytest.approx(gram.trace())


@pytest.mark.parametrize(
    "chosen", [[0], [4, 1], [2, 2, 3], np.array([True, False, True, True, False, False])]
)
def test_subset_is_the_gram_of_the_subset(chosen):
    subset, expected = gram_of(ROWS).subset(chosen), gram_of(ROWS[chosen])
    np.testing.assert_allclose(subset.gram, expected.gram, rtol=1e-13)
    assert subset.n_samples == expected.n_samples
    assert subset.rows_per_sample == 2


@pytest.mark.parametrize("chosen", [[], np.zeros(6, dtype=bool), [[0, 1]]])
def test_empty_subset_is_refused(chosen):
    chosen = np.asarray(chosen, dtype=bool if len(chosen) == 6 else int)
    with pytest.raises(ValueError, match="at least one sample"):
        gram_of(ROWS).subset(chosen)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_floor_separates_rank_from_rounding(dtype):
    # Rows of 5 directions in 40 parameters, rounded: 5 eigenvalues mean something, 7 do not.
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(12, 5)) @ generator.normal(size=(5, 40))
    rounded = rows.astype(dtype).astype(float)
    epsilon = float(np.finfo(dtype).eps)
    gram = FisherGram(rounded @ rounded.T / 6, 6, 40, "true", "vmap", 2, epsilon)
    assert len(gram.significant()) == 5
    assert len(gram.spectrum()) == 12


def test_spectrum_handed_out_is_a_copy():
    gram = gram_of(ROWS)
    gram.spectrum()[:] = 0
    assert gram.spectrum()[0] > 0


def test_equal_by_value():
    assert gram_of(ROWS) == gram_of(ROWS)
    assert gram_of(ROWS) != gram_of(2 * ROWS)


def test_plot_draws_the_eigenvalues_above_the_noise():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    gram = gram_of(ROWS)
    axes = gram.plot()
    drawn = axes.lines[0].get_ydata()
    np.testing.assert_array_equal(drawn, gram.significant())
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert gram.plot(axes) is axes
    pyplot.close(axes.figure)
