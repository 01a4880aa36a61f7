import re
from xml.etree import ElementTree

import numpy as np
import pytest

from geomprobe.auditing.html import render
from geomprobe.auditing.layer_figures import across_layers, dimension_over_scales
from geomprobe.auditing.report import AuditReport
from geomprobe.findings import Estimate, Finding

SVG = "{http://www.w3.org/2000/svg}"
NAN = np.nan


def paths(figure, kind):
    tree = ElementTree.fromstring(figure.svg)
    legends = {p for g in tree.iter(f"{SVG}g") if g.get("class") == "legend"
               for p in g.iter(f"{SVG}path")}  # fmt: skip
    return [p for p in tree.iter(f"{SVG}path") if p.get("class") == kind and p not in legends]


def texts(figure):
    return [text.text for text in ElementTree.fromstring(figure.svg).iter(f"{SVG}text")]


def test_a_scan_over_scales_has_a_mark_a_scale():
    finding = Finding(
        "a", "layer", arrays={"scales": np.array([1.0, 2, 4]), "gride": np.array([5.0, 2.2, NAN]),
                              "gride_stderr": np.array([0.2, 0.1, NAN])},
    )  # fmt: skip
    (figure,) = dimension_over_scales(finding)
    (marks,) = paths(figure, "marks")
    assert marks.get("d").count("M") == 2
    assert figure.caption.startswith(
        "Intrinsic dimension by Gride: 5 at the smallest scale, 2.20 at"
    )
    assert dimension_over_scales(Finding("a", "layer")) == ()


def profile(**by_name):
    layers = [f"layer{i}" for i in range(len(next(iter(by_name.values()))))]
    stats = {
        name: {
            layer: Estimate.undefined("why") if np.isnan(v) else Estimate(v, 0.5)
            for layer, v in zip(layers, values, strict=True)
        }
        for name, values in by_name.items()
    }
    return across_layers(layers, [], stats)


def test_dimensions_over_depth_share_a_chart_with_bars():
    (figure,) = profile(two_nn=[3.0, 8.0, 4.0], rank_me=[6.0, NAN, 5.0], equinorm=[1.0, 2.0, 3.0])
    assert figure.kind == "depth"
    assert len(paths(figure, "curve")) == 1  # that of RankMe is broken into lonely points
    assert sum(p.get("d").count("M") for p in paths(figure, "marks")) == 3 + 2 + 2
    # A neutral bar for each of the five numbers that are known.
    bars = re.findall(r'<path d="M([\d.]+) [\d.]+L([\d.]+) ', figure.svg)
    assert len(bars) == 5
    assert all(x == other for x, other in bars)
    assert {"TwoNN", "RankMe"} <= set(texts(figure))
    assert "equinorm" not in texts(figure)


def test_dimensions_that_span_a_wide_range_have_a_logarithmic_axis():
    (figure,) = profile(two_nn=[2.0, 20.0, 200.0])
    (curve,) = paths(figure, "curve")
    y = [float(v) for v in re.findall(r" ([\d.]+)", curve.get("d"))]
    assert y[1] == pytest.approx((y[0] + y[2]) / 2, abs=0.2)


def test_numbers_that_are_no_dimensions_have_no_chart():
    assert profile(entropy=[1.0, 2.0]) == ()
    assert profile(two_nn=[NAN, NAN]) == ()


def similarity(matrix):
    return [
        Finding("a", f"layer{i}", arrays={"cka": np.asarray(row, dtype=float)})
        for i, row in enumerate(matrix)
    ]


def test_a_matrix_has_a_cell_an_entry_and_its_number():
    matrix = [[1, 0.5, NAN], [0.5, 1, -0.02], [NAN, -0.02, 1]]
    (figure,) = across_layers([], similarity(matrix), {})
    shades = {p.get("fill-opacity"): p.get("d").count("z") for p in paths(figure, "cell")}
    assert shades == {"0.60": 3, "0.30": 2, "0.00": 2}
    written = texts(figure)
    assert written.count("1.00") == 3
    assert written.count(".50") == 2
    assert written.count("−.02") == 2
    assert "1. layer0" in written
    assert "Least alike of neighbours: layer1 and layer2" in figure.caption


def test_a_large_matrix_has_no_numbers_and_stays_small():
    matrix = np.random.default_rng(0).uniform(size=(50, 50))
    (figure,) = across_layers([], similarity(matrix), {})
    assert sum(p.get("d").count("z") for p in paths(figure, "cell")) == 2500
    assert len(figure.svg) < 120_000
    assert len(texts(figure)) == 50 + 25 + 3


def test_rows_that_are_no_matrix_have_no_chart():
    assert across_layers([], similarity([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), {}) == ()
    assert across_layers([], similarity([[1.0]]), {}) == ()


def test_the_report_shows_them_and_escapes_names():
    name = "<b>&layer"
    findings = tuple(
        Finding(
            "similarity", layer, {"cka_last": Estimate(value, 0.1)},
            {"cka": np.array([1.0, 0.5]), "scales": np.array([1.0, 2]), "gride": np.ones(2)},
        )
        for layer, value in ((name, 0.5), ("last", 0.9))
    )  # fmt: skip
    page = render(AuditReport(findings))
    assert "Similarity of layers" in page
    assert page.count("Dimension over scales") == 2 * 2
    assert name not in page
