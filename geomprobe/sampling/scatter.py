"""Add runs of entries to places chosen beforehand, many entries at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from geomprobe.storage import Array

#: Entries of a run for which the processor's vectors are made use of.
LANES = 64


@njit(nogil=True)
def _add(signed: Any, to: Any, total: Any, lanes: int) -> None:
    if lanes == LANES:  # A number that is known beforehand makes a loop over vectors.
        for run in range(len(to)):
            there, begin = to[run], run * LANES
            for lane in range(LANES):
                total[there + lane] += signed[begin + lane]
    else:
        for run in range(len(to)):
            there, begin = to[run], run * lanes
            for lane in range(lanes):
                total[there + lane] += signed[begin + lane]


@njit(cache=True, nogil=True)
def scatter_runs(rows: Array, signs: Array, places: Array, sums: Array, lanes: int) -> None:
    """Add each run of entries of a row, with their signs, to runs of its sums.

    Parameters
    ----------
    rows : array of shape (m, runs * lanes)
    signs : array of shape (runs * lanes,)
    places : unsigned array of shape (blocks, runs)
        Where each run goes, once for each block: to the entries from there on.
    sums : array of shape (m, n)
        Changed. Each sum takes what it is given in the order of the blocks and runs, so that its
        bits depend on nothing else.
    lanes : int
        Entries of a run.

    Notes
    -----
    O(m runs lanes blocks), on one thread, without the interpreter's lock.
    """
    signed = np.empty(rows.shape[1], rows.dtype)
    for i in range(rows.shape[0]):
        row, total = rows[i], sums[i]
        for j in range(rows.shape[1]):
            signed[j] = row[j] * signs[j]
        for b in range(places.shape[0]):
            _add(signed, places[b], total, lanes)
