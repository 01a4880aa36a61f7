"""The loss of a residual network over a plane beside other packages, in the same directions.

All contenders take the cross-entropy of 512 images at the same parameters, in single precision and
evaluation mode: the corner of a grid over two random directions normalised by filter. Time is
proportional to the points of the grid, so that a part of it tells the ratio; the case of 51 x 51
points takes an hour and more, and is measured if named. pylandscape pins a version of torch, and
takes part where it is installed without its dependencies: 0.0.18, since the surfaces of 0.1.1 to
0.1.3 are flat, for they move the directions in place of the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

Array = np.ndarray[Any, Any]
THREADS = 2
PACKAGES = ("loss-landscapes", "pylandscape", "pyhessian")
CONTENDERS = ("geomprobe", "loss_landscapes", "pylandscape", "plain")


@dataclass(frozen=True)
class Case:
    """A network by its width and depth, images, and points along each direction."""

    width: int
    depth: int
    images: int
    points: int

    @property
    def name(self) -> str:
        """Points and images."""
        return f"{self.points} x {self.points} points, {self.images} images, width {self.width}"


CASES = (Case(16, 3, 512, 6),)
WHOLE = (Case(16, 3, 512, 51),)
QUICK = (Case(4, 1, 32, 3),)


def images(n: int) -> Array:
    """Return images of noise."""
    return np.random.default_rng(0).normal(size=(n, 3, 32, 32)).astype(np.float32)


@cache
def setting(width: int, depth: int) -> tuple[nn.Module, torch.Tensor]:
    """Return the network, with running statistics of noise, and two directions as columns."""
    from models import ResNet20

    from geomprobe.landscape import random_directions

    torch.manual_seed(0)
    model = ResNet20(width=width, depth=depth)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # The mean over what it has seen.
    with torch.no_grad():
        model(torch.from_numpy(images(128)))
    return model.eval(), random_directions(model)


def labels(n: int) -> torch.Tensor:
    """Return ten classes in turn."""
    return torch.arange(n) % 10


def steps(points: int) -> Array:
    """Return the steps along a direction: up to one half, without the centre."""
    return np.arange(1, points + 1) / (2 * points)


def geomprobe(points: Array, *, width: int, depth: int, points_a_side: int) -> dict[str, Array]:
    """By loss_slice, standard errors included."""
    from geomprobe import Samples
    from geomprobe.landscape import loss_slice

    model, directions = setting(width, depth)
    along = steps(points_a_side)
    extent = [(along[0], along[-1])] * 2
    data = Samples(torch.from_numpy(points), labels(len(points)))
    found = loss_slice(model, data, cross_entropy, directions, extent=extent, points=points_a_side)
    return {"losses": found.values}


def plain(points: Array, *, width: int, depth: int, points_a_side: int) -> dict[str, Array]:
    """One pass of all images a point, without gradients: what a loop of one's own does."""
    model, directions = setting(width, depth)
    x, y, along = torch.from_numpy(points), labels(len(points)), steps(points_a_side)
    start = nn.utils.parameters_to_vector(model.parameters()).detach()
    losses = np.empty((points_a_side, points_a_side))
    with torch.no_grad():
        for i, j in np.ndindex(losses.shape):
            here = start + float(along[i]) * directions[:, 0] + float(along[j]) * directions[:, 1]
            nn.utils.vector_to_parameters(here, model.parameters())
            losses[i, j] = cross_entropy(model(x), y)
        nn.utils.vector_to_parameters(start, model.parameters())
    return {"losses": losses}


def loss_landscapes(
    points: Array, *, width: int, depth: int, points_a_side: int
) -> dict[str, Array]:
    """By planar_interpolation, which takes the directions as two other models.

    It evaluates rows from 0 on; rows with an odd number are a column behind the others.
    """
    import copy

    import loss_landscapes as package
    import loss_landscapes.metrics as metrics

    model, directions = setting(width, depth)
    start = nn.utils.parameters_to_vector(model.parameters()).detach()
    ends = []
    for direction in directions.T:
        end = copy.deepcopy(model)
        nn.utils.vector_to_parameters(start + direction / 2, end.parameters())
        ends.append(end)
    metric = metrics.Loss(cross_entropy, torch.from_numpy(points), labels(len(points)))
    losses = package.planar_interpolation(
        model, *ends, metric, steps=points_a_side, deepcopy_model=True
    )
    return {"losses_from_zero": np.asarray(losses, dtype=float)}


def pylandscape(points: Array, *, width: int, depth: int, points_a_side: int) -> dict[str, Array]:
    """By the loop of its surfaces, given the directions."""
    from pylandscape import Surface
    from torch.utils.data import DataLoader, TensorDataset

    model, directions = setting(width, depth)
    batch = TensorDataset(torch.from_numpy(points), labels(len(points)))
    surface = Surface(model, nn.CrossEntropyLoss(), DataLoader(batch, batch_size=len(points)))
    sizes = [parameter.numel() for parameter in model.parameters()]
    given = [
        [part.view_as(own) for part, own in zip(one.split(sizes), model.parameters(), strict=True)]
        for one in directions.T.contiguous()
    ]
    losses = surface._compute_hyperplane(given, steps(points_a_side).astype(np.float32))
    return {"losses": np.asarray(losses, dtype=float)}


for _contender in (geomprobe, plain, loss_landscapes, pylandscape):
    _contender.warm_up = 4  # type: ignore[attr-defined]


def difference(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """Return the largest difference of losses at the same parameters, over the loss."""
    own = ours["losses"]
    if "losses" in theirs:
        pairs = [(own, theirs["losses"])]
    else:
        other = theirs["losses_from_zero"][1:]
        even, odd = slice(1, None, 2), slice(0, None, 2)  # By the numbers that rows had.
        pairs = [(own[:-1][even], other[even]), (own[:-1][odd, :-1], other[odd, 1:])]
    return float(max(np.abs(b / a - 1).max() for a, b in pairs))


def main() -> None:
    """Measure, print tables, and write the figures as JSON."""
    from benchmark import Benchmark
    from peers import show

    bench = Benchmark("surfaces", __doc__, PACKAGES, THREADS)
    cases = QUICK if bench.quick else CASES if bench.asked.cases == [""] else (*CASES, *WHOLE)
    contenders = bench.beside(CONTENDERS)
    for title, case in bench.chosen({case.name: case for case in cases}).items():
        options = {"width": case.width, "depth": case.depth, "points_a_side": case.points}
        points, cap = images(case.images), 3 * case.points**2
        _, rows = bench.compare(title, points, contenders, difference, options, cap=cap)
        show(title, rows)
    bench.write()


if __name__ == "__main__":
    main()
