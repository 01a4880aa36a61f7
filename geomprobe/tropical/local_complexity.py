"""How many units bend close to each of some inputs, by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Samples
from geomprobe.findings import Estimate
from geomprobe.storage import Array
from geomprobe.tropical.inputs import flattened, unflattened
from geomprobe.tropical.patterns import branch_numbers, mean_estimate
from geomprobe.tropical.recording import Recorded, record_on
from geomprobe.tropical.tape import Kink, Still
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The radius, as a share of the root mean square distance of the inputs from their mean.
_SHARE = 0.05
#: Through each input, along which corners lie.
DIRECTIONS = 20


@dataclass(frozen=True, eq=False)
class LocalComplexity(ByValue):
    """Units that bend near inputs; made by :func:`local_complexity`.

    Parameters
    ----------
    bends : tuple of str
        What bends, in the order of the pass, by the module it happens in.
    units : tuple of int
        Units of each.
    counts : int array of shape (n, bends)
        How many of them change their branch in the neighbourhood of each input.
    radius : float
    directions : int
    """

    bends: tuple[str, ...]
    units: tuple[int, ...]
    counts: Array
    radius: float
    directions: int

    @property
    def total(self) -> Estimate:
        """Units of all layers that bend near an input, mean over inputs."""
        return mean_estimate(self.counts.sum(axis=1), self._method)

    def by_bend(self) -> dict[str, Estimate]:
        """Return the mean over inputs of each bend."""
        columns = zip(self.bends, self.counts.T, strict=True)
        return {name: mean_estimate(counts, self._method) for name, counts in columns}

    @property
    def _method(self) -> str:
        return f"signs at {2 * self.directions} corners at distance {self.radius:.3g}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the mean over inputs by bend, with bars of one standard error."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        found = list(self.by_bend().values())
        values, errors = ([getattr(one, what) for one in found] for what in ("value", "stderr"))
        axes.errorbar(np.arange(len(found)), values, errors, marker="o", capsize=3)
        axes.set_xticks(np.arange(len(found)), self.bends)
        axes.set(ylabel="units that bend near an input", title=f"radius {self.radius:.3g}")
        return axes


def local_complexity(
    model: nn.Module,
    data: Samples,
    *,
    radius: float | None = None,
    directions: int = DIRECTIONS,
    seed: int = 0,
) -> LocalComplexity:
    r"""Count the units that bend in a small neighbourhood of each input, without enumeration.

    The neighbourhood is the convex hull of :math:`x \pm r v_p` for random orthonormal
    :math:`v_1, \ldots, v_P`, an l1-ball of a random subspace. A unit is counted where it is on
    different branches at the corners.

    Parameters
    ----------
    model : torch.nn.Module
        As of :func:`~geomprobe.tropical.linear_pieces`.
    data : Samples
        Inputs, in any dimension; targets are not looked at.
    radius : float, optional
        Distance r of the corners in the units of the inputs. By default 5 % of the root mean square
        distance of the inputs from their mean.
    directions : int
        P; at most as many as inputs have dimensions.
    seed : int
        Of the directions, which are drawn anew for each input.

    Returns
    -------
    LocalComplexity

    Raises
    ------
    ValueError
        No inputs, no bends, a radius or a number of directions that is not positive, inputs that
        are all equal without a radius; what :func:`~geomprobe.tropical.linear_pieces` raises.

    Notes
    -----
    The hull is connected and the argument of a bend continuous, so that each counted unit does bend
    within the hull: the counts are lower bounds. For what bends before anything else has bent they
    are exact, since an affine function takes its extremes at the corners. 2 P forward passes an
    input.

    References
    ----------
    Humayun, A. I., Balestriero, R. and Baraniuk, R. (2024). Deep networks always grok and here is
    why. ICML.
    """
    require_neighbourhood(directions, radius)
    return complexity_on(record_on(model, data), radius, directions, seed)


def require_neighbourhood(directions: int | None, radius: float | None = None) -> None:
    """Raise ValueError for no directions, or a radius that is not positive; None: a default."""
    if directions is not None and directions < 1:
        raise ValueError(f"directions must be at least 1, got {directions}")
    if radius is not None and not 0 < radius < np.inf:
        raise ValueError(f"radius must be positive and finite, got {radius}")


def complexity_on(
    recorded: Recorded, radius: float | None, directions: int, seed: int
) -> LocalComplexity:
    """Do what :func:`local_complexity` does, of a pass that is recorded."""
    tape, rows = recorded
    points = flattened(rows)
    if radius is None:
        radius = _SHARE * spread(points)
        if radius == 0:
            raise ValueError("all inputs are equal, and give no scale: give a radius")
    d = points.shape[1]
    p = min(directions, d)
    generator = torch.Generator().manual_seed(seed)
    size = max(1, tape.rows_at_once() // (2 * p))
    counts = []
    for some in torch.split(points, size):
        frames = random_frames(len(some), d, p, generator).to(points)
        corners = torch.cat([some[:, None] + radius * frames, some[:, None] - radius * frames], 1)
        mesh = _Hulls(len(some))
        tape.run(mesh, *unflattened(corners.flatten(0, 1), rows))
        counts.append(np.stack(mesh.counts, axis=1))
    return LocalComplexity(
        tuple(kink.name for kink in tape.kinks),
        mesh.units,
        np.concatenate(counts),
        float(radius),
        p,
    )


class _Hulls(Still):
    """Corners of hulls, one hull after another, and how many units change their branch on each."""

    def __init__(self, hulls: int) -> None:
        self._hulls = hulls
        self.counts: list[Array] = []
        self.units: tuple[int, ...] = ()

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Apply an operation, and count."""
        branch = branch_numbers(kink, rows)
        branch = branch.reshape(self._hulls, -1, branch.shape[1])
        changed = (branch != branch[:, :1]).any(1)
        self.counts.append(changed.sum(1).cpu().numpy())
        self.units += (changed.shape[1],)
        return kink.apply(*rows)


def spread(points: Tensor) -> float:
    """Return the root mean square distance of points, (n, d), from their mean."""
    return float((points - points.mean(0)).square().sum(1).mean().sqrt())


def random_frames(n: int, d: int, p: int, generator: torch.Generator) -> Tensor:
    """Return p random orthonormal vectors of d entries for each of n points, (n, p, d)."""
    normal = torch.randn(n, d, p, generator=generator, dtype=torch.float64, device="cpu")
    frames: Tensor = torch.linalg.qr(normal)[0]
    return frames.transpose(1, 2)
