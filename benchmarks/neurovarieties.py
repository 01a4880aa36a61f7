"""Exact ranks of Jacobians of polynomial networks, beside other ways to take them.

All contenders take the rank of the same matrix modulo 2^31 - 1, which is not part of their times.
`whole` is neurovariety_dimension: two primes, the matrices included. `plain` eliminates column by
column in numpy's whole numbers.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from summaries import summary
from surroundings import surroundings
from threadpoolctl import threadpool_limits

from geomprobe.algebraic import neurovariety_dimension
from geomprobe.algebraic.neurovariety import _jacobian
from geomprobe.algebraic.prime_field import PRIMES, PrimeField

Array = np.ndarray[Any, Any]
HERE = Path(__file__).resolve().parent
THREADS = 1
#: Networks with squares as activation, of about 300, 800 and 3,000 weights.
NETWORKS = ((10, 10, 10, 10), (20, 20, 20, 1), (16, 16, 16, 16, 3), (32, 32, 32, 32))
SLOWEST = 1000  # weights for which the plain elimination is timed


def matrix(widths: tuple[int, ...]) -> Array:
    """Return the Jacobian at enough random points, modulo the first prime."""
    field, rng = PrimeField(PRIMES[0]), np.random.default_rng(0)
    weights = [field.draw(rng, b, a) for a, b in pairwise(widths)]
    n_parameters = sum(weight.size for weight in weights)
    points = field.draw(rng, n_parameters // widths[-1] + 1, widths[0])
    return _jacobian(field, weights, 2, points, False)


def geomprobe(values: Array) -> int:
    """Eliminate by products in double precision."""
    return len(PrimeField(PRIMES[0]).pivots(values))


def plain(values: Array) -> int:
    """Eliminate column by column in numpy's whole numbers."""
    prime = PRIMES[0]
    left, rank = values.astype(np.int64) % prime, 0
    for column in range(left.shape[1]):
        pivots = np.flatnonzero(left[rank:, column])
        if not len(pivots):
            continue
        pivot = rank + pivots[0]
        left[[rank, pivot]] = left[[pivot, rank]]
        row = left[rank] * pow(int(left[rank, column]), -1, prime) % prime
        factors = left[rank + 1 :, column, None].copy()
        left[rank + 1 :] = (left[rank + 1 :] - factors * row % prime) % prime
        rank += 1
        if rank == len(left):
            break
    return rank


def flint(values: Array) -> Callable[[], int]:
    """Hand the matrix over, and return what takes its rank."""
    from flint import nmod_mat

    whole = (values.astype(np.int64) % PRIMES[0]).ravel().tolist()
    handed = nmod_mat(*values.shape, whole, PRIMES[0])
    return lambda: int(handed.rank())


def main() -> None:
    """Measure, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest network, one round")
    parser.add_argument("--output", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else 5
    cases: dict[str, Any] = {}
    with threadpool_limits(THREADS):
        for widths in NETWORKS[: 1 if arguments.quick else None]:
            cases[str(widths)] = case = measured(widths, rounds)
            print(widths, f"{case['weights']} weights, rank {case['rank']}")
            for name, seconds in case["seconds"].items():
                ratio = seconds["median"] / case["seconds"]["geomprobe"]["median"]
                print(f"  {name:12} {seconds['median']:9.4f} s   {ratio:7.2f} times geomprobe's")
    result = {
        "quick": arguments.quick,
        **surroundings(("python-flint", "numba"), THREADS),
        "cases": cases,
    }
    output = arguments.output
    if output is None and not arguments.quick:
        output = HERE / "results" / "neurovarieties.json"
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measured(widths: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Let all contenders take the rank in turns; they must agree."""
    values = matrix(widths)
    contenders: dict[str, Callable[[], int]] = {
        "geomprobe": lambda: geomprobe(values),
        "whole": lambda: neurovariety_dimension(widths, 2).dimension,
    }
    try:
        contenders["flint"] = flint(values)
    except ImportError:
        print("python-flint is not installed, and left out")
    if len(values) <= SLOWEST:
        contenders["plain"] = lambda: plain(values)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    ranks = {}
    for number in range(-1, rounds):
        for name, contender in contenders.items():
            started = time.perf_counter()
            ranks[name] = contender()
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
    assert len(set(ranks.values())) == 1, ranks
    return {
        "weights": len(values),
        "rank": ranks["geomprobe"],
        "seconds": {name: summary(taken) for name, taken in seconds.items()},
    }


if __name__ == "__main__":
    main()
