"""Fill the tables of paper.md from the committed results of benchmarks and reproductions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAPER = HERE / "paper.md"
BENCHMARKS = HERE.parents[1] / "benchmarks" / "results"
REPRODUCTIONS = HERE.parent / "reproductions"

#: What is measured beside, and is no other program: arithmetic that the task takes, and a grid.
FLOORS = {"lower_blocks", "all_blocks", "one_call", "arithmetic", "grid"}
#: Which results are shown, and what was measured there.
TASKS = {
    "homology": "persistent homology",
    "mst": "spanning tree",
    "ph_dimension": "PH dimension",
    "fisher": "Fisher information",
    "tropical": "linear regions",
}
#: Largest relative difference of answers that are called the same.
SAME = 1e-2


def times() -> str:
    """Return how long other programs take, over geomprobe's time: medians, case by case."""
    rows = ["| | case | geomprobe, s | others, times as long |", "|:--|:--|--:|:--|"]
    for name, task in TASKS.items():
        for case, contenders in _read(BENCHMARKS / f"{name}.json")["cases"].items():
            seconds = contenders["geomprobe"]["seconds"]["median"]
            others = ", ".join(_others(contenders)) or "none finished"
            rows.append(f"| {task} | {case} | {_rounded(seconds)} | {others} |")
    return "\n".join(rows)


def _others(contenders: dict[str, Any]) -> Iterator[str]:
    for name, measured in contenders.items():
        if name in FLOORS | {"geomprobe"} or "failed" in measured:
            continue
        mark = "*" if measured.get("difference", 0.0) > SAME else ""
        ratio = measured["ratio_to_geomprobe"]["median"]
        yield f"{name.replace('_', '-')}{mark} {_rounded(ratio)}"


def _rounded(number: float) -> str:
    return f"{number:.2g}" if number < 100 else f"{number:.0f}"


def capture() -> str:
    """Return what observing eight layers costs, over a plain forward pass."""
    columns = ["geomprobe, filling", "geomprobe, far on", "captum", "nnsight"]
    rows = [f"| model | {' | '.join(columns)} | TorchLens |", "|:--|" + "--:|" * 5]
    for case, found in _read(BENCHMARKS / "capture.json")["cases"].items():
        ratios = [found["ratio_to_plain"][name] for name in columns]
        ratios.append(found["torchlens"]["ratio_to_plain"]["TorchLens"])
        cells = " | ".join(f"{ratio['median']:.2f}" for ratio in ratios)
        rows.append(f"| {case} | {cells} |")
    return "\n".join(rows)


def reproductions() -> str:
    """Return the verdicts on published findings."""
    rows = ["| finding | verdict |", "|:--|:--|"]
    for path in sorted(REPRODUCTIONS.glob("*.json")):
        title = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()[0]
        rows.append(f"| {title.removeprefix('# ')} | {_read(path)['verdict']} |")
    return "\n".join(rows)


def filled(text: str) -> str:
    """Return a text with what stands between the marks of each table made anew."""
    for table in (times, capture, reproductions):
        start, end = f"<!-- {table.__name__} -->", f"<!-- end of {table.__name__} -->"
        found = re.compile(f"{start}.*?{end}", re.DOTALL)
        if len(found.findall(text)) != 1:
            raise ValueError(f"the text must have {start} ... {end} once")
        made = f"{start}\n\n{table()}\n\n{end}"
        text = found.sub(lambda _, made=made: made, text)
    return text


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    PAPER.write_text(filled(PAPER.read_text(encoding="utf-8")), encoding="utf-8")
