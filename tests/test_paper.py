"""The paper says what the results say, and cites what its bibliography has."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "paper"


@pytest.fixture
def tables():
    spec = spec_from_file_location("paper_tables", FOLDER / "tables.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_committed_results(tables):
    text = (FOLDER / "paper.md").read_text(encoding="utf-8")
    assert tables.filled(text) == text, "run docs/paper/tables.py"


def test_a_text_without_the_marks_is_refused(tables):
    with pytest.raises(ValueError, match="once"):
        tables.filled("no tables")


def test_what_is_cited_is_in_the_bibliography_and_nothing_else():
    text = (FOLDER / "paper.md").read_text(encoding="utf-8")
    entries = re.findall(r"^@\w+\{(\w+),", (FOLDER / "paper.bib").read_text("utf-8"), re.MULTILINE)
    assert len(entries) == len(set(entries))
    assert set(re.findall(r"@(\w+)", text)) == set(entries)
