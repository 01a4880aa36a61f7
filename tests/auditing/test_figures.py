import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from geomprobe.auditing.figures import MAX_BARS, figures, layer_profiles
from geomprobe.findings import Estimate, Finding

SVG = "{http://www.w3.org/2000/svg}"
INF, NAN = math.inf, math.nan


def drawn(**arrays):
    """Figures of a finding that holds these arrays, by kind, parsed."""
    finding = Finding("third_party", "layer", arrays={k: np.asarray(v) for k, v in arrays.items()})
    return {figure.kind: ElementTree.fromstring(figure.svg) for figure in figures(finding)}


def captions(**arrays):
    finding = Finding("third_party", "layer", arrays={k: np.asarray(v) for k, v in arrays.items()})
    return [figure.caption for figure in figures(finding)]


def subpaths(tree, kind):
    """Start points of all subpaths of one kind of mark outside the legend, by path."""
    legends = {path for g in tree.iter(f"{SVG}g") if g.get("class") == "legend"
               for path in g.iter(f"{SVG}path")}  # fmt: skip
    return [
        [(float(x), float(y)) for x, y in re.findall(r"M(-?[\d.]+) (-?[\d.]+)", path.get("d"))]
        for path in tree.iter(f"{SVG}path")
        if path.get("class") == kind and path not in legends
    ]


def count(tree, kind):
    return sum(map(len, subpaths(tree, kind)))


def bars(n, seed=0):
    rng = np.random.default_rng(seed)
    birth = rng.uniform(0.1, 1, n)
    return np.column_stack([birth, birth + rng.exponential(0.2, n)])


def test_a_diagram_has_a_mark_for_every_bar():
    tree = drawn(diagram_h0=bars(41), diagram_h1=bars(17, 1), diagram_h2=bars(5, 2))["persistence"]
    assert [len(marks) for marks in subpaths(tree, "marks")] == [41, 17, 5]


def test_marks_lie_above_the_diagonal_by_their_lifetime():
    # Equal scales on a panel of 256 x 226 pixels: death - birth = 226/256 of the offset, in pixels.
    diagram = np.array([[0.0, 1.0], [0.5, 1.0]])
    (first, second), *_ = subpaths(drawn(diagram_h1=diagram)["persistence"], "marks")
    assert first[1] == second[1]
    assert second[0] - first[0] == pytest.approx(0.5 / 1.08 * 256, abs=0.2)


def test_bars_that_never_die_lie_on_a_line_of_their_own_above_all_others():
    tree = drawn(diagram_h0=[[0, 1.0], [0, 2.0], [0, INF], [0.5, INF]])["persistence"]
    finite, infinite = subpaths(tree, "marks")
    assert len(finite) == len(infinite) == 2
    assert len({y for _, y in infinite}) == 1
    assert infinite[0][1] < min(y for _, y in finite)
    assert "∞" in {text.text for text in tree.iter(f"{SVG}text")}


def test_bars_that_hold_nan_are_left_out():
    tree = drawn(diagram_h1=[[0, 1], [NAN, 1], [0.2, NAN]])["persistence"]
    assert count(tree, "marks") == 1


def test_of_a_very_large_diagram_the_most_persistent_bars_are_drawn_and_the_caption_says_so():
    diagram = bars(MAX_BARS + 700)
    diagram[-1] = [0.1, 50.0]
    tree = drawn(diagram_h1=diagram)["persistence"]
    assert count(tree, "marks") == MAX_BARS
    (caption,) = captions(diagram_h1=diagram)
    assert caption == (
        f"H₁: {MAX_BARS} bars drawn, the most persistent of {MAX_BARS + 700:,}; "
        "the longest finite one from 0.1000 to 50."
    )


@pytest.mark.parametrize(
    "diagram",
    [np.empty((0, 2)), np.zeros((1, 2)), np.zeros((5, 2)), [[0, INF]], [[2.5, 3.5]], [[NAN, NAN]]],
)
def test_degenerate_diagrams_are_drawn(diagram):
    tree = drawn(diagram_h0=np.asarray(diagram, dtype=np.float32))["persistence"]
    finite = np.asarray(diagram, dtype=float)
    assert count(tree, "marks") == (~np.isnan(finite)).all(axis=1).sum()


def test_betti_curves_have_a_panel_each():
    grid = np.linspace(0, 1, 50)
    tree = drawn(betti_grid=grid, betti_h0=np.arange(50)[::-1], betti_h1=np.zeros(50))["betti"]
    assert count(tree, "curve") == 2
    assert {"β₀", "β₁", "scale"} <= {text.text for text in tree.iter(f"{SVG}text")}
    (caption,) = captions(betti_grid=grid, betti_h0=np.arange(50)[::-1], betti_h1=np.zeros(50))
    assert caption == "β₀ is at most 49, first at scale 0. β₁ is zero throughout."


@pytest.mark.parametrize("values", [[0.0], [3.0], [NAN], [NAN, 1.0, NAN]])
def test_betti_curves_of_few_points_are_drawn(values):
    tree = drawn(betti_grid=np.arange(len(values)), betti_h0=values)["betti"]
    assert count(tree, "marks") == np.isfinite(values).sum()


def test_a_spectrum_is_a_straight_line_where_it_is_a_power_law():
    # log λ_k = -2 log k: on log-log axes every point lies on the chord of the first and the last.
    tree = drawn(spectrum=np.arange(1, 101.0) ** -2)["spectrum"]
    (path,) = (p.get("d") for p in tree.iter(f"{SVG}path") if p.get("class") == "curve")
    x, y = np.array(re.findall(r"([\d.]+) ([\d.]+)", path), dtype=float).T
    assert len(x) == 100
    chord = y[0] + (x - x[0]) / (x[-1] - x[0]) * (y[-1] - y[0])
    np.testing.assert_allclose(y, chord, atol=0.15)


def test_eigenvalues_that_are_rounding_noise_are_not_drawn():
    spectrum = [4.0, 2.0, 1.0, 1e-17, 0.0, -1e-17]
    tree = drawn(spectrum=spectrum)["spectrum"]
    (path,) = (p.get("d") for p in tree.iter(f"{SVG}path") if p.get("class") == "curve")
    assert len(re.findall(r"[ML]", path)) == 3
    (caption,) = captions(spectrum=spectrum)
    assert caption == (
        "True Fisher: 3 of 6 eigenvalues, from 4 down to 1; the others are zero to the precision "
        "of the eigenvalue solver."
    )


def test_a_spectrum_that_is_drawn_whole_is_not_counted_twice():
    (caption,) = captions(spectrum=[4.0, 2.0, 1.0])
    assert caption == "True Fisher: 3 eigenvalues, from 4 down to 1."


def test_both_spectra_share_one_chart():
    tree = drawn(spectrum=np.ones(5), empirical_spectrum=np.full(5, 2.0))["spectrum"]
    curves = [p for p in tree.iter(f"{SVG}path") if p.get("class") == "curve"]
    assert [p.get("stroke-dasharray") is not None for p in curves] == [False, True]


@pytest.mark.parametrize("spectrum", [[], [0.0, 0.0], [1.0], [-1.0], [NAN, 1.0, INF], [1e-300]])
def test_degenerate_spectra_are_drawn(spectrum):
    assert "spectrum" in drawn(spectrum=np.asarray(spectrum, dtype=float))


def test_a_long_spectrum_keeps_its_ends_and_few_points():
    tree = drawn(spectrum=np.geomspace(1, 1e-3, 100_000))["spectrum"]
    (path,) = (p.get("d") for p in tree.iter(f"{SVG}path") if p.get("class") == "curve")
    places = re.findall(r"([\d.]+) ([\d.]+)", path)
    assert 100 < len(places) <= 300
    full = drawn(spectrum=np.geomspace(1, 1e-3, 300))["spectrum"]
    (other,) = (p.get("d") for p in full.iter(f"{SVG}path") if p.get("class") == "curve")
    assert places[-1][1] == re.findall(r"([\d.]+) ([\d.]+)", other)[-1][1]


def test_effective_dimension_has_a_band_that_breaks_where_it_is_nan():
    n = np.geomspace(10, 1e6, 9)
    stderr = np.full(9, 2.0)
    stderr[4] = NAN
    tree = drawn(n=n, local_curve=np.arange(9.0), local_curve_stderr=stderr,
                 global_curve=np.ones(9))["dimension"]  # fmt: skip
    assert count(tree, "curve") == 2
    assert count(tree, "band") == 2
    legend = {text.text for text in tree.iter(f"{SVG}text")}
    assert {"local ± standard error", "global"} <= legend


@pytest.mark.parametrize(("top", "middle"), [(19.0, "linear"), (400.0, "logarithmic")])
def test_dimension_curves_that_span_a_wide_range_have_a_logarithmic_axis(top, middle):
    # Equally spaced values lie equally spaced on a linear axis, equal ratios on a logarithmic one.
    between = (1 + top) / 2 if middle == "linear" else math.sqrt(top)
    tree = drawn(n=[10, 100, 1000], local_curve=[1.0, between, top])["dimension"]
    (path,) = (p.get("d") for p in tree.iter(f"{SVG}path") if p.get("class") == "curve")
    first, second, third = (float(y) for y in re.findall(r" ([\d.]+)", path))
    assert second == pytest.approx((first + third) / 2, abs=0.15)


def test_the_n_of_the_numbers_is_marked_where_it_lies():
    arrays = {"n": [10, 100, 1000], "local_curve": [1.0, 3.0, 2.0]}
    tree = drawn(**arrays, n_used=[100])["dimension"]
    (path,) = (p.get("d") for p in tree.iter(f"{SVG}path") if p.get("class") == "curve")
    (_, middle, _) = re.findall(r"[ML]([\d.]+) ", path)
    assert re.search(rf"M{middle} [\d.]+L{middle} ", ElementTree.tostring(tree, "unicode"))
    assert "n = 100" in {text.text for text in tree.iter(f"{SVG}text")}
    assert captions(**arrays, n_used=[100])[0].endswith("marks the n of the numbers below.")
    for absent in ([], [5], [2000], [NAN]):
        assert drawn(**arrays, n_used=absent)["dimension"].tag == f"{SVG}svg"
        assert "The line" not in captions(**arrays, n_used=absent)[0]


def test_the_caption_of_dimension_curves_leaves_out_where_they_diverge():
    arrays = {"n": [19, 100, 1000], "local_curve": [9e9, 3.0, 4.0], "global_curve": [9e9, NAN, 8.0]}
    assert captions(**arrays) == [
        "Local: smallest 3 at n = 100, then 4 at n = 1,000. Global: smallest 8 at n = 1,000."
    ]


@pytest.mark.parametrize("curve", [[NAN, NAN], [0.0, 0.0], [NAN, 1.0]])
def test_degenerate_dimension_curves_are_drawn(curve):
    tree = drawn(n=[10, 100], local_curve=curve, local_curve_stderr=[NAN, NAN])["dimension"]
    assert count(tree, "band") == 0


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"weights": np.ones(5)},
        {"diagram_h0": np.ones((4, 3))},
        {"diagram_h0": np.ones(4)},
        {"diagram_h0": np.array([["a", "b"]])},
        {"betti_h0": np.ones(4)},
        {"betti_grid": np.arange(3), "betti_h0": np.ones(4)},
        {"spectrum": np.ones((2, 2))},
        {"n": np.arange(4)},
        {"n": np.arange(4), "local_curve": np.ones(3)},
    ],
)
def test_a_finding_without_arrays_that_fit_has_no_figure(arrays):
    assert drawn(**arrays) == {}


def test_a_figure_is_the_same_every_time():
    finding = Finding("a", "layer", arrays={"diagram_h0": bars(20), "spectrum": bars(9).ravel()})
    assert figures(finding) == figures(finding)


def test_profiles_have_a_point_and_a_bar_for_every_known_number():
    layers = ["first", "second", "third"]
    stats = {
        "entropy": {"first": Estimate(1, 0.1), "second": Estimate(2, 0.2), "third": Estimate(3)},
        "constant": dict.fromkeys(layers, Estimate(7, exact=True)),
        "gap": {"first": Estimate(1), "second": Estimate.undefined("x"), "third": Estimate(2)},
    }
    (figure,) = layer_profiles(layers, stats)
    tree = ElementTree.fromstring(figure.svg)
    assert [len(marks) for marks in subpaths(tree, "marks")] == [3, 2]
    texts = [text.text for text in tree.iter(f"{SVG}text")]
    assert [texts.count(layer) for layer in layers] == [1, 1, 1]
    assert "constant" not in texts
