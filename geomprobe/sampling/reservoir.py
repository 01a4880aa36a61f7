"""A uniform sample of bounded size from a stream of any length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from geomprobe.storage import Array

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def priorities(ids: Array, positions: Array | None = None, *, seed: int = 0) -> Array:
    """Return one pseudo-random uint64 for each sample id, or each (id, position).

    The finalizer of SplitMix64 (Steele, Lea and Flood 2014) applied to the id and the seed: a
    bijection of 64 bits, so that different ids never tie.
    """
    mixed = _mix(ids.astype(np.uint64) + _mix(np.array([seed % 2**64], np.uint64)))
    return mixed if positions is None else _mix(mixed + positions.astype(np.uint64))


def _mix(x: Array) -> Array:
    z = x + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = z ^ (z >> np.uint64(31))
    return mixed


class BottomK:
    """Chooses the k items of smallest priority out of a stream, and the slot each one goes to.

    An item's priority depends on the seed and on its sample id alone. So every set of k different
    ids is equally likely to be chosen; the choice does not depend on the order or the batching of
    the stream, nor on how it is split over processes; and all layers of a model, and the inputs
    themselves, choose the same samples. An item that comes again replaces what it was.

    Parameters
    ----------
    capacity : int
        k, at least 1.
    seed : int
        Two streams of the same ids and seed choose alike.

    Notes
    -----
    O(batch + k log k) for a batch that enters anything, O(batch) otherwise; 24 bytes an item kept.

    With strata the items of smallest (rank within the stratum, priority) are chosen: every stratum
    gets the same number of places, as far as it has items, and within a stratum every set is
    equally likely. An item that has once been left out would never have come back, so that one
    pass over the stream chooses what a look at all of it would.

    References
    ----------
    Cohen, E. and Kaplan, H. (2007). Summarizing data using bottom-k sketches. PODC.
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.seed = seed
        self.seen = 0
        self.ids = np.empty(0, np.int64)
        self.keys = np.empty(0, np.uint64)
        self._strata: Array | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def offer(
        self, ids: Array, positions: Array | None = None, strata: Array | None = None
    ) -> tuple[Array, Array]:
        """Offer a batch of items.

        Parameters
        ----------
        ids : int array of shape (m,)
            Sample ids.
        positions : int array of shape (m,), optional
            Tells apart items of one sample.
        strata : array of shape (m,), optional
            Groups of items to be kept in equal numbers; all batches have them or none.

        Returns
        -------
        rows : int array
            Which of the offered items enter.
        slots : int array
            Where each of them goes: below ``capacity``, taking the place of what leaves.
        """
        self.seen += len(ids)
        return self._choose(priorities(ids, positions, seed=self.seed), ids, strata)

    def _choose(self, keys: Array, ids: Array, strata: Array | None) -> tuple[Array, Array]:
        rows = np.arange(len(keys))
        if strata is None and len(self) == self.capacity:
            rows = np.flatnonzero(keys <= self.keys.max())
            if not len(rows):
                return rows, rows
        rows = rows[_last_of_each(keys[rows])]
        known, slots = _find(keys[rows], self.keys)
        again, new = rows[known], rows[~known]
        stay = self._smallest(keys[new], None if strata is None else strata[new])
        size = len(self)
        entering = stay[stay >= size] - size
        leaving = np.setdiff1d(np.arange(size), stay, assume_unique=True)
        free = np.concatenate([leaving, np.arange(size, size + len(entering) - len(leaving))])
        rows, slots = np.concatenate([again, new[entering]]), np.concatenate([slots, free])
        self.ids, self.keys = _put(self.ids, slots, ids[rows]), _put(self.keys, slots, keys[rows])
        if strata is not None:
            before = strata[:0] if self._strata is None else self._strata
            self._strata = _put(before, slots, strata[rows])
        return rows, slots

    def _smallest(self, keys: Array, strata: Array | None) -> Array:
        """Return which of the kept and the new items are to be kept, in order."""
        everyone = np.concatenate([self.keys, keys])
        if len(everyone) <= self.capacity:
            return np.arange(len(everyone))
        if strata is None:
            return np.sort(np.argpartition(everyone, self.capacity - 1)[: self.capacity])
        groups = strata if self._strata is None else np.concatenate([self._strata, strata])
        order = np.lexsort((everyone, groups))
        starts = np.flatnonzero(np.r_[True, groups[order][1:] != groups[order][:-1]])
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
        return np.sort(np.lexsort((everyone, rank))[: self.capacity])

    def order(self) -> Array:
        """Return the slots in the order of sample ids (and of priority within one)."""
        return np.lexsort((self.keys, self.ids))


def _last_of_each(keys: Array) -> Array:
    """Return where the last of each different key stands, in order."""
    if len(np.unique(keys)) == len(keys):
        return np.arange(len(keys))
    _, backwards = np.unique(keys[::-1], return_index=True)
    return np.sort(len(keys) - 1 - backwards)


def _find(wanted: Array, among: Array) -> tuple[Array, Array]:
    """Tell which keys there are already, and the slots of those."""
    order = np.argsort(among)
    place = np.searchsorted(among, wanted, sorter=order)
    slots = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(wanted), int)
    known = among[slots] == wanted if len(order) else np.zeros(len(wanted), bool)
    return known, slots[known]


def _put(kept: Array, slots: Array, values: Array) -> Array:
    """Return an array with values in some slots, longer where they reach beyond its end."""
    grown = max(len(kept), int(slots.max(initial=-1)) + 1)
    result = np.concatenate([kept, np.empty((grown - len(kept), *kept.shape[1:]), values.dtype)])
    result[slots] = values
    return result


class Reservoir:
    """Rows of a stream of tensors: a uniform sample of at most ``capacity``, on the CPU in float32.

    Parameters
    ----------
    capacity, seed
        As in :class:`BottomK`.
    stratified : bool
        Keep every label in equal numbers.

    Notes
    -----
    Holds ``capacity * d`` float32 numbers however long the stream. From a batch only the rows that
    enter leave its device.
    """

    def __init__(self, capacity: int, seed: int = 0, *, stratified: bool = False) -> None:
        self.choice = BottomK(capacity, seed)
        self._stratified = stratified
        self._rows = np.empty((0, 0), np.float32)
        self._labels: Array | None = None

    def __len__(self) -> int:
        return len(self.choice)

    def add(
        self,
        take: Callable[[Array], torch.Tensor],
        ids: Array,
        positions: Array | None = None,
        *,
        labels: Array | None = None,
    ) -> None:
        """Offer rows.

        Parameters
        ----------
        take : callable
            ``take(chosen)`` returns a tensor of shape (len(chosen), d) that shares no memory with
            what the model goes on with: the rows that enter, by their index.
        ids, positions
            As in :meth:`BottomK.offer`.
        labels : array of shape (m,), optional
            Kept beside the rows; all batches have them or none.

        Raises
        ------
        ValueError
            Labels are missing where others had them, or where the sample is to be stratified.
        """
        if labels is None and self._stratified:
            raise ValueError("a stratified sample needs the labels of every batch")
        if len(self) and (labels is None) != (self._labels is None):
            raise ValueError("all batches must come with labels, or none of them")
        chosen, slots = self.choice.offer(ids, positions, labels if self._stratified else None)
        if len(chosen):
            rows = take(chosen).detach().to("cpu", torch.float32).numpy()
            self._keep(rows, slots, None if labels is None else labels[chosen])

    def _keep(self, rows: Array, slots: Array, labels: Array | None) -> None:
        if not self._rows.size:
            self._rows = np.empty((self.choice.capacity, rows.shape[1]), np.float32)
        self._rows[slots] = rows
        if labels is not None:
            if self._labels is None:
                self._labels = np.empty(self.choice.capacity, labels.dtype)
            self._labels[slots] = labels

    def contents(self) -> tuple[Array, Array, Array | None]:
        """Return the rows kept, of shape (n, d), their sample ids and labels, sorted by id."""
        order = self.choice.order()
        labels = None if self._labels is None else self._labels[order]
        return self._rows[order], self.choice.ids[order], labels

    def arrays(self) -> dict[str, Array]:
        """Return all that the reservoir holds, for :meth:`merge`, in the order of sample ids."""
        order = self.choice.order()
        rows, ids, labels = self.contents()
        keys = self.choice.keys[order].view(np.int64)
        arrays = {"rows": rows, "ids": ids, "keys": keys, "seen": np.array(self.choice.seen)}
        return arrays if labels is None else {**arrays, "labels": labels}

    def merge(self, arrays: Mapping[str, Array]) -> None:
        """Take in what :meth:`arrays` of another reservoir, of the same seed, returned.

        The outcome is that of one reservoir that has seen both streams. Samples that both have
        seen count once.
        """
        ids, labels = arrays["ids"], arrays.get("labels")
        self.choice.seen += int(arrays["seen"])
        strata = labels if self._stratified else None
        chosen, slots = self.choice._choose(arrays["keys"].view(np.uint64), ids, strata)
        if len(chosen):
            taken = None if labels is None else labels[chosen]
            self._keep(arrays["rows"][chosen], slots, taken)


class TreeReservoir:
    """Whole samples of a stream of batches, in whatever structure of tensors they come.

    Parameters
    ----------
    capacity, seed
        As in :class:`BottomK`; chooses the same samples as a :class:`Reservoir` does.
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        self.choice = BottomK(capacity, seed)
        self._kept: list[Any] = []

    def add(self, samples: Any, ids: Array) -> None:
        """Offer the samples of a batch (anything with ``take(rows)``)."""
        chosen, slots = self.choice.offer(ids)
        self._kept.extend([None] * (len(self.choice) - len(self._kept)))
        for row, slot in zip(chosen, slots, strict=True):
            # Indexing by a list copies: a slice would keep the whole batch alive.
            self._kept[slot] = samples.take([int(row)])

    def contents(self) -> list[Any]:
        """Return the samples kept, each as a batch of one, sorted by id."""
        return [self._kept[slot] for slot in self.choice.order()]
