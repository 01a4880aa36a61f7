"""Fisher informations beside other packages, and beside the least arithmetic that they take."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
HERE = Path(__file__).resolve().parent
THREADS = 2
PACKAGES = (
    "nngeometry",
    "curvlinops-for-pytorch",
    "backpack-for-pytorch",
    "asdfghjkl",
    "hessian-eigenthings",
)
FLOOR = "arithmetic"
PRODUCTS = ("hessian_eigenthings", "curvlinops")


@dataclass(frozen=True)
class Case:
    """What is asked of which model, of how many inputs, and of whom beside geomprobe."""

    model: str
    task: str
    n: int
    peers: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


GRAMS = ("torch_func", "nngeometry", "backpack")
TRACES = ("torch_func", "nngeometry", "backpack", "asdl", *PRODUCTS)
CASES = {
    "spectrum, perceptron": Case("perceptron", "spectrum", 256, GRAMS),
    "Gram, perceptron": Case("perceptron", "gram", 256, (*GRAMS, FLOOR)),
    "Gram, convolutional": Case("convolutional", "gram", 256, (*GRAMS, FLOOR)),
    "Gram, transformer": Case("transformer", "gram", 64, (*GRAMS, FLOOR)),
    "Gram, transformer, 128 inputs": Case("transformer", "gram", 128, ("torch_func", FLOOR)),
    "top 20, perceptron": Case("perceptron", "top", 256, PRODUCTS),
    "top 20, convolutional": Case("convolutional", "top", 256, PRODUCTS),
    "top 20, transformer": Case("transformer", "top", 64, PRODUCTS),
    "trace, perceptron": Case("perceptron", "trace", 256, (*TRACES, FLOOR)),
    "trace, convolutional": Case("convolutional", "trace", 256, (*TRACES, FLOOR)),
    "trace, transformer": Case("transformer", "trace", 64, (*TRACES, FLOOR)),
    "spectrum, 101 million parameters": Case(
        "large", "spectrum", 32, options={"kind": "mc", "draws": 4}
    ),
}
QUICK = {
    "Gram, transformer": Case("small", "gram", 8, ("torch_func", "nngeometry", FLOOR)),
    "top 20, transformer": Case("small", "top", 8, PRODUCTS),
    "trace, transformer": Case("small", "trace", 8, ("torch_func", "asdl")),
}


def difference(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """Return the largest difference, over the largest number.

    Rows of one sample are told apart up to a rotation: of a Gram matrix, the norms of the blocks of
    each pair of samples are compared. Of two spectra, the shorter ends.
    """
    (name, one), (_, other) = *ours.items(), *theirs.items()
    if name == "gram":
        n = int(np.gcd(len(one), len(other)))
        one, other = (_blocks(gram, n) for gram in (one, other))
    if name == "eigenvalues":
        shorter = min(len(one), len(other))
        one, other = one[:shorter], other[:shorter]
    return float(np.abs(one - other).max() / np.abs(one).max())


def _blocks(gram: Array, n: int) -> Array:
    k = len(gram) // n
    return np.sqrt(np.square(gram.reshape(n, k, n, k), dtype=float).sum(axis=(1, 3)))


def measured(title: str, case: Case, rounds: int, cap: float, threads: int) -> dict[str, Any]:
    """Run one case, print its figures, and return them."""
    from fisher_contenders import inputs_of
    from peers import Runs, in_turns, show, table

    there = [one for one in case.peers if one in (FLOOR, "torch_func") or find_spec(one)]
    runs = in_turns(
        "fisher_contenders",
        ("geomprobe", *there),
        inputs_of(case.model, case.n),
        {"model": case.model, "task": case.task, **case.options},
        rounds=rounds,
        cap=cap,
        threads=threads,
    )
    runs |= {one: Runs(failed="not installed") for one in case.peers if one not in there}
    ours = runs["geomprobe"].answer
    rows = table(runs, "geomprobe", lambda answer: difference(ours, answer))
    show(f"{title}, {case.n} inputs", rows)
    if case.model == "large":
        rows["geomprobe"]["eigenvalues"] = len(ours["eigenvalues"])
    return rows


def kept(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return the result with those cases of the file that were not measured now."""
    if not path.exists():
        return result
    before = json.loads(path.read_text(encoding="utf-8"))["cases"]
    cases = {title: {**before, **result["cases"]}.get(title) for title in CASES}
    return {**result, "cases": {title: rows for title, rows in cases.items() if rows}}


def write(result: dict[str, Any], output: Path | None, quick: bool) -> None:
    """Write what has been measured so far."""
    if output is None and not quick:
        output = HERE / "results" / "fisher.json"
        result = kept(output, result)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print tables, and write the figures as JSON."""
    from surroundings import surroundings

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small models, one round: seconds")
    parser.add_argument("--cases", nargs="*", default=[""], help="those with this in their names")
    parser.add_argument("--rounds", type=int, help="5, or 1 if quick")
    parser.add_argument("--cap", type=float, default=240, help="seconds, after which one is left")
    parser.add_argument("--output", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    started, threads = time.perf_counter(), 1 if arguments.quick else THREADS
    result: dict[str, Any] = {"quick": arguments.quick, **surroundings(PACKAGES, threads)}
    result["cases"] = {}
    for title, case in (QUICK if arguments.quick else CASES).items():
        if any(part in title for part in arguments.cases):
            rounds = arguments.rounds or (1 if arguments.quick else 5)
            result["cases"][title] = measured(title, case, rounds, arguments.cap, threads)
            result["machine"]["load_at_end"] = os.getloadavg()[0]
            result["seconds"] = time.perf_counter() - started
            write(result, arguments.output, arguments.quick)


if __name__ == "__main__":
    main()
