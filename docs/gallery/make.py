"""Run the examples, and write the gallery: pictures, times and what was printed.

Without arguments all of them, or those that are named; the others stay as they are.
"""

from __future__ import annotations

import argparse
import ast
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[1] / "examples"
RESULTS = HERE / "gallery.json"
PAGE = HERE.parent / "gallery.md"

TOP = """# Gallery

Each example is one script that runs offline, on real data or data that it makes. This page was
written by running them (`make gallery`): pictures, what is printed, and seconds of processor time
are those of that run.
"""

ENTRY = """
## {title}

{text}![{title}](gallery/{name}.png)

`python examples/{name}.py`, {seconds} s

<details><summary>What it prints</summary>

```text
{output}
```

</details>
<details><summary>The script</summary>

```{{literalinclude}} ../examples/{name}.py
:language: python
```

</details>
"""


def names() -> list[str]:
    """Return the examples, the demo first."""
    found = {path.stem for path in EXAMPLES.glob("*.py")}
    return ["demo", *sorted(found - {"demo"})]


def run(name: str) -> dict[str, object]:
    """Run an example in an empty folder, keep its picture, and return what is told of it."""
    with tempfile.TemporaryDirectory() as folder:
        before = _processor_seconds()
        command = [sys.executable, EXAMPLES / f"{name}.py"]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
        seconds = _processor_seconds() - before
        [picture] = Path(folder).rglob(f"{name}.png")
        shutil.copy(picture, HERE)
    lines = (line.rstrip() for line in done.stdout.strip().splitlines())
    return {"seconds": round(seconds), "output": "\n".join(lines)}


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def page(results: dict[str, dict[str, object]]) -> str:
    """Return the page: an entry an example, in the words of its own docstring."""
    entries = []
    for name in names():
        tree = ast.parse((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))
        title, _, text = (ast.get_docstring(tree) or "").partition("\n")
        text = f"{text.strip()}\n\n" if text else ""
        title = title.removesuffix(".")
        entries.append(ENTRY.format(title=title, text=text, name=name, **results[name]))
    return TOP + "".join(entries)


def main() -> None:
    """Run, keep, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(names()))
    chosen = parser.parse_args().names or names()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name in chosen:
        print(f"running {name}", flush=True)
        results[name] = run(name)
        kept = {name: results[name] for name in names() if name in results}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
