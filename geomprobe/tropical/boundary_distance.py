"""How far inputs are from the walls of their region, and from another decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Samples
from geomprobe.findings import Estimate
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array
from geomprobe.tropical.branches import Branches
from geomprobe.tropical.inputs import flattened, unflattened
from geomprobe.tropical.local_complexity import random_frames, require_neighbourhood
from geomprobe.tropical.recording import Recorded, record_on
from geomprobe.tropical.tape import Kink, Tape
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Of gradients below this share of the largest of a bend, rounding rules: nothing to reach there.
_ZERO = 1e-12


@dataclass(frozen=True, eq=False)
class BoundaryDistances(ByValue):
    """Distances of inputs from walls; made by :func:`boundary_distance`.

    Parameters
    ----------
    bends : tuple of str
        What bends, in the order of the pass, by the module it happens in.
    by_bend : float64 array of shape (n, bends)
        Distance of each input from the nearest hyperplane of each bend, of those that its units
        have on the region of the input.
    decision : float64 array of shape (n,)
        Distance from the nearest place where the affine map of the region has two equal largest
        outputs, or is zero if there is one output; that place may be outside the region.
    dimension : int
        Of inputs.
    directions : int
        Of the subspace that was looked at; all, if equal to ``dimension``.
    """

    bends: tuple[str, ...]
    by_bend: Array
    decision: Array
    dimension: int
    directions: int

    @property
    def distances(self) -> Array:
        """Distance from the boundary of the activation region; infinite where there is none."""
        nearest: Array = self.by_bend.min(axis=1)
        return nearest

    @property
    def nearest(self) -> Array:
        """Which of ``bends`` has the nearest wall, by number."""
        first: Array = self.by_bend.argmin(axis=1)
        return first

    @property
    def certified(self) -> Array:
        """Radius within which the decision is that at the input, in the directions looked at."""
        return np.minimum(self.distances, self.decision)

    @property
    def decided(self) -> Array:
        """Whether that radius is exact: the decision changes there, inside the region."""
        inside: Array = self.decision <= self.distances
        return inside

    def median(self, what: str = "distances") -> Estimate:
        """Return the median over inputs of ``"distances"``, ``"decision"`` or ``"certified"``.

        The last is undefined where not all directions were looked at.
        """
        values: Array = getattr(self, what)

        def middle(which: Array) -> float:
            return float(np.median(values[which]))

        n, method = len(values), "median over inputs; delete-half jackknife"
        note = ""
        if self.directions < self.dimension:
            note = f"in random subspaces of {self.directions} of {self.dimension} dimensions"
            if what == "certified":
                return Estimate.undefined(f"nothing is certified {note}", n=n, method=method)
        value = middle(np.arange(n))
        stderr = float(delete_half_stderr(middle, n)) if np.isfinite(value) else np.nan
        return Estimate(value, stderr, n, method=method, note=note)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw what share of the inputs is within each distance."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        share = np.arange(1, len(self.decision) + 1) / len(self.decision)
        axes.step(np.sort(self.distances), share, where="post", label="wall of the region")
        axes.step(np.sort(self.certified), share, where="post", label="certified decision")
        axes.set(xscale="log", xlabel="distance", ylabel="share of inputs")
        axes.legend()
        return axes


def boundary_distance(
    model: nn.Module, data: Samples, *, directions: int | None = None, seed: int = 0
) -> BoundaryDistances:
    r"""Compute how far inputs are from the boundary of their activation region, exactly.

    .. math::
        \mathrm{dist}(x, \partial R) = \min_u \frac{|z_u(x)|}{\lVert \nabla z_u(x) \rVert}

    over all units u of all layers, :math:`z_u` being what bends there, less its threshold.

    Parameters
    ----------
    model : torch.nn.Module
        As of :func:`~geomprobe.tropical.linear_pieces`.
    data : Samples
        Inputs, in any dimension; targets are not looked at.
    directions : int, optional
        Look only in a random subspace of so many dimensions through each input. The distances are
        then those within it, upper bounds of those in all dimensions. By default all dimensions.
    seed : int
        Of the subspaces.

    Returns
    -------
    BoundaryDistances
        In the Euclidean norm, in the units of the inputs.

    Raises
    ------
    ValueError
        No inputs, no bends, no directions; what :func:`~geomprobe.tropical.linear_pieces` raises.

    Notes
    -----
    Why it is exact, in every layer: let :math:`a_u \cdot y + c_u` continue :math:`z_u` affinely
    from the region R of x. Layer by layer, a point y at which all these have the signs that they
    have at x is on the same branches, so that its :math:`z_u(y)` are those numbers, and conversely.
    Hence the closure of R is the polyhedron :math:`\{y : s_u (a_u \cdot y + c_u) \ge 0\}`. The ball
    of the radius above lies in every half-space, and touches the nearest hyperplane in a point of
    the polyhedron: a point of its boundary, whether or not other inequalities are redundant. For
    a maximum the inequalities are those of the winner against each other candidate.

    Across that wall the branch of a unit changes. The affine map may stay the same (of a unit that
    later layers ignore), so that as the distance from where the map changes it is a lower bound.

    In double precision; a unit whose gradient is below 1e-12 of the largest of its bend counts as
    constant. One affine map of d inputs costs as much as d + 1 forward passes; memory is bounded.

    References
    ----------
    Croce, F., Andriushchenko, M. and Hein, M. (2019). Provable robustness of ReLU networks via
    maximization of linear regions. AISTATS.
    """
    require_neighbourhood(directions)
    return distances_on(record_on(model, data), directions, seed)


def distances_on(recorded: Recorded, directions: int | None, seed: int) -> BoundaryDistances:
    """Do what :func:`boundary_distance` does, of a pass that is recorded."""
    tape, rows = recorded
    points = flattened(rows)
    d = points.shape[1]
    k = d if directions is None else min(directions, d)
    generator = torch.Generator().manual_seed(seed)
    walls, decisions = [], []
    limit = tape.rows_at_once()
    for some in torch.split(points, max(1, limit // (k + 1))):
        frames = None if k == d else random_frames(len(some), d, k, generator).to(points)
        steps = max(1, limit // len(some) - 1)
        heights, squares = _affine_functions(tape, some, rows, frames, k, steps)
        nearest = [_smallest_ratio(h, s) for h, s in zip(heights, squares, strict=True)]
        walls.append(np.stack(nearest[:-1], axis=1))
        decisions.append(nearest[-1])
    names = tuple(kink.name for kink in tape.kinks)
    return BoundaryDistances(names, np.concatenate(walls), np.concatenate(decisions), d, k)


def _affine_functions(
    tape: Tape, points: Tensor, rows: Sequence[Tensor], frames: Tensor | None, k: int, steps: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Return heights and squared gradients of the functions of every bend, and of decisions.

    Tensors of shape (points, functions): where one is zero is a hyperplane.
    """
    heights: list[Tensor] = []
    squares: list[Tensor] = []
    for start in range(0, k, steps):
        stop = min(start + steps, k)
        mesh = _Walls(len(points))
        moved = [points, *(points + move for move in _moves(points, frames, start, stop))]
        outputs = tape.run(mesh, *unflattened(torch.cat(moved), rows))
        alone = outputs.shape[1] == 1
        mesh.see(outputs if alone else _against_the_largest(outputs, len(points)))
        heights = mesh.heights
        sums = zip(squares, mesh.squares, strict=True)
        squares = [a + b for a, b in sums] if squares else mesh.squares
    return heights, squares


def _moves(points: Tensor, frames: Tensor | None, start: int, stop: int) -> Iterator[Tensor]:
    """Yield unit vectors of the subspaces, one of each point's or one for all."""
    for axis in range(start, stop):
        if frames is not None:
            yield frames[:, axis]
        else:
            unit = torch.zeros_like(points[:1])
            unit[:, axis] = 1.0
            yield unit


def _against_the_largest(candidates: Tensor, bases: int) -> Tensor:
    """Return how far the largest candidate at the base is above each, (rows, ..., k)."""
    winner = candidates[:bases].argmax(-1, keepdim=True)
    winner = winner.repeat(len(candidates) // bases, *[1] * (candidates.ndim - 1))
    return candidates.gather(-1, winner) - candidates


class _Walls(Branches):
    """Bases with their companions, and of what bends the heights and the squared gradients."""

    def __init__(self, bases: int) -> None:
        super().__init__(bases)
        self.heights: list[Tensor] = []
        self.squares: list[Tensor] = []

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Apply an operation as it is at the bases, and write down its hyperplanes."""
        if kink.bend.windows is None:
            self.see(torch.cat([height.flatten(1) for height in kink.heights(rows[0])], 1))
        else:
            self.see(_against_the_largest(kink.bend.windows(*rows), self._bases).flatten(1))
        return super().bend(kink, rows)

    def see(self, functions: Tensor) -> None:
        """Write down functions, (rows, functions)."""
        base, *moved = torch.split(functions, self._bases)
        self.heights.append(base)
        self.squares.append(torch.stack([(part - base).square() for part in moved]).sum(0))


def _smallest_ratio(heights: Tensor, squares: Tensor) -> Array:
    """Return the distance of the nearest hyperplane; infinite where all functions are constant."""
    gradients = squares.sqrt()
    varies = gradients > _ZERO * gradients.max()
    ratios = torch.where(varies, heights.abs() / gradients, torch.inf)
    nearest: Array = ratios.min(1).values.cpu().numpy()
    return nearest
