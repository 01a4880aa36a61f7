"""Exact linear regions beside other packages: in boxes, in whole spaces, and along a segment.

All contenders are given one network, with He weights and biases from N(0, 0.25) in single
precision, and return how many regions they find. edge_subdivision is the code of Berzins (2023),
which no index has: it takes part where its folder is in PYTHONPATH.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

Array = np.ndarray[Any, Any]
THREADS = 1
GRID = 10_000
PACKAGES = ("regioncam", "affinitree", "numba")


@dataclass(frozen=True)
class Case:
    """Widths of a network, where it is looked at, and who can."""

    widths: tuple[int, ...]
    domain: str
    contenders: tuple[str, ...]

    @property
    def name(self) -> str:
        """Widths and domain."""
        return f"{'-'.join(map(str, self.widths))} {self.domain}"


def box(*widths: int) -> Case:
    """All regions in [-1, 1]^d; regioncam takes planes only."""
    plane = ("regioncam",) if widths[0] == 2 else ()
    return Case(widths, "box", ("geomprobe", *plane, "edge_subdivision"))


def whole(*widths: int) -> Case:
    """All regions in R^d."""
    return Case(widths, "whole", ("geomprobe", "affinitree"))


def segment(*widths: int) -> Case:
    """All pieces between two points drawn from N(0, 1)."""
    return Case(widths, "segment", ("geomprobe", "regioncam", "grid"))


CASES = (
    box(2, 64, 64, 1),
    box(2, 256, 256, 256, 1),
    box(3, 64, 64, 1),
    whole(4, 12, 12, 1),
    whole(6, 8, 8, 8, 1),
    segment(784, 512, 512, 512, 10),
)
QUICK = (box(2, 8, 8, 1), whole(3, 6, 6, 1), segment(20, 16, 16, 3))


def domain(case: Case) -> Array:
    """Return both corners of the box, or both ends of the segment, (2, d)."""
    d = case.widths[0]
    if case.domain == "segment":
        return np.random.default_rng(0).normal(size=(2, d)).astype(np.float32)
    side = np.ones(d) if case.domain == "box" else np.full(d, np.inf)
    return np.stack([-side, side])


def network(points: Array, widths: list[int]) -> nn.Sequential:
    """Return the network, which is made at the first call, not timed.

    That is with one point only, to warm up, and gets one of four units a layer.
    """
    whole, small = _drawn(*widths), _drawn(widths[0], *[4] * (len(widths) - 2), widths[-1])
    return whole if len(points) > 1 else small


@cache
def _drawn(*widths: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layer = nn.Linear(fan_in, fan_out)
        with torch.no_grad():
            for part, scale in ((layer.weight, (2 / fan_in) ** 0.5), (layer.bias, 0.5)):
                normal = torch.randn(part.shape, generator=generator, dtype=torch.float64)
                part.copy_(scale * normal)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def geomprobe(points: Array, widths: list[int], domain: str) -> dict[str, Array]:
    """Count by region_complex or linear_pieces, slopes and certificates included."""
    from geomprobe.tropical import linear_pieces, region_complex

    model = network(points, widths)
    if domain == "segment":
        pieces = linear_pieces(model, *_ends(points))
        assert pieces.certified
        return {"regions": np.array(pieces.activation_pieces)}
    side = points[-1] if len(points) > 1 else np.abs(points[0])
    found = region_complex(model, (-side, side))
    assert found.certified, found.failures
    return {
        "regions": np.array(found.activation_regions),
        "vertices": np.array(found.f_vector[0]),
    }


def regioncam(points: Array, widths: list[int], domain: str) -> dict[str, Array]:
    """Count by regioncam, in single precision, in a plane or along a line."""
    import regioncam as package

    if domain == "segment":
        # Of size 2 the line reaches from one point to the other.
        ends = torch.stack(_ends(points)).numpy()
        camera = package.Regioncam1D.through_points(ends, size=2.0)
    else:
        camera = package.Regioncam(size=1)
    for layer in network(points, widths):
        if isinstance(layer, nn.Linear):
            weight, bias = (part.detach().numpy() for part in layer.parameters())
            camera.add(package.nn.Linear(np.ascontiguousarray(weight.T), bias))
        else:
            camera.add(package.nn.ReLU())
    return {"regions": np.array(camera.num_edges if domain == "segment" else camera.num_faces)}


def affinitree(points: Array, widths: list[int], domain: str) -> dict[str, Array]:
    """Count the leaves of affinitree's decision tree."""
    import affinitree as package

    layers = package.extract_pytorch_architecture(widths[0], network(points, widths))
    return {"regions": np.array(package.builder.from_layers(layers).num_terminals())}


def edge_subdivision(points: Array, widths: list[int], domain: str) -> dict[str, Array]:
    """Count the vertices by the code of Berzins (2023); it names no regions."""
    from edge_subdivision import skeletal_subdivision
    from NN import Net

    linear = [layer for layer in network(points, widths) if isinstance(layer, nn.Linear)]
    net = Net([linear[0].in_features, *(layer.out_features for layer in linear)])
    net.fcs = nn.ModuleList(linear)
    net.ls = net.ls[:-1]  # Its own also cuts along the zeros of the output.
    with torch.no_grad():
        vertices, *_ = skeletal_subdivision(net, device="cpu", verbose=False)
    return {"vertices": np.array(len(vertices))}


def grid(points: Array, widths: list[int], domain: str) -> dict[str, Array]:
    """Count the changes of the activation pattern between the points of a grid."""
    start, end = _ends(points)
    hidden = torch.lerp(start, end, torch.linspace(0, 1, GRID)[:, None])
    changes = torch.zeros(GRID - 1, dtype=torch.bool)
    with torch.no_grad():
        for layer in network(points, widths):
            hidden = layer(hidden)
            if isinstance(layer, nn.ReLU):
                active = hidden > 0
                changes |= (active[1:] != active[:-1]).any(1)
    return {"regions": np.array(1 + int(changes.sum()))}


for _contender in (geomprobe, regioncam, affinitree, edge_subdivision, grid):
    _contender.warm_up = 1  # type: ignore[attr-defined]


def _ends(points: Array) -> tuple[torch.Tensor, torch.Tensor]:
    start = torch.from_numpy(points[0])
    return start, torch.from_numpy(points[1]) if len(points) > 1 else start + 1


def difference(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """Return how many more regions they find, or vertices if they name no regions."""
    what = "regions" if "regions" in theirs else "vertices"
    return float(theirs[what] - ours[what])


def main() -> None:
    """Measure, print tables, and write the figures as JSON."""
    from benchmark import Benchmark
    from peers import show

    bench = Benchmark("tropical", __doc__, PACKAGES, THREADS)
    known = {case.name: case for case in (QUICK if bench.quick else CASES)}
    for title, case in bench.chosen(known).items():
        options = {"widths": case.widths, "domain": case.domain}
        contenders = bench.beside(case.contenders)
        runs, rows = bench.compare(title, domain(case), contenders, difference, options, cap=120)
        for name, one in runs.items():
            rows[name] |= {what: int(count) for what, count in one.answer.items()}
        show(f"{title}: {rows['geomprobe'].get('regions', 'no count of')} regions", rows)
    bench.write()


if __name__ == "__main__":
    main()
