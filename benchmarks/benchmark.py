"""One run of a benchmark: what the command line asks for, and the figures as far as they are."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peers import Runs, in_turns, table
from surroundings import surroundings

Array = np.ndarray[Any, Any]
HERE = Path(__file__).resolve().parent


class Benchmark:
    """Measure cases and keep their figures.

    Parameters
    ----------
    module : str
        The benchmark's own, which holds the contenders and names the committed file.
    description : str
        For its help.
    packages : iterable of str
        Whose versions are told.
    threads : int
    """

    def __init__(
        self, module: str, description: str | None, packages: Iterable[str], threads: int
    ) -> None:
        self.module, self.threads = module, threads
        self.asked = _arguments(description)
        self.quick: bool = self.asked.quick
        self.started = time.perf_counter()
        self.result: dict[str, Any] = {"quick": self.quick, **surroundings(packages, threads)}
        self.result["cases"] = self._former_cases()

    def chosen(self, cases: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cases asked for."""
        parts = self.asked.cases
        found = [title for title in cases if any(part in title for part in parts)]
        if not found:
            raise SystemExit(f"no case has one of {parts} in its name: {list(cases)}")
        return {title: cases[title] for title in found}

    def beside(self, contenders: Sequence[str]) -> tuple[str, ...]:
        """Return geomprobe and the peers asked for, all by default."""
        peers = self.asked.peers
        return tuple(one for one in contenders if peers is None or one in ("geomprobe", *peers))

    def compare(
        self,
        title: str,
        points: Array,
        contenders: Sequence[str],
        difference: Callable[[Mapping[str, Array], Mapping[str, Array]], float],
        options: Mapping[str, Any] | None = None,
        *,
        cap: float,
    ) -> tuple[dict[str, Runs], dict[str, Any]]:
        """Run a case in turns; return what came of it, and its figures, which are also kept.

        ``difference`` is between geomprobe's answer and another's.
        """
        runs = in_turns(
            self.module,
            contenders,
            points,
            options or {},
            rounds=self.asked.rounds,
            cap=cap,
            threads=self.threads,
        )
        ours = runs["geomprobe"].answer
        rows = table(runs, "geomprobe", lambda answer: difference(ours, answer))
        self.result["cases"][title] = rows
        return runs, rows

    def _former_cases(self) -> dict[str, Any]:
        """Return the figures of a file of which some cases are to be renewed."""
        output = self.asked.output
        if self.asked.cases == [""] or output is None or not output.exists():
            return {}
        former = json.loads(output.read_text(encoding="utf-8"))
        for fact in ("quick", "versions", "machine"):
            then, now = _lasting(former.get(fact)), _lasting(self.result[fact])
            if then != now:
                raise SystemExit(
                    f"{output} is of {fact} {then}, not {now}: measure all of its cases, or give "
                    "another --output"
                )
        cases: dict[str, Any] = former["cases"]
        return cases

    def write(self) -> None:
        """Write figures where asked to, and those of all cases and peers in the committed file."""
        asked = self.asked
        self.result["seconds"] = time.perf_counter() - self.started
        self.result["machine"]["load_at_end"] = os.getloadavg()[0]
        output = asked.output
        if output is None and not asked.quick and asked.cases == [""] and asked.peers is None:
            output = HERE / "results" / f"{self.module}.json"
        if output is not None:
            output.write_text(json.dumps(self.result, indent=1) + "\n", encoding="utf-8")


def _lasting(fact: Any) -> Any:
    """Return what is the same in two runs on one machine."""
    if not isinstance(fact, dict):
        return fact
    return {name: value for name, value in fact.items() if not name.startswith("load_at")}


def _arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small data, two rounds: seconds")
    parser.add_argument(
        "--cases", nargs="+", default=[""], help="only those with one of these in their names"
    )
    parser.add_argument("--peers", nargs="+", help="only these beside geomprobe and the floors")
    parser.add_argument("--rounds", type=int, help="5, or 2 if quick")
    parser.add_argument(
        "--output", type=Path, help="where to write the figures, or to renew some cases of them"
    )
    asked = parser.parse_args()
    asked.rounds = asked.rounds or (2 if asked.quick else 5)
    return asked
