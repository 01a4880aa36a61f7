"""A uniform sample of bounded size from a stream of any length."""

from __future__ import annotations

from collections.abc import Callable
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
    the stream; and all layers of a model, and the inputs themselves, choose the same samples.

    Parameters
    ----------
    capacity : int
        k, at least 1.
    seed : int
        Two streams of the same ids and seed choose alike.

    Notes
    -----
    O(batch + k) for a batch that enters anything, O(batch) otherwise; 16 bytes an item kept.

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
        self._keys = np.empty(0, np.uint64)

    def __len__(self) -> int:
        return len(self.ids)

    def offer(self, ids: Array, positions: Array | None = None) -> tuple[Array, Array]:
        """Offer a batch of items.

        Parameters
        ----------
        ids : int array of shape (m,)
            Sample ids.
        positions : int array of shape (m,), optional
            Tells apart items of one sample.

        Returns
        -------
        rows : int array
            Which of the offered items enter.
        slots : int array
            Where each of them goes: below ``capacity``, taking the place of what leaves.
        """
        self.seen += len(ids)
        keys = priorities(ids, positions, seed=self.seed)
        size = len(self)
        if size == self.capacity:
            rows = np.flatnonzero(keys < self._keys.max())
        else:
            rows = np.arange(len(ids))
        everyone = np.concatenate([self._keys, keys[rows]])
        if len(everyone) > self.capacity:
            order = np.argpartition(everyone, self.capacity - 1)
            stay, leave = order[: self.capacity], order[self.capacity :]
        else:
            stay, leave = np.arange(len(everyone)), np.empty(0, np.int64)
        entering = np.sort(stay[stay >= size])
        grown = min(size + len(entering), self.capacity)
        slots = np.concatenate([np.arange(size, grown), np.sort(leave[leave < size])])
        rows = rows[entering - size]
        self._keys = np.concatenate([self._keys, np.empty(grown - size, np.uint64)])
        self.ids = np.concatenate([self.ids, np.empty(grown - size, np.int64)])
        self._keys[slots] = keys[rows]
        self.ids[slots] = ids[rows]
        return rows, slots

    def order(self) -> Array:
        """Return the slots in the order of sample ids (and of priority within one)."""
        return np.lexsort((self._keys, self.ids))


class Reservoir:
    """Rows of a stream of tensors: a uniform sample of at most ``capacity``, on the CPU in float32.

    Parameters
    ----------
    capacity, seed
        As in :class:`BottomK`.

    Notes
    -----
    Holds ``capacity * d`` float32 numbers however long the stream. From a batch only the rows that
    enter leave its device.
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        self.choice = BottomK(capacity, seed)
        self._rows = np.empty((0, 0), np.float32)
        self._labels: Array | None = None

    def add(
        self,
        rows: torch.Tensor,
        ids: Array,
        positions: Array | None = None,
        *,
        labels: Array | None = None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        """Offer the rows of a tensor.

        Parameters
        ----------
        rows : Tensor of shape (m, d)
            What is offered; copied where it enters.
        ids, positions
            As in :meth:`BottomK.offer`.
        labels : array of shape (m,), optional
            Kept beside the rows; all batches have them or none.
        transform : callable, optional
            Applied to the rows that enter, before they are kept.
        """
        if self.choice.seen and (labels is None) != (self._labels is None):
            raise ValueError("all batches must come with labels, or none of them")
        chosen, slots = self.choice.offer(ids, positions)
        if not len(chosen):
            return
        taken = rows.detach().index_select(0, torch.from_numpy(chosen).to(rows.device))
        kept = (taken if transform is None else transform(taken)).to("cpu", torch.float32).numpy()
        if not self._rows.size:
            self._rows = np.empty((self.choice.capacity, kept.shape[1]), np.float32)
        self._rows[slots] = kept
        if labels is not None:
            if self._labels is None:
                self._labels = np.empty(self.choice.capacity, labels.dtype)
            self._labels[slots] = labels[chosen]

    def contents(self) -> tuple[Array, Array, Array | None]:
        """Return the rows kept, of shape (n, d), their sample ids and labels, sorted by id."""
        order = self.choice.order()
        labels = None if self._labels is None else self._labels[order]
        return self._rows[order], self.choice.ids[order], labels


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
