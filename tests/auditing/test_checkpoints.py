"""Reports side by side: which are ranked, by what, and in which order."""

import math

import pytest

from geomprobe.auditing import AuditReport, Checkpoints
from geomprobe.auditing.checkpoint_page import render
from geomprobe.diagnostics import PublishedScore, Score, ZooScore, published
from geomprobe.diagnostics.published import write_scores
from geomprobe.findings import Estimate, Finding


def checkpoint(trace, rank=1.0, model="Net", parameters=12, width=8, failed=()):
    """A report with a Fisher trace ± 1 and the neural persistence of the model, exact."""
    return AuditReport(
        (
            Finding("fisher_information", "model", {"trace": Estimate(trace, 1.0)}),
            Finding(
                "neural_persistence",
                "model",
                {"neural_persistence": Estimate(rank, exact=True)},
            ),
            *(Finding(name, "model", failed="no memory") for name in failed),
        ),
        ({"name": "fc", "type": "Linear", "status": "observed", "dimension": width},),
        facts={"model": model, "parameters": parameters, "seed": 0},
    )


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Constructed score cards of both: larger traces, and smaller persistence, mean larger gaps."""
    zoo = ZooScore("predictive", Score(0.5, 0.4, 0.6), Score(0.4, 0.2, 0.5), 0.5, 99, True, "", 0.0)
    scores = {
        name: PublishedScore.of(name, {"H1": zoo, "H2": zoo})
        for name in ("fisher_trace", "neural_persistence")
    }
    monkeypatch.setattr(published, "SCORES", write_scores(tmp_path / "scores.json", scores, {}))


def compared(*reports):
    return Checkpoints(reports, tuple("abcd"[: len(reports)]))


def orders(found):
    return {one.row.stat: one.in_words(found.names) for one in found.rankings}


def test_checkpoints_rank_by_the_declared_sign_and_ties_are_not_told_apart(scored):
    # Traces ± 1: 2 sqrt(2) = 2.83 tells 20 from 10, and not 10 from 11.
    found = compared(checkpoint(20, 0.1), checkpoint(10, 0.3), checkpoint(11, 0.2))
    assert orders(found) == {"trace": "b ≈ c < a", "neural_persistence": "b < c < a"}
    text = found.summary()
    assert "fisher_information/model/trace: b ≈ c < a (predictive (Ψ +0.50" in text
    assert "certif" not in text.lower()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (checkpoint(1, model="Other"), "a has model Net, b Other"),
        (checkpoint(1, parameters=13), "a has parameters 12, b 13"),
        (checkpoint(1, width=9), "the layers of b are not those of a"),
    ],
)
def test_models_of_different_families_are_shown_and_not_ranked(scored, other, reason):
    found = compared(checkpoint(3), other)
    assert found.rankings == ()
    assert found.ranking_in_words == f"Not ranked, for they are not of one family: {reason}."
    assert len(found.rows) == 2
    assert '<table class="ranking' not in render(found)


def test_without_score_cards_nothing_is_ranked(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "SCORES", tmp_path / "none.json")
    found = compared(checkpoint(20), checkpoint(10))
    assert found.rankings == ()
    assert "has a score card" in found.ranking_in_words
    assert found.rows[0].metric == "fisher_information/model/trace"


def test_rows_are_ordered_by_the_largest_difference_of_any_two():
    # |z| is 10 / sqrt(2) between the first and the second.
    found = compared(checkpoint(0, 0.1), checkpoint(10, 0.1), checkpoint(4, 0.1))
    assert [row.stat for row in found.rows] == ["trace", "neural_persistence"]
    assert found.rows[0].largest_z == pytest.approx(10 / math.sqrt(2))
    assert found.rows[1].largest_z == 0


def test_what_one_report_lacks_is_a_dash_and_an_undefined_number_is_not_ranked(scored):
    lacking = AuditReport(
        checkpoint(3).findings[:1], checkpoint(3).layers, facts=checkpoint(3).facts
    )
    found = compared(checkpoint(1), checkpoint(2), lacking)
    (row,) = [row for row in found.rows if row.stat == "neural_persistence"]
    assert row.estimates[2] is None
    assert [one.row.stat for one in found.rankings] == ["trace"]
    undefined = Finding("fisher_information", "model", {"trace": Estimate.undefined("zero")})
    broken = AuditReport((undefined,), lacking.layers, facts=lacking.facts)
    assert compared(checkpoint(1), broken).rankings == ()


def test_the_page_has_the_order_the_verdict_the_numbers_and_what_failed(scored, tmp_path):
    hostile = "<img src=x onerror=alert(1)>"
    found = Checkpoints(
        (checkpoint(20), checkpoint(10), checkpoint(11, failed=["curvature"])), ("a", "b", hostile)
    )
    page = found.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "b ≈ &lt;img src=x onerror=alert(1)&gt; &lt; a" in page
    assert "<img" not in page
    assert "predictive<span" in page
    assert "curvature/model in" in page
    assert page.count("<svg") == 1
    assert "Numbers across the reports" in page
    assert render(found) == page


@pytest.mark.parametrize(
    ("reports", "names", "error", "said"),
    [
        ((checkpoint(1),), ("a",), ValueError, "two reports or more"),
        ((checkpoint(1), checkpoint(2)), ("a", "a"), ValueError, "a name of its own"),
        ((checkpoint(1), checkpoint(2)), ("a", "b", "c"), ValueError, "3 names for 2 reports"),
        ((checkpoint(1), "b.json"), ("a", "b"), TypeError, "expected AuditReports, got str"),
    ],
)
def test_bad_input(reports, names, error, said):
    with pytest.raises(error, match=said):
        Checkpoints(reports, names)


def test_numbers_of_one_name_stay_apart():
    twice = [
        AuditReport(
            tuple(Finding("a", "model", {"x": Estimate(v, exact=True)}) for v in values),
            (),
            facts={},
        )
        for values in ((1.0, 2.0), (1.0, 3.0))
    ]
    assert sorted(row.metric for row in compared(*twice).rows) == ["a/model/x", "a/model/x#1"]
