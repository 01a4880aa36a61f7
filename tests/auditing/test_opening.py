import math

import numpy as np
import pytest

from geomprobe.auditing.opening import opening
from geomprobe.auditing.report import AuditReport
from geomprobe.findings import Estimate, Finding


def said(*findings, layers=(), **facts):
    report = AuditReport(findings, layers=layers, facts=facts)
    return [(s.before + s.link + s.after, s.link, s.target) for s in opening(report)]


def loops(layer, *bars):
    return Finding("homology", layer, arrays={"diagram_h1": np.array(bars, dtype=float)})


def test_the_most_persistent_loop_does_not_depend_on_the_scale_of_a_layer():
    # Lifetimes 1 and 100, but ratios 2 and 1.1: the first layer has the more persistent loop.
    findings = (loops("small", [1, 2]), loops("large", [1000, 1100], [5, math.inf], [0, 1]))
    assert said(*findings) == [
        (
            "The most persistent loop is in layer small: it dies at 2 (error: unknown) times the "
            "scale of its birth.",
            "small",
            "finding-0-persistence",
        )
    ]


def test_the_ratio_of_a_finding_comes_with_its_error():
    def finding(layer, ratio):
        return Finding("homology", layer, {"h1_death_birth_ratio": ratio})

    undefined = finding("c", Estimate.undefined("no loop"))
    best = finding("b", Estimate(3.123, 0.0456))
    ((text, link, target),) = said(finding("a", Estimate(2, 0.1)), best, undefined)
    assert "3.123 ± 0.046 times" in text
    assert (link, target) == ("b", "finding-1")


@pytest.mark.parametrize(
    ("spectrum", "words"),
    [
        ([8, 1, 0.9, 0.1], "2 of 4 eigenvalues of the Fisher spectrum hold 90% of their sum."),
        ([95, 5, -1e-9, math.nan], "1 of 3 eigenvalues of the Fisher spectrum holds 90%"),
        ([1] * 100, "90 of 100 eigenvalues"),
    ],
)
def test_concentration_counts_eigenvalues_up_to_nine_tenths_of_their_sum(spectrum, words):
    arrays = {"spectrum": np.array(spectrum, dtype=float)}
    ((text, _, target),) = said(Finding("fisher", "model", arrays=arrays))
    assert text.startswith(words)
    assert target == "finding-0-spectrum"
    scalars = {"participation_ratio": Estimate(1.56, 0.12)}
    ((text, _, _),) = said(Finding("fisher", "model", scalars, arrays))
    assert text.endswith("of their sum (participation ratio 1.56 ± 0.12).")


def test_effective_dimension_is_the_local_number_or_the_end_of_its_curve():
    arrays = {
        "n": np.array([100.0, 1000, 10000]),
        "local_curve": np.array([3.0, 41.234, math.nan]),
        "local_curve_stderr": np.array([0.1, 1.2, 1.0]),
    }
    ((text, _, target),) = said(Finding("effective_dimension", "model", arrays=arrays))
    assert text == "The local effective dimension is 41.2 ± 1.2 at n = 1,000."
    assert target == "finding-0-dimension"
    scalars = {"local": Estimate(7.5, 0.25), "local_normalized": Estimate(0.0123, 0.0004)}
    ((text, _, _),) = said(Finding("effective_dimension", "model", scalars, arrays))
    assert text == (
        "The local effective dimension is 7.50 ± 0.25, 0.01230 ± 0.00040 per parameter."
    )
    del arrays["local_curve_stderr"]
    ((text, _, _),) = said(Finding("effective_dimension", "model", arrays=arrays))
    assert "41.23 (error: unknown)" in text


def test_failures_skipped_layers_and_interrupts_are_said():
    failures = [Finding("fisher_information", "model", failed="x"), Finding("b", "conv", failed="")]
    assert said(failures[0]) == [
        ("The analysis fisher information failed.", "fisher information", "finding-0")
    ]
    assert said(*failures)[0][0] == "2 analyses failed, first fisher information."
    layers = ({"name": "a", "status": "skipped"}, {"name": "b", "status": "observed"})
    assert [target for *_, target in said(layers=layers, interrupted=True)] == ["layers", "facts"]


def test_findings_without_fitting_arrays_are_passed_over():
    odd = {
        "diagram_h1": np.ones(3),
        "spectrum": np.zeros(3),
        "n": np.ones(2),
        "local_curve": np.ones(3),
    }
    words = {"spectrum": np.array(["x"]), "n": np.ones(1), "local_curve": np.array(["x"])}
    assert said(Finding("a", "b", arrays=odd), Finding("a", "c", arrays=words)) == []


def region(subject, units, **arrays):
    return Finding("region_density", subject, {"local_complexity": Estimate(units, 0.5)}, arrays)


def test_other_analyses_are_summed_up_too_and_lead_to_their_figures():
    layers = [
        Finding(
            "representation_dimension",
            name,
            {"two_nn": Estimate(value, 0.25)},
            {"scales": np.array([1.0, 2.0]), "gride": np.array([3.0, 2.0])},
        )
        for name, value in (("in", 4.0), ("deep", 12.5), ("out", 2.0))
    ]
    bent = {"hessian_grid": np.arange(3.0), "hessian_density": np.ones(3)}
    curved = Finding("curvature", "model", {"largest_eigenvalue": Estimate(7.5, 0.25)}, bent)
    walls = {"boundary_distances": np.array([0.1, 0.2])}
    regions = (region("model", 9.0, **walls), region("relu", 4.0))
    assert said(*layers, *regions, curved) == [
        (
            "The intrinsic dimension is largest in layer deep: 12.50 ± 0.25 at the scale of "
            "nearest neighbours.",
            "deep",
            "finding-1-scales",
        ),
        (
            "Near an input units that bend number 9.00 ± 0.50 on average.",
            "units that bend",
            "finding-3-walls",
        ),
        ("The largest curvature of the loss is 7.50 ± 0.25.", "curvature of the loss",
         "finding-5-density"),
    ]  # fmt: skip
    # Without the arrays of its figure a sentence leads to the finding.
    assert said(region("model", 9.0))[0][2] == "finding-0"


def test_three_sentences_are_enough():
    spectrum = Finding("fisher", "model", arrays={"spectrum": np.ones(3)})
    dimension = Finding("two", "a", {"two_nn": Estimate(3, 0.1)})
    findings = (loops("a", [1, 2]), spectrum, dimension, region("model", 3.0))
    assert [target for *_, target in said(*findings)] == [
        "finding-0-persistence",
        "finding-1-spectrum",
        "finding-2",
    ]
