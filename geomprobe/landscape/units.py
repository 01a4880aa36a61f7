"""Units: which coordinates of parameters move together when the function must stay the same.

Each axis of each parameter is a row of *atoms*, one a coordinate. What a model does with its
parameters tells which atoms are one unit, which units are parts of another, and which cannot move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geomprobe.storage import Array


class SignedForest:
    """Values that are known to be equal, or one the negative of the other; frozen ones are zero."""

    def __init__(self) -> None:
        self._up: list[int] = []
        self._sign: list[int] = []
        self._frozen: list[bool] = []

    def __len__(self) -> int:
        return len(self._up)

    def grow(self, n: int, *, frozen: bool = False) -> None:
        """Add values of which nothing else is known."""
        self._up += range(len(self), len(self) + n)
        self._sign += [1] * n
        self._frozen += [frozen] * n

    def root(self, item: int) -> tuple[int, int]:
        """Return the value that stands for an item, and the sign between the two."""
        path = []
        while self._up[item] != item:
            path.append(item)
            item = self._up[item]
        sign = 1
        for step in reversed(path):
            sign *= self._sign[step]
            self._up[step], self._sign[step] = item, sign
        return item, sign

    def roots(self, items: Array) -> Array:
        """Return the values that stand for an array of items; -1 stays."""
        up = np.array([*self._up, len(self)], dtype=np.int64)  # The last is for -1.
        while not np.array_equal(up, higher := up[up]):
            up = higher
        units: Array = np.where(items < 0, -1, up[items])
        return units

    def signed_roots(self) -> tuple[Array, Array]:
        """Return the value that stands for each item, and the sign between the two."""
        up, sign = (np.array(part, dtype=np.int64) for part in (self._up, self._sign))
        while not np.array_equal(up, higher := up[up]):
            up, sign = higher, sign * sign[up]
        return up, sign

    def join(self, a: int, b: int, sign: int = 1) -> None:
        """State that the value of ``a`` is that of ``b`` times the sign; b's root then stands."""
        (a, left), (b, right) = self.root(a), self.root(b)
        if a == b:
            self._frozen[a] |= left != sign * right
            return
        self._up[a], self._sign[a] = b, left * right * sign
        self._frozen[b] |= self._frozen[a]

    def freeze(self, item: int) -> None:
        """State that a value is zero."""
        self._frozen[self.root(item)[0]] = True

    def frozen(self, item: int) -> bool:
        """Whether a value is zero."""
        return self._frozen[self.root(item)[0]]

    def all_frozen(self) -> Array:
        """Tell of every item whether its value is zero."""
        zero: Array = np.array(self._frozen, dtype=bool)[self.roots(np.arange(len(self)))]
        return zero


@dataclass(frozen=True)
class Axis:
    """An axis of a parameter or buffer, and its atoms: ``size`` of them from ``start`` on."""

    name: str
    axis: int
    start: int
    size: int

    def holds(self, atoms: Array) -> Array:
        """Tell which atoms are on this axis."""
        inside: Array = (atoms >= self.start) & (atoms < self.start + self.size)
        return inside


class Units:
    """What is known of the atoms of a model.

    Attributes
    ----------
    axes : list of Axis
    moves : SignedForest
        Atoms that are one unit; frozen ones stay where they are.
    scales : SignedForest
        Logarithms of the factors of atoms.
    parts : list of pairs of arrays
        Atoms, and the units they are parts of.
    subsets : dict of bytes to array
        Sets of atoms that were treated otherwise than the others may be.
    reasons : dict of int to str
        By atom, why it cannot move.
    used : list of str
        Tensors, in the order of their first use.
    variances : dict of str to float
        Running variances, which scale with the square, and what is added to them.
    """

    def __init__(self) -> None:
        self.axes: list[Axis] = []
        self.moves = SignedForest()
        self.scales = SignedForest()
        self.parts: list[tuple[Array, Array]] = []
        self.subsets: dict[bytes, Array] = {}
        self.reasons: dict[int, str] = {}
        self.used: list[str] = []
        self.variances: dict[str, float] = {}
        self._places: list[int] = []
        self._members: dict[int, list[int]] = {}
        self._blocks: dict[bytes, Array] = {}

    def _fresh(self, n: int, *, pinned: bool = False) -> Array:
        start = len(self.moves)
        self.moves.grow(n, frozen=pinned)
        self.scales.grow(n, frozen=pinned)
        return np.arange(start, start + n)

    def parameter(self, name: str, shape: Sequence[int]) -> tuple[Tensor, ...]:
        """Return the atoms of each axis of a tensor, along that axis."""
        arrays = []
        for axis, size in enumerate(shape):
            if size > 1:
                atoms = self._fresh(size)
                self.axes.append(Axis(name, axis, int(atoms[0]), size))
                arrays.append(along(torch.from_numpy(atoms), axis, len(shape)))
        return tuple(arrays)

    def places(self, n: int, start: int = 0) -> Tensor:
        """Return atoms that stand for fixed places, n of them."""
        if start + n > len(self._places):
            self._places += self._fresh(start + n - len(self._places), pinned=True).tolist()
        return torch.tensor(self._places[start : start + n], device="cpu")

    def pinned(self, array: Tensor) -> bool:
        """Whether none of these atoms can move."""
        return all(map(self.moves.frozen, _atoms(array).tolist()))

    def pin(self, array: Tensor, reason: str) -> None:
        """State that atoms cannot move."""
        for atom in _atoms(array).tolist():
            if not self.moves.frozen(atom):
                self.moves.freeze(atom)
                self.reasons[atom] = reason

    def touch(self, array: Array) -> None:
        """State that units are treated in a way that others may not be."""
        units = np.unique(self.moves.roots(array[array >= 0]))
        key = units.tobytes()
        if key not in self.subsets:
            members = [self._members.get(unit, [unit]) for unit in units.tolist()]
            self.subsets[key] = np.array(
                [atom for some in members for atom in some], dtype=np.int64
            )

    def relate(self, a: Tensor, b: Tensor) -> str:
        """Learn from atoms that meet, entry by entry.

        Returns
        -------
        str
            ``"same"``: each unit meets one other. ``"a"`` or ``"b"``: only that one needs to be
            kept, since its units are parts of the other's. ``"both"``: they are independent.
        """
        if not any(m > 1 and n > 1 for m, n in zip(a.shape, b.shape, strict=True)):
            return "both"
        if self.pinned(a) and self.pinned(b):
            return "same" if torch.equal(a, b) else "both"
        left, right = (part.ravel() for part in np.broadcast_arrays(a.numpy(), b.numpy()))
        meet = (left >= 0) & (right >= 0)
        left, right = left[meet], right[meet]
        if not len(left):
            return "both"
        self.touch(left)
        self.touch(right)
        left, right = _distinct_pairs(left, right)
        pairs = np.stack([self.moves.roots(left), self.moves.roots(right)])
        # One pair of atoms for each pair of units.
        _, first = np.unique(pairs[0] * len(self.moves) + pairs[1], return_index=True)
        pairs, k = pairs[:, first], len(first)
        na, nb = (len(np.unique(row)) for row in pairs)
        if (np.isin(pairs[0], pairs[1]) & (pairs[0] != pairs[1])).any():
            for part in (left, right):
                self.pin(torch.from_numpy(part), "is tied to another place on its own axis")
            return "both"
        if k == na == nb:
            for atom, other in zip(left[first].tolist(), right[first].tolist(), strict=True):
                self._unite(atom, other)
            return "same"
        if k == na * nb:
            return "both"
        if k == nb:
            self.parts.append((right[first], left[first]))
            return "b"
        if k == na:
            self.parts.append((left[first], right[first]))
            return "a"
        if not self._relate_blocks(pairs):
            for part in (left, right):
                self.pin(torch.from_numpy(part), "meets others in no order that could be kept")
        return "both"

    def _relate_blocks(self, pairs: Array) -> bool:
        """Learn from sets of units of which each meets all of one other set, and no more."""
        (left, at), (right, to) = (np.unique(row, return_inverse=True) for row in pairs)
        meet = np.zeros((len(left), len(right)), dtype=bool)
        meet[at.ravel(), to.ravel()] = True
        sets, block = np.unique(meet, axis=0, return_inverse=True)
        if (sets.sum(0) != 1).any():
            return False
        ours = _padded([left[block.ravel() == k] for k in range(len(sets))])
        theirs = _padded([right[row] for row in sets])
        for a, b in zip(self.blocks(ours).tolist(), self.blocks(theirs).tolist(), strict=True):
            self._unite(a, b)
        return True

    def _unite(self, a: int, b: int) -> None:
        """Let two units be one; what meets a fixed one is fixed, and stays itself."""
        one, two = self.moves.root(a)[0], self.moves.root(b)[0]
        fixed = self.moves.frozen(one), self.moves.frozen(two)
        if not any(fixed):
            if one != two:
                members = self._members.pop(one, [one]), self._members.pop(two, [two])
                self.moves.join(one, two)
                few, many = sorted(members, key=len)
                many += few
                self._members[two] = many
        elif not all(fixed):
            moving, still = (a, b) if fixed[1] else (b, a)
            reason = self.reasons.get(still, "meets an axis of the data")
            self.pin(torch.tensor([moving], device="cpu"), reason)

    def blocks(self, rows: Array) -> Array:
        """Return a unit for each row of units, of which they are parts from now on."""
        key = rows.tobytes()
        if key not in self._blocks:
            parts, counts = np.unique(rows[rows >= 0], return_counts=True)
            fixed = self.pinned(torch.from_numpy(parts))
            if not fixed and (counts > 1).any():
                self.pin(torch.from_numpy(parts), "is summed in sets that overlap")
                fixed = True
            if fixed:
                return self.places(len(rows)).numpy()
            made = self._fresh(len(rows))
            there = rows >= 0
            self.parts.append((rows[there], np.broadcast_to(made[:, None], rows.shape)[there]))
            self._blocks[key] = made
        return self._blocks[key]

    def tie(self, a: Tensor, b: Tensor, sign: int = 1) -> None:
        """State that factors are equal, or each other's inverse, entry by entry."""
        left, right = (part.ravel() for part in np.broadcast_arrays(a.numpy(), b.numpy()))
        left, right = _distinct_pairs(left, right)
        for atom, other in zip(left.tolist(), right.tolist(), strict=True):
            if atom >= 0 and other >= 0:
                self.scales.join(atom, other, sign)
            elif max(atom, other) >= 0:
                self.scales.freeze(max(atom, other))

    def freeze(self, *arrays: Tensor) -> None:
        """State that factors are one."""
        for array in arrays:
            for atom in _atoms(array).tolist():
                self.scales.freeze(atom)


def along(values: Tensor, axis: int, ndim: int) -> Tensor:
    """Return a vector as a tensor of some axes that varies along one of them."""
    shape = [1] * ndim
    shape[axis] = len(values)
    return values.view(shape)


def _distinct_pairs(left: Array, right: Array) -> tuple[Array, Array]:
    size = int(right.max(initial=0)) + 2
    pairs = np.sort((left + 1) * size + right + 1)
    pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
    return pairs // size - 1, pairs % size - 1


def _padded(rows: Sequence[Array]) -> Array:
    most = max(len(row) for row in rows)
    return np.array([[*[-1] * (most - len(row)), *np.sort(row)] for row in rows])


def _atoms(array: Tensor) -> Array:
    atoms = np.unique(array.numpy())
    return atoms[atoms >= 0]
