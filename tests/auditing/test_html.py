import math
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pytest

from geomprobe.analyzer import registered_analyzers
from geomprobe.auditing.html import render
from geomprobe.auditing.report import AuditReport
from geomprobe.auditing.topics import TOPICS
from geomprobe.diagnostics import PublishedScore, Score, ZooScore, published
from geomprobe.diagnostics.published import write_scores
from geomprobe.findings import Estimate, Finding

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert('1')>",
    "javascript:alert(1)",
    "../../etc/passwd",
    "{{ 7 * 7 }}{% raw %}",
    "</style></svg></title>",
    "слой.Ω — «№ 1»",
    "&amp;&lt;",
]


class Page(HTMLParser):
    """A parsed page: its elements with their attributes and text, and every nesting mistake."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.elements, self.mistakes, self._open = [], [], []
        self.feed(source)
        self.close()
        self.mistakes += [f"<{tag}> is never closed" for tag, _, _ in self._open]

    def handle_starttag(self, tag, attributes):
        element = (tag, dict(attributes), [])
        self.elements.append(element)
        if len({name for name, _ in attributes}) < len(attributes):
            self.mistakes.append(f"<{tag}> has an attribute twice")
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), []))

    def handle_endtag(self, tag):
        if not self._open or self._open[-1][0] != tag:
            self.mistakes.append(f"</{tag}> at {self.getpos()} closes {self._open[-1:]}")
        else:
            self._open.pop()

    def handle_data(self, data):
        for _, _, text in self._open:
            text.append(data)

    def all(self, tag, **attributes):
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [e for e in self.elements if e[0] == tag and wanted.items() <= e[1].items()]

    def texts(self, tag, **attributes):
        return [" ".join("".join(text).split()) for *_, text in self.all(tag, **attributes)]


def homology(layer, n=256, seed=0):
    rng = np.random.default_rng(seed)
    birth = rng.uniform(0.1, 1, n)
    grid = np.linspace(0, 2, 200)
    h0 = np.column_stack([np.zeros(n), rng.gamma(4, 0.1, n)])
    h0[0, 1] = math.inf
    h1 = np.column_stack([birth, birth + rng.exponential(0.2, n)])
    alive = [((d[:, 0] <= grid[:, None]) & (d[:, 1] > grid[:, None])).sum(1) for d in (h0, h1)]
    return Finding(
        "persistent_homology",
        layer,
        scalars={
            f"number_{k}": Estimate(rng.normal(), 0.1, n=n, method="jackknife over 10 folds")
            for k in range(12)
        },
        arrays={
            "diagram_h0": h0,
            "diagram_h1": h1,
            "betti_grid": grid,
            "betti_h0": alive[0],
            "betti_h1": alive[1],
        },
        notes=(f"{n} of 2,000 points were kept.",),
    )


def model_findings():
    n = np.geomspace(100, 1e6, 20)
    return (
        Finding(
            "fisher_information",
            "model",
            {
                "trace": Estimate(12.345, 0.678, n=500, method="per-sample gradients"),
                "rank": Estimate(42, exact=True),
                "sharpness": Estimate(0.123456),
                "kurtosis": Estimate.undefined("fewer than 4 samples", n=3),
            },
            {"spectrum": np.geomspace(1, 1e-6, 50), "empirical_spectrum": np.ones(50)},
        ),
        Finding(
            "effective_dimension",
            "model",
            arrays={"n": n, "local_curve": np.log(n), "local_curve_stderr": 0 * n + 0.1},
        ),
        Finding("kernel", "model", failed="MemoryError: needs 31 GiB <of> memory"),
    )


def row(name, status="observed", reason=None, aliases=()):
    observed = status == "observed"
    return {"name": name, "type": "Linear", "status": status, "reason": reason,
            "points": 256 if observed else None, "dimension": 64 if observed else None,
            "aliases": list(aliases)}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def nothing_scored(tmp_path_factory):
    """Whatever score cards are shipped, these pages have none, but where a test gives some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "SCORES", tmp_path_factory.mktemp("scores") / "none.json")
        yield


READINGS = {
    "persistent_homology": {f"number_{k}": f"How to read number {k}." for k in range(12)},
    "fisher_information": {"trace": "Sum of the eigenvalues."},
}


def report(layers=("conv", "head"), n=30):
    return AuditReport(
        tuple(homology(name, n, seed) for seed, name in enumerate(layers)) + model_findings(),
        layers=(
            *(row(name) for name in layers),
            row("drop", "skipped", "its output is its input in evaluation mode", ["tied.drop"]),
        ),
        readings=READINGS,
        facts={"model": "Net", "parameters": 12000, "versions": {"torch": "2.13.0"}},
    )


@pytest.fixture(scope="module")
def page():
    return Page(render(report()))


@pytest.mark.parametrize(
    "audited",
    [
        report(),
        report(layers=HOSTILE),
        AuditReport(()),
        AuditReport((), layers=({"name": "sparse row"},), facts={"interrupted": True}),
        AuditReport((Finding("a", "not in the manifest", {"x": Estimate(1)}),)),
        AuditReport((homology("model"),), layers=(row("model"),)),
    ],
    ids=["full", "hostile", "empty", "interrupted", "unlisted", "layer called model"],
)
def test_pages_are_well_formed_and_stand_alone(audited):
    source = render(audited)
    page = Page(source)
    assert page.mistakes == []
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"] for _, attributes, _ in page.all("a")]
    assert targets
    assert {target[1:] for target in targets} <= set(ids)
    assert all(target.startswith("#") for target in targets)
    (script,) = page.all("script")
    digest = b64encode(sha256("".join(script[2]).encode()).digest()).decode()
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert f"script-src 'sha256-{digest}'" in policy[1]["content"]
    present = {tag for tag, *_ in page.elements}
    assert not present & {"iframe", "img", "link", "object", "base", "form"}
    for _, attributes, _ in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        values = [str(value) for name, value in attributes.items() if name != "xmlns"]
        assert not re.search(r"//|url\(|javascript:", " ".join(values))
    (style,) = page.texts("style")
    assert not re.search(r"url\(|@import|//", style)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_shown_and_inert(hostile):
    finding = Finding(
        hostile,
        hostile,
        {hostile: Estimate(1, 1, method=hostile, note=hostile)},
        {"diagram_h1": np.array([[1.0, 2.0]]), "spectrum": np.ones(3)},
        (hostile,),
        failed=hostile,
    )
    audited = AuditReport(
        (finding,),
        (row(hostile, "skipped", hostile, [hostile]),),
        {hostile: {hostile: hostile}},
        {"model": hostile, hostile: {hostile: hostile}},
    )
    page, plain = Page(render(audited)), Page(render(_renamed(audited, hostile, "name")))
    assert page.mistakes == []
    assert [tag for tag, *_ in page.elements] == [tag for tag, *_ in plain.elements]
    assert [sorted(a) for _, a, _ in page.elements] == [sorted(a) for _, a, _ in plain.elements]
    shown = " ".join(hostile.split())
    assert page.texts("h1") == [shown]
    assert shown in page.texts("code")
    assert page.texts("span", class_="method") == [shown]
    assert page.texts("span", class_="note") == [shown]


def _renamed(audited, old, new):
    def swap(value):
        if isinstance(value, dict):
            return {swap(key): swap(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [swap(entry) for entry in value]
        return value.replace(old, new) if isinstance(value, str) else value

    return AuditReport.from_dict(swap(audited.to_dict()))


def test_control_characters_and_lone_surrogates_cannot_break_the_page(tmp_path):
    name = "a\x00\x1b\u202eb\ud800"
    path = AuditReport((homology(name, 5),), facts={"model": name}).to_html(tmp_path / "r.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.texts("h1") == ["a\ufffd\ufffd\ufffdb\ufffd"]


def test_every_number_has_its_value_error_n_method_note_and_reading(page):
    (article,) = [p for p in _articles(report()) if "fisher" in p.texts("h4")[0].lower()]
    rows = zip(
        article.texts("th", scope="row"),
        *(article.texts("td", class_=kind) for kind in ("error", "count")),
        strict=True,
    )
    assert list(rows) == [
        ("traceSum of the eigenvalues.per-sample gradients", "± 0.68", "500"),
        ("rank", "exact", ""),
        ("sharpness", "unknown", ""),
        ("kurtosisfewer than 4 samples", "–", "3"),
    ]
    assert article.texts("td", class_="value") == ["12.35", "42", "0.1235"]
    assert article.texts("td", class_="value undefined") == ["undefined"]
    for k in range(12):
        assert page.texts("span", class_="reading").count(f"How to read number {k}.") == 2


def test_a_method_that_all_numbers_share_is_said_once():
    ours = [p for p in _articles(report()) if "homology" in p.texts("h4")[0].lower()]
    for article in ours:
        assert article.texts("li", class_="method") == ["Every number: jackknife over 10 folds."]
        assert article.texts("span", class_="method") == []
    scalars = {"a": Estimate(1, 1, method="one"), "b": Estimate(1, 1, method="two")}
    (mixed,) = _articles(AuditReport((Finding("x", "model", scalars),)))
    assert mixed.texts("span", class_="method") == ["one", "two"]
    assert mixed.texts("li") == []


def test_facts_are_named_for_a_reader_and_an_interrupt_is_one_only_where_it_happened():
    facts = {"model": "Net", "n_train": 500, "interrupted": False}
    page = Page(render(AuditReport((), facts=facts)))
    assert page.texts("dt")[:2] == ["training samples", "3.21 ± 0.04"]
    page = Page(render(AuditReport((), facts=facts | {"interrupted": True})))
    assert page.texts("dt")[:2] == ["training samples", "interrupted"]


def test_no_line_breaks_between_a_number_and_its_error():
    finding = Finding("homology", "a", {"h1_death_birth_ratio": Estimate(3.123, 0.0456)})
    page = render(AuditReport((finding,)))
    assert "3.123\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.046 times" in page


def _articles(audited):
    return [Page(part) for part in re.findall(r"<article.*?</article>", render(audited), re.DOTALL)]


def test_every_layer_has_its_figures_and_every_figure_its_description(page):
    kinds = [attributes.get("class") for _, attributes, _ in page.all("figure")]
    assert kinds.count("persistence") == kinds.count("betti") == 2
    assert kinds.count("spectrum") == kinds.count("dimension") == 1
    drawings = page.all("svg", role="img")
    assert len(drawings) == len(kinds)
    assert all(page.texts("desc"))
    marks = [attributes["d"] for _, attributes, _ in page.all("path", class_="marks")]
    assert sum(path.count("M") for path in marks if path.count("M") in (29, 30)) == 2 * (29 + 30)


def test_opening_sentences_lead_to_their_figures(page):
    ids = {attributes["id"]: tag for tag, attributes, _ in page.elements if "id" in attributes}
    (opening,) = page.texts("section", id="opening")
    for words, target, tag in (
        ("The most persistent loop", "finding-0-persistence", "figure"),
        ("of 50 eigenvalues of the Fisher spectrum", "finding-2-spectrum", "figure"),
        ("effective dimension is 13.82 ± 0.10 at n = 10⁶", "finding-3-dimension", "figure"),
        ("The analysis kernel failed", "finding-4", "article"),
        ("1 layer gave no cloud", "layers", "section"),
    ):
        assert words in opening
        assert ids[target] == tag
    assert page.texts("p", class_="partial") == ["This report is partial."]


def test_failures_skipped_layers_notes_and_the_missing_score_cards_are_said(page):
    assert page.texts("p", class_="reason") == ["Failed. MemoryError: needs 31 GiB <of> memory"]
    assert page.all("article", class_="finding failed")
    (skipped,) = page.texts("tr", class_="skipped")
    assert "skipped: its output is its input in evaluation mode" in skipped
    assert "also tied.drop" in skipped
    assert page.texts("li").count("30 of 2,000 points were kept.") == 2
    assert "none is claimed to predict generalization" in page.texts("section", id="opening")[0]
    assert "none is claimed to predict generalization" in page.texts("section", id="score-cards")[0]
    assert set(page.texts("td", class_="score")) == {"not scored"}
    assert len(page.texts("td", class_="score")) == 2 * 12 + 4


def test_scalars_of_an_unknown_analyzer_and_subjects_outside_the_manifest_are_shown():
    finding = Finding("acme_curvature", "trajectory", {"bend": Estimate(2, 0.5)})
    page = Page(render(AuditReport((finding,))))
    assert page.texts("h4") == ["Acme curvature"]
    assert "trajectory" in page.texts("h3")[0]
    assert page.texts("td", class_="value") == ["2.00"]


def test_a_verdict_with_psi_stands_beside_a_number_and_its_card_in_the_table(tmp_path, monkeypatch):
    zoos = {
        name: ZooScore(
            "confounded", Score(psi, 0.1, 0.6), Score(-0.05, -0.2, 0.1), 0.5, 140, held, "lr", share
        )
        for name, psi, held, share in (("H1", 0.41, True, 0.7), ("T", 0.33, False, 0.9))
    }
    scores = {"fisher_trace": PublishedScore.of("fisher_trace", zoos)}
    monkeypatch.setattr(published, "SCORES", write_scores(tmp_path / "scores.json", scores, {}))
    page = Page(render(report()))
    assert [text for text in page.texts("td", class_="score") if text != "not scored"] == [
        "confounded: follows the learning rateΨ +0.41 [+0.10, +0.60] on H1, for: Tr F"
    ]
    (table,) = page.texts("table", class_="scores sortable")
    assert "fisher_traceTr F; larger is expected of models with a larger gap" in table
    assert "12.35 ± 0.68" in table
    assert table.count("H1 held outconfounded") == table.count("Tconfounded") == 1
    assert "−0.05 [−0.20, +0.10]" in table
    assert "27 of 28 numbers have not been scored" in page.texts("section", id="opening")[0]
    assert "certif" not in " ".join(page.texts("section", id="score-cards")).lower()


def test_parts_come_in_order_each_with_what_it_does_not_say():
    names = ("loss_slice", "acme", "persistent_homology", "region_density", "fisher_information")
    findings = [Finding(name, "model", {"x": Estimate(1)}) for name in names]
    caveats = {"loss_slice": "What lies elsewhere.", "acme": "Anything at all."}
    page = Page(render(AuditReport(tuple(findings), caveats=caveats)))
    parts = ["Layers", "Topology", "Information", "Tropical", "Landscape", "Others"]
    parts += ["Score cards", "How to read it"]
    assert [a["data-tab"] for _, a, _ in page.elements if "data-tab" in a] == parts
    assert "Loss slice does not sayWhat lies elsewhere." in page.texts("section", id="landscape")[0]
    assert "Acme does not sayAnything at all." in page.texts("section", id="others")[0]
    assert "does not say" not in page.texts("section", id="topology")[0]


def test_every_analyzer_of_geomprobe_has_a_part_and_says_what_it_does_not_say():
    own = {
        name: point.load()
        for name, point in registered_analyzers().items()
        if point.module.startswith("geomprobe.")
    }
    assert {name for names in TOPICS.values() for name in names} == set(own)
    for name, analyzer in own.items():
        assert analyzer.caveat.endswith("."), name


def test_the_same_report_gives_the_same_page():
    assert render(report()) == render(AuditReport.from_dict(report().to_dict()))


def test_fifty_layers_of_256_bars_stay_under_two_megabytes(tmp_path):
    layers = [f"encoder.layers.{k}.attention.output" for k in range(50)]
    path = report(layers, n=256).to_html(tmp_path / "report.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.all("figure", class_="persistence")) == 50
    assert path.stat().st_size < 2_000_000
