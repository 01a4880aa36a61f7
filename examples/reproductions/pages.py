"""Write the page of each reproduction, and the table of all, from scripts and their results."""

from __future__ import annotations

import argparse
import ast
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHARED = {"pages", "reproduction"}

INDEX = """# Reproductions

Published findings looked for again with the public functions of geomprobe, on data that is at
hand offline, by one command each. What counts as found again is a rule that stands in the script:
bounds on numbers. *Found again* means that the whole 95 % interval of every number lies within its
bounds, *not found* that that of one lies outside, *inconclusive* neither. `make reproductions` runs
all of them.

| finding | verdict | numbers within their bounds | seconds |
|---|---|---|---|
{rows}

```{{toctree}}
:hidden:

{pages}
```
"""

PAGE = """# {title}

{text}

![{title}]({name}.png)

**{verdict}**, in {seconds} s on two cores, by `python examples/reproductions/{name}.py`:

| number | value | 95 % interval | wanted | |
|---|---|---|---|---|
{rows}
"""


def names() -> list[str]:
    """Return the scripts, by name."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in SHARED)


def page(name: str, result: dict[str, Any]) -> str:
    """Return the page of one reproduction: what its script says, and what came out."""
    title, text = description(name)
    rows = "\n".join(
        f"| {check['what']} | {check['value']:.4g} | {_interval(check['interval'])} | "
        f"{_wanted(check)} | {check['verdict']} |"
        for check in result["checks"]
    )
    sentence = result["verdict"].capitalize()
    return PAGE.format(
        title=title, text=text, name=name, verdict=sentence, seconds=result["seconds"], rows=rows
    )


def description(name: str) -> tuple[str, str]:
    """Return the title and the text in the first lines of a script."""
    tree = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
    title, _, text = (ast.get_docstring(tree) or "").partition("\n")
    return title.rstrip("."), text.strip()


def index(results: dict[str, dict[str, Any]]) -> str:
    """Return the table of all verdicts."""
    rows = []
    for name, result in results.items():
        held = [check["verdict"] == "found again" for check in result["checks"]]
        rows.append(
            f"| [{description(name)[0]}](reproductions/{name}.md) | {result['verdict']} | "
            f"{sum(held)} of {len(held)} | {result['seconds']} |"
        )
    pages = "\n".join(f"reproductions/{name}" for name in results)
    return INDEX.format(rows="\n".join(rows), pages=pages)


def write(folder: Path) -> None:
    """Write all pages into a folder, and the table beside it, from the JSON files in it."""
    results = {
        name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names()
    }
    for name, result in results.items():
        (folder / f"{name}.md").write_text(page(name, result), encoding="utf-8")
    (folder.parent / "reproductions.md").write_text(index(results), encoding="utf-8")


def _interval(ends: list[float]) -> str:
    return "exact" if ends[0] == ends[1] else f"{ends[0]:.4g} to {ends[1]:.4g}"


def _wanted(check: dict[str, Any]) -> str:
    low, high = check["at_least"], check["at_most"]
    if low is not None and low == high:
        return f"{low:g}"
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with the JSON files and figures")
    write(parser.parse_args().folder)
