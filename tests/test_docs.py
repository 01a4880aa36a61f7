"""The Python on the pages of the documentation runs, from top to bottom of each page."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch

import geomprobe as gp

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


PAGES = {
    path.relative_to(DOCS).as_posix(): found
    for path in sorted([*DOCS.glob("*.md"), *DOCS.glob("diagnostics/*.md")])
    if (found := blocks(path))
}


def test_every_analyzer_answers_a_question_of_the_first_page():
    text = (DOCS / "start.md").read_text(encoding="utf-8")
    analyzers = entry_points(group="geomprobe.analyzers")
    own = {point.name for point in analyzers if point.module.startswith("geomprobe.")}
    assert own
    assert own <= set(re.findall(r"`(\w+)`", text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a reader may be: with a report at hand."""
    path = tmp_path_factory.mktemp("docs")
    samples = torch.randn(64, 4), torch.randint(0, 3, (64,))
    loss = torch.nn.functional.cross_entropy
    gp.audit(torch.nn.Linear(4, 3), samples, loss=loss).to_json(path / "report.json")
    return path


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run_in_order(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    namespace = {"__name__": "docs"}
    for number, block in enumerate(PAGES[page], start=1):
        exec(compile(block, f"{page}, Python block {number}", "exec"), namespace)
