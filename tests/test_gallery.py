"""The gallery shows every example, and says what its run gave."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"


@pytest.fixture
def make():
    spec = spec_from_file_location("make_gallery", GALLERY / "make.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_shown_with_its_picture_and_no_other(make):
    results = json.loads(make.RESULTS.read_text(encoding="utf-8"))
    advice = "run docs/gallery/make.py NAME for a new example"
    assert set(results) == set(make.names()), advice
    assert {path.stem for path in GALLERY.glob("*.png")} == set(results), advice


def test_the_page_is_what_scripts_and_results_say(make):
    results = json.loads(make.RESULTS.read_text(encoding="utf-8"))
    assert make.PAGE.read_text(encoding="utf-8") == make.page(results)


def test_an_example_is_run_and_its_picture_kept(make, tmp_path, monkeypatch):
    scripts, kept = tmp_path / "examples", tmp_path / "gallery"
    scripts.mkdir()
    kept.mkdir()
    monkeypatch.setattr(make, "EXAMPLES", scripts)
    monkeypatch.setattr(make, "HERE", kept)
    (scripts / "demo.py").write_text(
        '"""Say four.\n\nIn words.\n"""\nprint("four  ")\nopen("demo.png", "w").write("4")\n'
    )
    results = {"demo": make.run("demo")}
    assert (kept / "demo.png").read_text() == "4"
    written = make.page(results)
    assert "## Say four\n\nIn words.\n\n![Say four](gallery/demo.png)" in written
    assert "```text\nfour\n```" in written
