"""Find the permutation of one network's units that brings them nearest to another's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Samples
from geomprobe.landscape.labels import Label, varies
from geomprobe.landscape.structure import Level
from geomprobe.landscape.tracing import trace
from geomprobe.landscape.units import Axis
from geomprobe.storage import Array

#: Sweeps over all sets of units, at most; each but the last brings the networks nearer.
_SWEEPS = 200
#: Rounds of prices before an assignment, and the share of rows that must keep their place at them.
_PRICES = 4
_STAY = 0.3

Gain = Callable[[Array], Array]
Moves = list[tuple[Array, Array]]


def assign(level: Level, gain: Gain) -> tuple[Array, Array]:
    """Return the best permutation of the atoms of a level, parts included.

    Parameters
    ----------
    level : Level
    gain : callable
        From the atoms of a level, (n, m), to the gains of putting unit j where unit i is, (n, n).

    Returns
    -------
    places, sources : int arrays
        Atoms, and the atoms that come in their place.

    Notes
    -----
    ``scipy.optimize.linear_sum_assignment``: O(n^3) for n units. For n units with k parts each,
    also one assignment of the parts for every two units.
    """
    every = np.arange(len(level.atoms))
    _, moves = _solver(level, gain)(every, every)
    return np.concatenate([to for to, _ in moves]), np.concatenate([of for _, of in moves])


def _solver(level: Level, gain: Gain) -> Callable[[Array, Array], tuple[float, Moves]]:
    """Return what finds the best assignment of some units of a level to others, and its value."""
    n = len(level.atoms)
    gains = gain(level.atoms) if level.atoms.size else np.zeros((n, n))
    solvers = [(part.count, _solver(part, gain)) for part in level.inner]

    def solve(rows: Array, others: Array) -> tuple[float, Moves]:
        values = gains[np.ix_(rows, others)]
        below: dict[tuple[int, int], Moves] = {}
        for i, row in enumerate(rows.tolist() if solvers else ()):
            for j, other in enumerate(others.tolist()):
                below[i, j] = []
                for k, solver in solvers:
                    own = np.arange(k)
                    value, moves = solver(row * k + own, other * k + own)
                    values[i, j] += value
                    below[i, j] += moves
        best = _assignment(values)
        moves = [(level.atoms[rows].ravel(), level.atoms[others[best]].ravel())]
        for pair in enumerate(best.tolist()) if solvers else ():
            moves += below[pair]
        return float(values[np.arange(len(best)), best].sum()), moves

    return solve


def _assignment(values: Array) -> Array:
    """Return the column of each row with the largest sum.

    Where most rows may keep their place, prices of the columns are found first at which they would,
    which change no assignment's order and leave little to look for.
    """
    from scipy.optimize import linear_sum_assignment

    costs = values.diagonal()[:, None] - values
    prices = np.zeros(len(values))
    for _ in range(_PRICES):
        prices = np.minimum(prices, (costs + prices[:, None]).min(axis=0))
    priced = costs - prices
    if (priced.min(axis=1) >= -prices).mean() > _STAY:
        costs = priced
    best: Array = linear_sum_assignment(costs)[1]
    return best


@dataclass(eq=False)
class _Arranged:
    """Tensors whose atoms are moved step by step."""

    axes: Sequence[Axis]
    state: dict[str, Tensor]
    source: Array

    def moved(self, places: Array, sources: Array) -> _Arranged:
        """Return it with the atoms that are now at ``sources`` at ``places``."""
        step = np.arange(len(self.source))
        step[places] = sources
        return _Arranged(self.axes, permuted(self.state, self.axes, step), self.source[step])


def permuted(state: Mapping[str, Tensor], axes: Iterable[Axis], source: Array) -> dict[str, Tensor]:
    """Return tensors in which each atom has come from another."""
    found = dict(state)
    for axis in axes:
        order = source[axis.start : axis.start + axis.size] - axis.start
        if (order != np.arange(axis.size)).any():
            index = torch.from_numpy(order).to(found[axis.name].device)
            found[axis.name] = found[axis.name].index_select(axis.axis, index)
    return found


def match_weights(
    axes: Sequence[Axis],
    levels: Sequence[Level],
    target: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    n_atoms: int,
    *,
    restarts: int,
    tolerance: float,
    generator: np.random.Generator,
) -> Array:
    """Return which atom comes in the place of each so that the inner product of weights is large.

    Coordinate descent over the sets of units: each gets its best assignment while the others stay,
    and again when a neighbour's move has gained more than the tolerance. The first run goes through
    the sets in the model's order, at first by what leads to them alone; others go through them in a
    random order, from a random permutation.

    Returns
    -------
    source : int array of shape (n_atoms,)
    """
    best, most = np.arange(n_atoms), -np.inf
    for run in range(restarts):
        descent = _Descent(_Arranged(axes, dict(other), np.arange(n_atoms)), levels, target)
        if run:
            for level in levels:
                descent.arranged = descent.arranged.moved(*assign(level, _random_gain(generator)))
        else:
            descent.start()
        descent.run(tolerance, generator if run else None)
        value = _product(target, descent.arranged.state, target)
        if value > most:
            best, most = descent.arranged.source, value
    return best


class _Descent:
    """Sets of units that are brought nearer to a target in turn."""

    def __init__(
        self, arranged: _Arranged, levels: Sequence[Level], target: Mapping[str, Tensor]
    ) -> None:
        self.arranged, self._levels, self._target = arranged, levels, target
        self._axes = [_axes_of(level, arranged.axes) for level in levels]
        self._names = [{axis.name for axis in axes} for axes in self._axes]

    def start(self) -> None:
        """Order each set by what does not lead on to others that have no order yet."""
        for number, level in enumerate(self._levels):
            later: set[str] = set().union(*self._names[number + 1 :])
            seen = [axis for axis in self._axes[number] if axis.name not in later]
            gain = _weight_gain(self.arranged, self._target, seen or self._axes[number])
            self.arranged = self.arranged.moved(*assign(level, gain))

    def run(self, tolerance: float, generator: np.random.Generator | None) -> None:
        """Assign each set while the others stay, until none gains."""
        waiting = set(range(len(self._levels)))
        for _ in range(_SWEEPS):
            order = np.arange(len(self._levels))
            if generator is not None:
                generator.shuffle(order)
            for number in (number for number in order.tolist() if number in waiting):
                waiting.discard(number)
                if self._gain_by(number) > tolerance:
                    names, axes = self._names[number], self._axes[number]
                    waiting |= {
                        k for k, some in enumerate(self._names) if not names.isdisjoint(some)
                    }
                    if len(names) == len(axes):
                        waiting.discard(number)
            if not waiting:
                break

    def _gain_by(self, number: int) -> float:
        """Assign a set if that gains, and return which share of the product of weights."""
        gain = _weight_gain(self.arranged, self._target, self._axes[number])
        tried = self.arranged.moved(*assign(self._levels[number], gain))
        before, after = (
            _product(self._target, state, self._names[number])
            for state in (self.arranged.state, tried.state)
        )
        # A set on both axes of a parameter is not assigned best by one assignment.
        if after <= before + 1e-9 * abs(before):
            return 0.0
        self.arranged = tried
        return (after - before) / abs(after)


def _axes_of(level: Level, axes: Sequence[Axis]) -> list[Axis]:
    atoms = np.concatenate([part.atoms.ravel() for part in level.every()])
    return [axis for axis in axes if axis.holds(atoms).any()]


def _weight_gain(arranged: _Arranged, target: Mapping[str, Tensor], axes: Sequence[Axis]) -> Gain:
    def gain(atoms: Array) -> Array:
        total = np.zeros((len(atoms), len(atoms)))
        for axis in axes:
            columns = axis.holds(atoms[0])
            if columns.any():
                index = torch.from_numpy(atoms[:, columns].ravel() - axis.start)
                ours, theirs = (
                    state[axis.name].movedim(axis.axis, 0)[index].reshape(len(atoms), -1)
                    for state in (target, arranged.state)
                )
                total += (ours @ theirs.T).numpy()
        return total

    return gain


def _random_gain(generator: np.random.Generator) -> Gain:
    return lambda atoms: generator.standard_normal((len(atoms), len(atoms)))


def _product(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Iterable[str]) -> float:
    return sum(float(torch.dot(a[name].ravel(), b[name].ravel())) for name in names)


def match_activations(
    levels: Sequence[Level],
    target: nn.Module,
    other: nn.Module,
    data: Samples,
    n_atoms: int,
    *,
    batch_size: int,
) -> Array:
    """Return which atom comes in the place of each so that activations correlate.

    Those of sums of products (linear layers, convolutions) and of normalizations count, over
    samples and places.

    Returns
    -------
    source : int array of shape (n_atoms,)

    Raises
    ------
    ValueError
        Activations that are not finite.
    """
    moments: list[_Moments] = []
    for batch in data.batches(batch_size):
        ours, theirs = (_activations(model, batch) for model in (target, other))
        if not moments:
            moments = [_Moments(atoms, len(values)) for atoms, values in ours]
        for one, (_, x), (_, y) in zip(moments, ours, theirs, strict=True):
            one.add(x, y)
    correlations = [(one.atoms, one.correlation()) for one in moments]

    def gain(atoms: Array) -> Array:
        total = np.zeros((len(atoms), len(atoms)))
        for there, correlation in correlations:
            where = {atom: row for row, atom in enumerate(there.tolist())}
            for column in atoms.T.tolist():
                if column[0] in where:
                    rows = [where[atom] for atom in column]
                    total += correlation[np.ix_(rows, rows)]
        return total

    source = np.arange(n_atoms)
    for level in levels:
        places, sources = assign(level, gain)
        source[places] = sources
    return source


def _activations(model: nn.Module, data: Samples) -> list[tuple[Array, Tensor]]:
    """Return the atoms of activations, (u,), and their values, (u, samples)."""
    found: list[tuple[Array, Tensor]] = []

    def watch(label: Label, value: Tensor) -> None:
        for mode in label.modes:
            over = [axis for axis in range(value.ndim) if varies(mode, axis)]
            if not over or any(
                varies(other, axis) for other in label.modes if other is not mode for axis in over
            ):
                continue
            atoms = mode.ravel().numpy()
            if (atoms >= 0).all() and len(np.unique(atoms)) == len(atoms):
                rest = [axis for axis in range(value.ndim) if axis not in over]
                found.append((atoms, value.permute(*over, *rest).reshape(len(atoms), -1)))

    trace(model, data.inputs, watch)
    return found


class _Moments:
    """Sums over samples of two networks' activations, their squares and products."""

    def __init__(self, atoms: Array, n: int) -> None:
        self.atoms = atoms
        self._count = 0
        self._sums = torch.zeros(4, n, dtype=torch.float64, device="cpu")
        self._products = torch.zeros(n, n, dtype=torch.float64, device="cpu")

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count values of shape (n, samples)."""
        x, y = x.cpu().double(), y.cpu().double()
        self._count += x.shape[1]
        self._sums += torch.stack([x.sum(1), y.sum(1), x.square().sum(1), y.square().sum(1)])
        self._products += x @ y.T

    def correlation(self) -> Array:
        """Return the correlations of one's units with the other's, 0 where one is constant."""
        mean_x, mean_y, square_x, square_y = self._sums / self._count
        covariance = self._products / self._count - torch.outer(mean_x, mean_y)
        variances = [
            (square - mean.square()).clamp_min(0)
            for square, mean in ((square_x, mean_x), (square_y, mean_y))
        ]
        scale = torch.outer(*variances).sqrt()
        found = torch.where(scale > 0, covariance / scale.clamp_min(1e-300), 0.0)
        if not bool(torch.isfinite(found).all()):
            raise ValueError("activations are not finite; leave such samples out")
        return found.numpy()
