"""The landscape of the loss beside other packages: alignment of trained networks.

Networks are handed over as rows of parameters, so that no time goes into training them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

Array = np.ndarray[Any, Any]
THREADS = 1
PACKAGES = ("rebasin", "torchview")
SEEDS = (0, 1)


@dataclass(frozen=True)
class Case:
    """What is measured.

    Parameters
    ----------
    name : str
    contenders : tuple of str
        Functions of this module.
    points : callable
        Returns what each of them is given.
    options : dict
        What else.
    measure : callable
        From a contender's answer to a number, of which the difference to geomprobe's is shown.
    """

    name: str
    contenders: tuple[str, ...]
    points: Callable[[], Array]
    options: Mapping[str, Any] = field(default_factory=dict)
    measure: Callable[[Mapping[str, Array]], float] = lambda answer: 0.0


def alignment(*widths: int) -> Case:
    """Two perceptrons trained on digits from two seeds; barriers after alignment are compared."""
    return Case(
        f"align {'-'.join(map(str, widths))}",
        ("geomprobe", "geomprobe_to_the_end", "rebasin", "unaligned"),
        lambda: trained(widths),
        {"widths": widths},
        lambda answer: barrier(widths, answer["aligned"]),
    )


CASES = (alignment(64, 512, 512, 10), alignment(64, 512, 512, 512, 512, 10))
QUICK = (alignment(64, 32, 32, 10),)


def perceptron(widths: tuple[int, ...], row: Array | None = None) -> nn.Sequential:
    """Return a network, with parameters of a row."""
    layers: list[nn.Module] = []
    for below, above in pairwise(widths):
        layers += [nn.Linear(below, above), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    if row is not None:
        nn.utils.vector_to_parameters(torch.from_numpy(np.array(row)), model.parameters())
    return model


@cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images and classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.data / 16, dtype=torch.float32), torch.tensor(found.target)


@cache
def trained(widths: tuple[int, ...]) -> Array:
    """Return the parameters of networks trained from each seed, (2, p)."""
    x, y = digits()
    rows = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = perceptron(widths)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(10):
            for some in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[some]), y[some]).backward()
                optimizer.step()
        rows.append(nn.utils.parameters_to_vector(model.parameters()).detach().numpy())
    return np.stack(rows)


def barrier(widths: tuple[int, ...], aligned: Array) -> float:
    """Return the barrier between the first network and the aligned second."""
    from geomprobe.evidence import Samples
    from geomprobe.landscape import linear_barrier

    first, second = perceptron(widths, trained(widths)[0]), perceptron(widths, aligned)
    data = Samples(*digits())
    return linear_barrier(first, second, data, nn.functional.cross_entropy, points=11).barrier.value


def pair(points: Array, widths: list[int]) -> tuple[list[int], nn.Sequential, nn.Sequential]:
    """Return both networks; narrow ones where there is one row only, to warm up."""
    if len(points) > 1:
        return widths, *(perceptron(tuple(widths), row) for row in points)
    narrow = [widths[0], *[8] * (len(widths) - 2), widths[-1]]
    return narrow, perceptron(tuple(narrow)), perceptron(tuple(narrow))


def flat(model: nn.Module) -> dict[str, Array]:
    """Return parameters as one row."""
    return {"aligned": torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()}


def geomprobe(points: Array, widths: list[int], **options: float) -> dict[str, Array]:
    """Align by weight matching, and verify that the function is the same."""
    from geomprobe.evidence import Samples
    from geomprobe.landscape import align

    widths, first, second = pair(points, widths)
    data = Samples(torch.ones(2, widths[0]))
    return flat(align(first, second, data, **options).model)


def geomprobe_to_the_end(points: Array, widths: list[int]) -> dict[str, Array]:
    """Align until no set of units gains anything."""
    return geomprobe(points, widths, tolerance=0.0)


def rebasin(points: Array, widths: list[int]) -> dict[str, Array]:
    """Align by rebasin's coordinate descent."""
    from rebasin import PermutationCoordinateDescent

    widths, first, second = pair(points, widths)
    PermutationCoordinateDescent(first, second, torch.ones(2, widths[0])).rebasin()
    return flat(second)


def unaligned(points: Array, widths: list[int]) -> dict[str, Array]:
    """Leave the second network as it is: the floor."""
    return flat(pair(points, widths)[2])


for _contender in (geomprobe, geomprobe_to_the_end, rebasin, unaligned):
    _contender.warm_up = 1  # type: ignore[attr-defined]


def main() -> None:
    """Measure, print tables, and write the figures as JSON."""
    from benchmark import Benchmark
    from peers import show

    bench = Benchmark("landscape", __doc__, PACKAGES, THREADS)
    known = {case.name: case for case in (QUICK if bench.quick else CASES)}
    for title, case in bench.chosen(known).items():
        runs, rows = bench.compare(
            title,
            case.points(),
            bench.beside(case.contenders),
            lambda ours, theirs, case=case: case.measure(theirs) - case.measure(ours),
            case.options,
            cap=120,
        )
        for name, one in runs.items():
            if one.answer:
                rows[name]["measure"] = case.measure(one.answer)
        show(f"{title}: {rows['geomprobe'].get('measure', math.nan):.4g}", rows)
    bench.write()


if __name__ == "__main__":
    main()
