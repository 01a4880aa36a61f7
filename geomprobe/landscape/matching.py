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
    from scipy.optimize import linear_sum_assignment

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
        at, best = linear_sum_assignment(values, maximize=True)
        moves = [(level.atoms[rows].ravel(), level.atoms[others[best]].ravel())]
        for pair in zip(at.tolist(), best.tolist(), strict=True) if solvers else ():
            moves += below[pair]
        return float(values[at, best].sum()), moves

    return solve


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
    generator: np.random.Generator,
) -> Array:
    """Return which atom comes in the place of each so that the inner product of weights is large.

    Coordinate descent over the sets of units: each gets its best assignment while the others stay.
    The first run takes the sets in the model's order; others in a random one, from the third on
    also from a random permutation.

    Returns
    -------
    source : int array of shape (n_atoms,)
    """
    best, most = np.arange(n_atoms), -np.inf
    for run in range(restarts):
        arranged = _Arranged(axes, dict(other), np.arange(n_atoms))
        for level in levels if run > 1 else ():
            arranged = arranged.moved(*assign(level, _random_gain(generator)))
        arranged = _descend(arranged, levels, target, generator if run else None)
        value = _product(target, arranged.state, target)
        if value > most:
            best, most = arranged.source, value
    return best


def _descend(
    arranged: _Arranged,
    levels: Sequence[Level],
    target: Mapping[str, Tensor],
    generator: np.random.Generator | None,
) -> _Arranged:
    touched = [_axes_of(level, arranged.axes) for level in levels]
    names = [{axis.name for axis in axes} for axes in touched]
    waiting = set(range(len(levels)))
    for _ in range(_SWEEPS):
        order = np.arange(len(levels))
        if generator is not None:
            generator.shuffle(order)
        for number in (number for number in order.tolist() if number in waiting):
            waiting.discard(number)
            gain = _weight_gain(arranged, target, touched[number])
            places, sources = assign(levels[number], gain)
            if (places == sources).all():
                continue
            tried = arranged.moved(places, sources)
            now = _product(target, arranged.state, names[number])
            # A set on both axes of a parameter is not assigned best by one assignment.
            if _product(target, tried.state, names[number]) <= now + 1e-9 * abs(now):
                continue
            arranged = tried
            twice = len(names[number]) < len(touched[number])
            waiting |= {
                k
                for k, theirs in enumerate(names)
                if not names[number].isdisjoint(theirs) and (k != number or twice)
            }
        if not waiting:
            break
    return arranged


def _axes_of(level: Level, axes: Sequence[Axis]) -> list[Axis]:
    atoms = np.concatenate([part.atoms.ravel() for part in level.every()])
    return [axis for axis in axes if _on(axis, atoms).any()]


def _on(axis: Axis, atoms: Array) -> Array:
    inside: Array = (atoms >= axis.start) & (atoms < axis.start + axis.size)
    return inside


def _weight_gain(arranged: _Arranged, target: Mapping[str, Tensor], axes: Sequence[Axis]) -> Gain:
    def gain(atoms: Array) -> Array:
        total = np.zeros((len(atoms), len(atoms)))
        for axis in axes:
            columns = _on(axis, atoms[0])
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
        self._sums = torch.zeros(4, n, dtype=torch.float64)
        self._products = torch.zeros(n, n, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count values of shape (n, samples)."""
        x, y = x.double(), y.double()
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
