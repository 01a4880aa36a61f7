"""Reports in a real browser: headless Chromium, if one is installed."""

import shutil

import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.auditing import AuditReport, Checkpoints
from geomprobe.diagnostics import PublishedScore, Score, ZooScore, published
from geomprobe.diagnostics.published import write_scores
from geomprobe.findings import Estimate, Finding
from geomprobe.landscape.analyzers import LossSurface
from geomprobe.topology.analyzers import PersistentHomology

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright, of the extra 'dev', is not installed"
)
BROWSERS = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
CHROMIUM = next(filter(None, BROWSERS), None)
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]

HOSTILE = "<img src=x onerror=\"window.hit='name'\"><script>window.hit='script'</script>"
CONTRAST = """
(selector) => {
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const c = part / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const text = luminance(getComputedStyle(document.querySelector(selector)).color);
  const paper = luminance(getComputedStyle(document.body).backgroundColor);
  return (Math.max(text, paper) + 0.05) / (Math.min(text, paper) + 0.05);
}
"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """A constructed score card, of the trace of the Fisher information."""
    zoo = ZooScore(
        "confounded", Score(0.41, 0.2, 0.6), Score(0.05, -0.1, 0.2), 0.5, 140, True, "lr", 0.7
    )
    path = tmp_path_factory.mktemp("scores") / "scores.json"
    write_scores(path, {"fisher_trace": PublishedScore.of("fisher_trace", {"H1": zoo})}, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "SCORES", path)
        yield path


@pytest.fixture(scope="module")
def audited(scores, tmp_path_factory):
    """The page of a real audit of fifty layers."""
    torch.manual_seed(0)
    blocks = [layer for _ in range(25) for layer in (nn.Linear(6, 6), nn.LeakyReLU(0.5))]
    model = nn.Sequential(*blocks, nn.Linear(6, 3))
    for layer in blocks[::2]:  # Lest the activations of so deep a model fall to a point.
        nn.init.orthogonal_(layer.weight, gain=1.4)
    report = gp.audit(
        model,
        (torch.randn(120, 6), torch.arange(120) % 3),
        loss=nn.functional.cross_entropy,
        analyzers=[
            *(PersistentHomology(replicates=2), "fisher_information"),
            *("effective_dimension", "region_density", LossSurface(points=7, lines=2)),
        ],
        layers=r"re:\d+",
        points=50,
        samples=16,
        n_train=1000,
        progress=False,
    )
    assert sum(row["status"] == "observed" for row in report.layers) >= 50
    return report.to_html(tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def opened(browser):
    """Open a page and note what it says on the console and asks of the network."""
    contexts = []

    def show(path, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()


def visible_parts(page):
    return page.eval_on_selector_all(
        "main > section[data-tab]", "all => all.filter(e => e.offsetHeight).map(e => e.dataset.tab)"
    )


PARTS = ["Layers", "Topology", "Information", "Dimension", "Tropical", "Landscape"]
PARTS += ["Score cards", "How to read it"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_renders_in_both_schemes_with_no_error_and_no_request(audited, opened, scheme):
    assert audited.stat().st_size < 2_000_000
    page = opened(audited, color_scheme=scheme)
    assert page.said == []
    assert page.asked == [audited.as_uri()]
    assert visible_parts(page) == PARTS
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in paper[4:-1].split(",")) / 3
    assert (brightness > 128) == (scheme == "light")
    for selector in (".reading", ".caveat", ".caveats dd", ".score", "thead button", "main a"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    sizes = page.eval_on_selector_all(
        "svg", "all => all.map(e => e.getBoundingClientRect()).map(r => r.width * r.height)"
    )
    assert len(sizes) > 100
    assert min(sizes) > 1000
    assert page.get_by_role("img").count() == len(sizes)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_opening_has_three_sentences_that_lead_to_figures(audited, opened):
    page = opened(audited)
    links = page.locator("#opening > p:not([class]) a")
    assert links.count() == 3
    for link in links.all():
        target = link.get_attribute("href")
        assert page.locator(target).evaluate("e => e.tagName") == "FIGURE"
        link.click()
        assert page.locator(target).evaluate("e => Math.abs(e.getBoundingClientRect().top) < 400")


def test_tabs_by_click_and_by_keyboard(audited, opened):
    page = opened(audited)
    tabs = page.get_by_role("tab")
    assert tabs.all_text_contents() == ["Everything", *PARTS]
    page.get_by_role("tab", name="Topology").click()
    assert visible_parts(page) == ["Topology"]
    page.keyboard.press("ArrowRight")
    assert visible_parts(page) == ["Information"]
    assert page.evaluate("document.activeElement.textContent") == "Information"
    selected = page.locator("[role=tab][aria-selected=true]")
    assert selected.all_text_contents() == ["Information"]
    assert page.locator("[role=tab][tabindex='0']").count() == 1
    for key, part in (("End", PARTS[-1:]), ("ArrowRight", PARTS), ("ArrowLeft", PARTS[-1:])):
        page.keyboard.press(key)
        assert visible_parts(page) == part
    # A link into a part that is not shown brings it back.
    page.locator("nav a[href='#topology']").click()
    assert visible_parts(page) == ["Topology"]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")


def test_tables_are_sorted_by_click_and_by_keyboard(audited, opened):
    page = opened(audited)
    table = page.locator("table.layers")
    head = table.get_by_role("columnheader", name="Layer")
    names = "t => [...t.tBodies[0].rows].map(r => r.cells[0].textContent.trim())"
    first = table.evaluate(names)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    # Numbers in names are compared as numbers: 50 comes before 9.
    assert table.evaluate(names) == sorted(first, key=int, reverse=True)

    numbers = page.locator("table.numbers").first
    value = numbers.get_by_role("columnheader", name="Value")
    keys = "t => [...t.tBodies[0].rows].map(r => r.querySelector('.value').dataset.sort)"
    value.get_by_role("button").click()
    found = numbers.evaluate(keys)
    known = [float(key) for key in found if key]
    assert known == sorted(known)
    assert found == [*found[: len(known)], *[""] * (len(found) - len(known))]
    page.keyboard.press("Space")
    assert [float(key) for key in numbers.evaluate(keys) if key] == sorted(known, reverse=True)
    assert page.said == []


def test_score_cards_stand_beside_their_numbers_and_lead_to_the_table(audited, opened):
    page = opened(audited)
    cell = page.locator(".score:has(a)")
    assert cell.count() == 1
    assert cell.text_content() == (
        "confounded: follows the learning rateΨ +0.41 [+0.20, +0.60] on H1, for: Tr F"
    )
    page.get_by_role("tab", name="Information").click()
    cell.get_by_role("link").click()
    assert visible_parts(page) == ["Score cards"]
    assert page.locator("#score-fisher_trace").is_visible()
    assert "certif" not in page.locator("#score-cards").text_content().lower()


def test_hostile_names_are_inert(opened, tmp_path):
    finding = Finding(
        HOSTILE, HOSTILE, {HOSTILE: Estimate(1, 1, method=HOSTILE, note=HOSTILE)}, notes=(HOSTILE,)
    )
    report = AuditReport(
        (finding, Finding("homology", HOSTILE, failed=HOSTILE)),
        ({"name": HOSTILE, "type": HOSTILE, "status": "observed", "aliases": [HOSTILE]},),
        {HOSTILE: {HOSTILE: HOSTILE}},
        {"model": HOSTILE, HOSTILE: HOSTILE},
        {HOSTILE: HOSTILE},
    )
    path = report.to_html(tmp_path / "report.html")
    page = opened(path)
    for tab in page.get_by_role("tab").all():
        tab.click()
    page.wait_for_timeout(100)
    assert page.evaluate("window.hit") is None
    assert page.locator("img").count() == 0
    assert page.locator("h1").text_content() == HOSTILE
    assert page.said == []
    assert page.asked == [path.as_uri()]
    # Should a name ever get out of its quotes, the policy of the page still keeps it from running.
    broken = tmp_path / "broken.html"
    broken.write_text(path.read_text(encoding="utf-8").replace("<h1>", f"<h1>{HOSTILE}"))
    page = opened(broken)
    page.wait_for_timeout(100)
    assert page.evaluate("window.hit") is None
    assert any("Content Security Policy" in said for said in page.said)
    assert page.get_by_role("tab").count() > 1


def test_print_shows_every_part_and_no_controls(audited, opened):
    page = opened(audited)
    page.get_by_role("tab", name="Topology").click()
    page.emulate_media(media="print")
    assert visible_parts(page) == PARTS
    assert not page.get_by_role("tablist").is_visible()
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_without_scripts_the_page_is_whole(audited, opened):
    page = opened(audited, java_script_enabled=False)
    assert page.get_by_role("tab").count() == 0
    for part in ("layers", "topology", "landscape", "score-cards"):
        assert page.locator(f"#{part}").is_visible()


def test_on_a_phone_nothing_but_wide_tables_scrolls_sideways(audited, opened):
    page = opened(audited, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_reports_side_by_side_are_a_page_of_the_same_kind(scores, opened, tmp_path):
    reports = [
        AuditReport(
            (Finding("fisher_information", "model", {"trace": Estimate(trace, 0.5)}),),
            facts={"model": "Net", "parameters": 12},
        )
        for trace in (9, 3, 30)
    ]
    path = tmp_path / "page.html"
    Checkpoints(tuple(reports), ("a", "b", HOSTILE)).to_html(path)
    page = opened(path, color_scheme="dark")
    assert visible_parts(page) == ["Ranking", "Charts", "Numbers"]
    assert page.locator("table.ranking td").first.text_content() == f"b < a < {HOSTILE}"
    page.get_by_role("tab", name="Numbers").click()
    assert visible_parts(page) == ["Numbers"]
    assert page.evaluate("window.hit") is None
    assert page.said == []
    assert page.asked == [path.as_uri()]
    assert page.pdf()[:5] == b"%PDF-"
