"""The documentation lists the traps, and each of them has one test."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "what_geomprobe_sees.md"


def test_every_trap_of_the_documentation_has_one_test():
    rows = re.findall(r"^\| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    tests = [
        name
        for file in sorted(HERE.glob("test_*.py"))
        for name in re.findall(
            r"^def test_trap_(\d+)_", file.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]
    assert [int(row) for row in rows] == list(range(1, 29))
    assert sorted(map(int, tests)) == list(range(1, 29))
