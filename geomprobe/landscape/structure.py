"""Sets of interchangeable units and of their interchangeable parts: what can be permuted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from geomprobe.landscape.units import Units
from geomprobe.storage import Array

#: Rounds in which atoms are told apart, at most; each takes something away.
_ROUNDS = 1000


@dataclass(frozen=True, eq=False)
class Level:
    """Interchangeable units, or the interchangeable parts of each of some units.

    Parameters
    ----------
    atoms : int array of shape (n, m)
        The m atoms of each unit, in an order that is the same for all.
    count : int
        How many are interchangeable: all n; or of parts, those of one unit of the level above,
        one unit after another.
    inner : tuple of Level
        The parts of these units.
    """

    atoms: Array
    count: int
    inner: tuple[Level, ...] = ()

    def every(self) -> Iterator[Level]:
        """Yield this level and all below."""
        yield self
        for level in self.inner:
            yield from level.every()

    @property
    def log_order(self) -> float:
        """Logarithm of the number of permutations, of parts those of one unit."""
        inner = sum(level.log_order for level in self.inner)
        return math.lgamma(self.count + 1) + self.count * inner


def levels_of(units: Units) -> tuple[Level, ...]:
    """Return the sets of units that can be permuted.

    Units are told apart by what is done to them, by the units that they are parts of, and by their
    own parts, until nothing more is told (colour refinement, which is exact on trees).
    """
    colors = _first_colors(units)
    for _ in range(_ROUNDS):
        roots, parents, marks = _settled(units)
        colors = _ids(colors, marks)
        if _pin_repeated(units, colors, roots):
            continue
        tree = _Tree(units, colors, roots, parents)
        colors = _ids(colors, tree.colors[roots])
        if not tree.adopt():
            return tree.levels(colors)
    raise RuntimeError("the units of this model do not settle")


def _ids(first: Array, second: Array) -> Array:
    """Give each pair of two columns of whole numbers a number."""
    low = second.min(initial=0)
    together = first * (second.max(initial=0) - low + 1) + second - low
    ids: Array = np.unique(together, return_inverse=True)[1].ravel()
    return ids


def _first_colors(units: Units) -> Array:
    """Tell atoms apart by their axes, from 1 on, and by what was done to some of them only."""
    colors = np.zeros(len(units.moves), dtype=np.int64)
    for number, axis in enumerate(units.axes):
        colors[axis.start : axis.start + axis.size] = number + 1
    for subset in units.subsets.values():
        inside = np.bincount(colors[subset], minlength=colors.max() + 1)
        if ((inside > 0) & (inside < np.bincount(colors))).any():
            member = np.zeros(len(colors), dtype=np.int64)
            member[subset] = 1
            colors = _ids(colors, member)
    return colors


def _settled(units: Units) -> tuple[Array, dict[int, int], Array]:
    """Return units by atom, the unit that each is a part of, and what fixed units say of parts."""
    for _ in range(_ROUNDS):
        roots = units.moves.roots(np.arange(len(units.moves)))
        frozen = units.moves.all_frozen()
        marks = np.zeros(len(roots), dtype=np.int64)
        moving: list[tuple[int, Array, Array]] = []
        for number, (part, whole) in enumerate(units.parts):
            still = frozen[whole]
            mark = np.full(len(roots), -1, dtype=np.int64)
            mark[part[still]] = roots[whole[still]]
            marks = _ids(marks, mark) if still.any() else marks
            kept = ~still & (roots[part] != roots[whole])
            moving.append((number, roots[part][kept], roots[whole][kept]))
        if not _settle_one(units, moving):
            pairs = (zip(c.tolist(), p.tolist(), strict=True) for _, c, p in moving)
            return roots, dict(pair for some in pairs for pair in some), marks
    raise RuntimeError("the units of this model do not settle")


def _settle_one(units: Units, moving: Sequence[tuple[int, Array, Array]]) -> bool:
    """Let units that are parts of two be parts of one; return whether there were any."""
    for i, (number, child, parent) in enumerate(moving):
        for earlier, other_child, other_parent in moving[:i]:
            common, here, there = np.intersect1d(child, other_child, return_indices=True)
            a, b = parent[here], other_parent[there]
            if np.array_equal(a, b):
                continue
            pairs = np.unique(np.stack([a, b]), axis=1)
            fine, coarse = (len(np.unique(row)) == pairs.shape[1] for row in pairs)
            if fine and coarse:
                for left, right in pairs.T.tolist():
                    units.moves.join(left, right)
            elif fine or coarse:
                # One set lies within the other, and its units are parts of the others' units.
                outer = earlier if fine else number
                part, whole = units.parts[outer]
                rest = ~np.isin(units.moves.roots(part), common)
                units.parts[outer] = part[rest], whole[rest]
                units.parts.append((pairs[0], pairs[1]) if fine else (pairs[1], pairs[0]))
            else:
                for unit in b.tolist():
                    units.moves.freeze(unit)
            return True
    return False


def _pin_repeated(units: Units, colors: Array, roots: Array) -> bool:
    """Pin units with several atoms that nothing tells apart; return whether there were any."""
    where = np.concatenate(
        [np.arange(axis.start, axis.start + axis.size) for axis in units.axes]
        or [np.empty(0, dtype=np.int64)]
    )
    pairs, counts = np.unique(np.stack([roots[where], colors[where]]), axis=1, return_counts=True)
    repeated = [u for u in np.unique(pairs[0][counts > 1]).tolist() if not units.moves.frozen(u)]
    for unit in repeated:
        units.moves.freeze(unit)
        units.reasons[unit] = "is tied to another place on its own axis"
    return bool(repeated)


class _Tree:
    """Units, their parts, and colours that tell them apart."""

    def __init__(self, units: Units, colors: Array, roots: Array, parents: dict[int, int]) -> None:
        self.units, self.roots, self.parents = units, roots, parents
        self.children: dict[int, list[int]] = defaultdict(list)
        for child, parent in parents.items():
            self.children[parent].append(child)
        self.atoms: dict[int, list[int]] = defaultdict(list)
        for atom, root in enumerate(roots.tolist()):
            self.atoms[root].append(atom)
        self.colors = self._refined(colors)

    def _refined(self, colors: Array) -> Array:
        told = {
            unit: (-1, unit)
            if self.units.moves.frozen(unit)
            else (0, *sorted(colors[atoms].tolist()))
            for unit, atoms in self.atoms.items()
        }
        found = _numbered(told)
        count = 0
        while count < (count := len(set(found.values()))):
            found = _numbered(
                {
                    unit: (
                        color,
                        found.get(self.parents.get(unit, -1), -1),
                        *sorted(found[child] for child in self.children.get(unit, ())),
                    )
                    for unit, color in found.items()
                }
            )
        of_unit = np.zeros(len(self.roots), dtype=np.int64)
        of_unit[list(found)] = list(found.values())
        return of_unit

    def by_color(self, some: Sequence[int]) -> list[list[int]]:
        """Return units of one colour each, those with the first atoms first."""
        sets: dict[int, list[int]] = defaultdict(list)
        for unit in sorted(some, key=self._first_atom):
            sets[int(self.colors[unit])].append(unit)
        return list(sets.values())

    def _first_atom(self, unit: int) -> int:
        below = (self._first_atom(child) for child in self.children.get(unit, ()))
        return min([self.atoms[unit][0], *below])

    def adopt(self) -> bool:
        """Let a part that is the only one of its kind be one with the unit it is a part of."""
        adopted = False
        for parent, parts in list(self.children.items()):
            for same in self.by_color(parts):
                if len(same) == 1 and not self.units.moves.frozen(same[0]):
                    self.units.moves.join(same[0], parent)
                    adopted = True
        return adopted

    def levels(self, colors: Array) -> tuple[Level, ...]:
        """Return what can be permuted."""
        self._colors = colors
        self._on_axes = np.zeros(len(colors), dtype=bool)
        for axis in self.units.axes:
            self._on_axes[axis.start : axis.start + axis.size] = True
        free = [
            unit
            for unit in self.atoms
            if unit not in self.parents and not self.units.moves.frozen(unit)
        ]
        found = (self._level(same, len(same)) for same in self.by_color(free))
        return tuple(level for level in found if level is not None)

    def _level(self, same: list[int], count: int) -> Level | None:
        atoms = []
        for unit in same:
            own = np.array(self.atoms[unit])
            own = own[self._on_axes[own]]
            atoms.append(own[np.argsort(self._colors[own], kind="stable")])
        parts = [self.by_color(self.children.get(unit, ())) for unit in same]
        inner = []
        for number, first in enumerate(parts[0]):
            color = self.colors[first[0]]
            alike = [
                unit
                for sets in parts
                for some in sets
                for unit in some
                if self.colors[unit] == color
            ]
            inner.append(self._level(alike, len(parts[0][number])))
        kept = tuple(level for level in inner if level is not None)
        together = np.array(atoms, dtype=np.int64).reshape(len(same), -1)
        if (count == 1 and not kept) or (not together.size and not kept):
            return None
        return Level(together, count, kept)


def _numbered(told: dict[int, tuple[int, ...]]) -> dict[int, int]:
    numbers: dict[tuple[int, ...], int] = {}
    return {unit: numbers.setdefault(what, len(numbers)) for unit, what in told.items()}
