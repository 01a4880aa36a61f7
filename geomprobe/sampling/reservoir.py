"""A uniform sample of bounded size from a stream of any length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from geomprobe.hooks.transfers import Copy
from geomprobe.storage import Array

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def priorities(ids: Array, positions: Array | None = None, *, seed: int = 0) -> Array:
    """Return one pseudo-random uint64 for each sample id, or each (id, position).

    The finalizer of SplitMix64 (Steele, Lea and Flood 2014) applied to the id and the seed: a
    bijection of 64 bits, so that different ids never tie.
    """
    mixed = _mix(ids.astype(np.uint64) + _mixed_seed(seed))
    return mixed if positions is None else _mix(mixed + positions.astype(np.uint64))


@lru_cache(maxsize=64)
def _mixed_seed(seed: int) -> Array:
    return _mix(np.array([seed % 2**64], np.uint64))


def _mix(x: Array) -> Array:
    z = x + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = z ^ (z >> np.uint64(31))
    return mixed


@dataclass(frozen=True, eq=False)
class Offer:
    """Items of a batch, with the priority and perhaps the stratum of each."""

    ids: Array
    keys: Array
    strata: Array | None = None


@dataclass(frozen=True, eq=False)
class BottomK:
    """The k items of smallest priority out of a stream, and the slot that each of them has.

    An item's priority depends on the seed and on its sample id alone. So every set of k different
    ids is equally likely to be chosen; the choice does not depend on the order or the batching of
    the stream, nor on how it is split over processes; and all layers of a model, and the inputs
    themselves, choose the same samples. An item that comes again replaces what it was.

    A value: :meth:`choose` returns the next one, so that layers which see the same stream can share
    it and what it chooses.

    Parameters
    ----------
    capacity : int
        k, at least 1.
    seed : int
        Two streams of the same ids and seed choose alike.
    seen : int
        How many items have been offered.
    ids, keys, slots : arrays of shape (n,)
        Sample id, priority and slot of each item chosen, by ascending priority.
    strata : array of shape (n,), optional
        The stratum of each.

    Notes
    -----
    O(batch + k) for a batch that enters anything, O(batch) otherwise; 24 bytes an item kept.

    With strata the items of smallest (rank within the stratum, priority) are chosen: every stratum
    gets the same number of places, as far as it has items, and within a stratum every set is
    equally likely. An item that has once been left out would never have come back, so that one
    pass over the stream chooses what a look at all of it would.

    References
    ----------
    Cohen, E. and Kaplan, H. (2007). Summarizing data using bottom-k sketches. PODC.
    """

    capacity: int
    seed: int = 0
    seen: int = 0
    ids: Array = field(default_factory=lambda: np.empty(0, np.int64))
    keys: Array = field(default_factory=lambda: np.empty(0, np.uint64))
    slots: Array = field(default_factory=lambda: np.empty(0, np.int64))
    strata: Array | None = None

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {self.capacity}")

    def __len__(self) -> int:
        return len(self.ids)

    def offer(
        self, ids: Array, positions: Array | None = None, strata: Array | None = None
    ) -> Offer:
        """Give items their priorities.

        Parameters
        ----------
        ids : int array of shape (m,)
            Sample ids.
        positions : int array of shape (m,), optional
            Tells apart items of one sample.
        strata : array of shape (m,), optional
            Groups of items to be kept in equal numbers; all batches have them or none.
        """
        return Offer(ids, priorities(ids, positions, seed=self.seed), strata)

    def choose(self, offer: Offer) -> tuple[BottomK, Array, Array]:
        """Choose among what is kept and what is offered.

        Returns
        -------
        kept : BottomK
            What is kept from now on.
        rows : int array
            Which of the offered items enter.
        slots : int array
            Where each of them goes: below ``capacity``, taking the place of what leaves.
        """
        seen = self.seen + len(offer.ids)
        rows = np.arange(len(offer.keys))
        if offer.strata is None and len(self) == self.capacity:
            rows = np.flatnonzero(offer.keys <= self.keys[-1])
        if not len(rows):
            return replace(self, seen=seen), rows, rows
        rows = rows[_last_of_each(offer.keys[rows])]
        keys, size = offer.keys[rows], len(self)
        place = np.minimum(np.searchsorted(self.keys, keys), max(size - 1, 0))
        known = self.keys[place] == keys if size else np.zeros(len(rows), bool)
        new, again = rows[~known], rows[known]
        merged = np.concatenate([self.keys, offer.keys[new]])
        groups = None
        if offer.strata is not None:
            before = offer.strata[:0] if self.strata is None else self.strata
            groups = np.concatenate([before, offer.strata[new]])
        stay = self._smallest(merged, groups)
        leaves = np.ones(len(merged), bool)
        leaves[stay] = False
        free = np.concatenate([self.slots[leaves[:size]], np.arange(size, self.capacity)])
        enters = ~leaves[size:]
        slots = np.concatenate([self.slots, np.full(len(new), -1)])
        slots[size:][enters] = free[: enters.sum()]
        kept = replace(
            self,
            seen=seen,
            ids=np.concatenate([self.ids, offer.ids[new]])[stay],
            keys=merged[stay],
            slots=slots[stay],
            strata=None if groups is None else groups[stay],
        )
        entering = np.concatenate([again, new[enters]])
        return kept, entering, np.concatenate([self.slots[place[known]], slots[size:][enters]])

    def _smallest(self, keys: Array, groups: Array | None) -> Array:
        """Return which items to keep, by ascending priority."""
        order = np.argsort(keys, kind="stable")
        if groups is None or len(keys) <= self.capacity:
            return order[: self.capacity]
        by_group = np.lexsort((keys, groups))
        starts = np.flatnonzero(np.r_[True, np.diff(groups[by_group]) != 0])
        sizes = np.diff(np.r_[starts, len(keys)])
        rank = np.empty(len(keys), np.int64)
        rank[by_group] = np.arange(len(keys)) - np.repeat(starts, sizes)
        chosen = np.lexsort((keys, rank))[: self.capacity]
        return chosen[np.argsort(keys[chosen], kind="stable")]

    def by_id(self) -> Array:
        """Return the order of sample ids (and of priority within one): indices of the items."""
        return np.argsort(self.ids, kind="stable")


def _last_of_each(keys: Array) -> Array:
    """Return where the last of each different key stands, in order."""
    if len(set(keys.tolist())) == len(keys):
        return np.arange(len(keys))
    _, backwards = np.unique(keys[::-1], return_index=True)
    return np.sort(len(keys) - 1 - backwards)


class Reservoir:
    """Rows of a stream of tensors: those that a :class:`BottomK` chooses, on the CPU in float32.

    Parameters
    ----------
    choice : BottomK
        What is chosen so far: nothing.
    stratified : bool
        Keep every label in equal numbers.

    Notes
    -----
    Holds ``capacity * d`` float32 numbers however long the stream. From a batch only the rows that
    enter leave its device, and from a CUDA device nobody waits for them until they are read, or
    until more than ``capacity`` are on their way.
    """

    def __init__(self, choice: BottomK, *, stratified: bool = False) -> None:
        self.choice = choice
        self._stratified = stratified
        self._rows = np.empty((0, 0), np.float32)
        self._labels: Array | None = None
        self._arriving: list[tuple[Copy, Array]] = []

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has: all rows, and none on its way."""
        self._receive()
        return vars(self)

    def __len__(self) -> int:
        return len(self.choice)

    def offer(
        self, ids: Array, positions: Array | None = None, labels: Array | None = None
    ) -> Offer:
        """Give rows their priorities; see :meth:`BottomK.offer`.

        Raises
        ------
        ValueError
            The sample is to be stratified, and there are no labels.
        """
        if labels is None and self._stratified:
            raise ValueError("a stratified sample needs the labels of every batch")
        return self.choice.offer(ids, positions, labels if self._stratified else None)

    def add(
        self,
        take: Callable[[Array], torch.Tensor],
        chosen: tuple[BottomK, Array, Array],
        labels: Array | None = None,
    ) -> None:
        """Take in the rows of a batch that have been chosen.

        Parameters
        ----------
        take : callable
            ``take(rows)`` returns a tensor of shape (len(rows), d), which may be changed in place
            once this has returned.
        chosen : tuple
            What :meth:`BottomK.choose` returned for :attr:`choice` and the offer.
        labels : array of shape (m,), optional
            Kept beside the rows; all batches have them or none.

        Raises
        ------
        ValueError
            Labels are missing where others had them.
        """
        if len(self) and (labels is None) != (self._labels is None):
            raise ValueError("all batches must come with labels, or none of them")
        kept, rows, slots = chosen
        if len(rows):
            self._receive(at_most=self.choice.capacity)
            copy = Copy(take(rows).detach())
            self._arriving.append((copy, slots))
            if copy.arrived:
                self._receive()
            if labels is not None:
                self._label(slots, labels[rows])
        self.choice = kept

    def _receive(self, at_most: int = 0) -> None:
        """Take in the copies that have arrived; leave so many rows on their way, or fewer."""
        pending = sum(len(slots) for _, slots in self._arriving)
        while self._arriving and (pending > at_most or self._arriving[0][0].arrived):
            copy, slots = self._arriving[0]
            rows = copy.numpy()
            if not self._rows.size:
                self._rows = np.empty((self.choice.capacity, rows.shape[1]), np.float32)
            self._rows[slots] = rows
            del self._arriving[0]
            pending -= len(slots)

    def _label(self, slots: Array, labels: Array) -> None:
        if self._labels is None:
            self._labels = np.empty(self.choice.capacity, labels.dtype)
        dtype = np.result_type(self._labels, labels)
        self._labels = self._labels.astype(dtype, copy=False)
        self._labels[slots] = labels

    def contents(self) -> tuple[Array, Array, Array | None]:
        """Return the rows kept, of shape (n, d), their sample ids and labels, sorted by id."""
        self._receive()
        order = self.choice.by_id()
        slots = self.choice.slots[order]
        labels = None if self._labels is None else self._labels[slots]
        return self._rows[slots], self.choice.ids[order], labels

    def arrays(self) -> dict[str, Array]:
        """Return all that the reservoir holds, for :meth:`merge`, in the order of sample ids."""
        rows, ids, labels = self.contents()
        keys = self.choice.keys[self.choice.by_id()].view(np.int64)
        arrays = {"rows": rows, "ids": ids, "keys": keys, "seen": np.array(self.choice.seen)}
        return arrays if labels is None else {**arrays, "labels": labels}

    def merge(self, arrays: Mapping[str, Array]) -> None:
        """Take in what :meth:`arrays` of another reservoir, of the same seed, returned.

        The outcome is that of one reservoir that has seen both streams. Samples that both have
        seen count once.
        """
        ids, labels, rows = arrays["ids"], arrays.get("labels"), torch.from_numpy(arrays["rows"])
        strata = labels if self._stratified else None
        unseen = int(arrays["seen"]) - len(ids)
        choice = replace(self.choice, seen=self.choice.seen + unseen)
        if not len(ids):
            self.choice = choice
            return
        offer = Offer(ids, arrays["keys"].view(np.uint64), strata)
        self.add(rows.__getitem__, choice.choose(offer), labels)


class TreeReservoir:
    """Whole samples of a stream of batches, in whatever structure of tensors they come.

    Parameters
    ----------
    capacity, seed
        As in :class:`BottomK`; chooses the same samples as a :class:`Reservoir` does.
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        self.choice = BottomK(capacity, seed)
        self._kept: dict[int, Any] = {}

    def add(self, samples: Any, ids: Array) -> None:
        """Offer the samples of a batch (anything with ``take(rows)``)."""
        self.choice, rows, slots = self.choice.choose(self.choice.offer(ids))
        for row, slot in zip(rows, slots, strict=True):
            # Indexing by a list copies: a slice would keep the whole batch alive.
            self._kept[int(slot)] = samples.take([int(row)])

    def contents(self) -> list[Any]:
        """Return the samples kept, each as a batch of one, sorted by id."""
        return [self._kept[int(slot)] for slot in self.choice.slots[self.choice.by_id()]]
