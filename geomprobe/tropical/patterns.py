"""On which branch every unit of a network is at some inputs: dead units, entropy, and changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Samples
from geomprobe.findings import Estimate
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array
from geomprobe.tropical.branches import slopes_at
from geomprobe.tropical.merging import branches
from geomprobe.tropical.recording import Recorded, record_on
from geomprobe.tropical.tape import Kink, Still
from geomprobe.values import ByValue


@dataclass(frozen=True, eq=False)
class ActivationPatterns(ByValue):
    """The branch of every unit at some inputs; made by :func:`activation_patterns`.

    Parameters
    ----------
    bends : tuple of str
        What bends, in the order of the pass, by the module it happens in.
    branches : tuple of int32 array of shape (n, units)
        For each: how many of its thresholds lie below; of a maximum, which candidate wins.
    flat : tuple of bool array of shape (units,)
        For each, whether the slope is 0 at all inputs: dead units. Never those of a maximum.
    """

    bends: tuple[str, ...]
    branches: tuple[Array, ...]
    flat: tuple[Array, ...]

    @property
    def n_inputs(self) -> int:
        """The number of inputs."""
        return len(self.branches[0])

    @property
    def units(self) -> dict[str, int]:
        """Units of each bend."""
        return {name: b.shape[1] for name, b in zip(self.bends, self.branches, strict=True)}

    @cached_property
    def labels(self) -> Array:
        """Which pattern each input has, by number: equal ones are in one activation region."""
        return _labels(np.concatenate(self.branches, axis=1))

    @property
    def n_patterns(self) -> int:
        """How many activation regions the inputs lie in."""
        return 1 + int(self.labels.max())

    @property
    def dead(self) -> dict[str, float]:
        """Share of the units of each bend whose slope is 0 at all inputs."""
        return {name: float(flat.mean()) for name, flat in zip(self.bends, self.flat, strict=True)}

    @property
    def dead_units(self) -> Estimate:
        """Share of all units whose slope is 0 at all inputs."""
        share = float(np.concatenate(self.flat).mean())
        return Estimate(share, n=self.n_inputs, exact=True, method="slopes at the inputs")

    def entropy(self, bend: str | None = None) -> Estimate:
        r"""Return the entropy of the patterns, :math:`-\sum_p p \log_2 p`, in bits.

        Parameters
        ----------
        bend : str, optional
            Of the units of one bend only.

        Returns
        -------
        Estimate
            Of the distribution on these inputs, at most log2 n: on average less than that of the
            distribution they are drawn from. The note says how many patterns were seen only once.
        """
        labels = self.labels if bend is None else _labels(self._of(bend))
        n, counts = len(labels), np.bincount(labels)
        p = counts / n
        value = float(-(p * np.log2(p)).sum())
        once = int((counts == 1).sum())
        note = (
            f"{once} of {len(counts)} patterns were seen once: more inputs give more"
            if once
            else ""
        )
        spread = float((p * np.log2(p) ** 2).sum()) - value**2
        stderr = np.nan if once == n else np.sqrt(max(spread, 0.0) / n)
        return Estimate(value, stderr, n, method="frequencies of patterns", note=note)

    def unit_entropy(self, bend: str | None = None) -> Estimate:
        """Return the mean over units of the entropy of the branch that a unit is on, in bits.

        0 for a unit that is on one branch at all inputs, 1 for one that halves them.
        """
        rows = np.concatenate(self.branches, axis=1) if bend is None else self._of(bend)

        def mean(which: Array) -> float:
            return float(_column_entropies(rows[which]).mean())

        n, method = len(rows), "frequencies of branches; delete-half jackknife over inputs"
        stderr = float(delete_half_stderr(mean, n))
        return Estimate(mean(np.arange(n)), stderr, n, method=method)

    def _of(self, bend: str) -> Array:
        if bend not in self.bends:
            raise ValueError(f"no bend {bend!r}; there are {', '.join(self.bends)}")
        return self.branches[self.bends.index(bend)]


def activation_patterns(model: nn.Module, data: Samples) -> ActivationPatterns:
    """Return on which branch every unit is at each of some inputs.

    Parameters
    ----------
    model : torch.nn.Module
        As of :func:`~geomprobe.tropical.linear_pieces`.
    data : Samples
        Inputs, in any dimension; targets are not looked at.

    Returns
    -------
    ActivationPatterns

    Raises
    ------
    ValueError
        No inputs, or a network without bends; what :func:`~geomprobe.tropical.linear_pieces`
        raises.

    Notes
    -----
    One forward pass in double precision, and four bytes for each unit and input. A unit exactly on
    a threshold is on the branch below it.

    References
    ----------
    Raghu, M. et al. (2017). On the expressive power of deep neural networks. ICML.
    """
    return patterns_on(record_on(model, data))


def patterns_on(recorded: Recorded) -> ActivationPatterns:
    """Do what :func:`activation_patterns` does, of a pass that is recorded."""
    tape, rows = recorded
    size = tape.rows_at_once()
    parts = []
    for start in range(0, len(rows[0]), size):
        mesh = _Reading()
        tape.run(mesh, *(part[start : start + size] for part in rows))
        parts.append(mesh)
    numbers = range(len(tape.kinks))
    return ActivationPatterns(
        tuple(kink.name for kink in tape.kinks),
        tuple(np.concatenate([part.branches[i] for part in parts]) for i in numbers),
        tuple(np.logical_and.reduce([part.flat[i] for part in parts]) for i in numbers),
    )


class _Reading(Still):
    """Inputs that stay, and the branches that were taken."""

    def __init__(self) -> None:
        self.branches: list[Array] = []
        self.flat: list[Array] = []

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Apply an operation, and write down the branches."""
        self.branches.append(branch_numbers(kink, rows).cpu().numpy().astype(np.int32))
        if kink.bend.windows is None:
            values, slopes = slopes_at(kink, rows[0])
            self.flat.append((slopes == 0).flatten(1).all(0).cpu().numpy())
            return values
        self.flat.append(np.zeros(self.branches[-1].shape[1], bool))
        return kink.apply(*rows)


def branch_numbers(kink: Kink, rows: Sequence[Tensor]) -> Tensor:
    """Return the branch of each unit as one whole number, (n, units)."""
    return torch.stack([branch.long() for branch in branches(kink, rows)]).sum(0)


@dataclass(frozen=True, eq=False)
class RegionMoves(ByValue):
    """How far some inputs have moved in the complex; made by :func:`region_crossings`.

    Parameters
    ----------
    bends : tuple of str
        What bends, in the order of the pass, by the module it happens in.
    units : tuple of int
        Units of each.
    changed : int array of shape (n, bends)
        How many of them are on another branch, at each input.
    """

    bends: tuple[str, ...]
    units: tuple[int, ...]
    changed: Array

    @property
    def crossings(self) -> Estimate:
        """Units that are on another branch, mean over inputs."""
        return mean_estimate(self.changed.sum(axis=1), "units on another branch")

    @property
    def share(self) -> Estimate:
        """The same as a share of all units: a relative Hamming distance of patterns."""
        return mean_estimate(self.changed.sum(axis=1) / sum(self.units), "units on another branch")

    @property
    def moved(self) -> Estimate:
        """Share of the inputs that are in another activation region."""
        return mean_estimate(self.changed.any(axis=1).astype(float), "inputs with another pattern")

    def by_bend(self) -> dict[str, Estimate]:
        """Return the share of the units of each bend that changed."""
        shares = (self.changed / np.array(self.units)).T
        return {
            name: mean_estimate(share, "units on another branch")
            for name, share in zip(self.bends, shares, strict=True)
        }


def region_crossings(before: nn.Module, after: nn.Module, data: Samples) -> RegionMoves:
    """Return how far inputs have moved in the complex between two states of a network.

    Parameters
    ----------
    before, after : torch.nn.Module
        Of one architecture, as of :func:`~geomprobe.tropical.linear_pieces`.
    data : Samples
        Inputs; targets are not looked at.

    Returns
    -------
    RegionMoves

    Raises
    ------
    ValueError
        Networks that do not bend alike; what :func:`activation_patterns` raises.

    Notes
    -----
    It is the Hamming distance of the patterns. Arguments of bends are continuous in the parameters,
    so that on every path between the two states each counted unit comes to a wall at that input:
    the path crosses as many walls or more. A unit that changed and changed back is not counted, so
    the distances of short steps sum to more than that of a long one.
    """
    return moves_between(activation_patterns(before, data), activation_patterns(after, data))


def moves_between(a: ActivationPatterns, b: ActivationPatterns) -> RegionMoves:
    """Compare the patterns of two states of a network at the same inputs."""
    if a.units != b.units:
        raise ValueError(
            f"the networks do not bend alike: before are units {_listed(a.units)}, and after "
            f"{_listed(b.units)}; give two states of one network"
        )
    pairs = zip(a.branches, b.branches, strict=True)
    changed = np.stack([(one != other).sum(axis=1) for one, other in pairs], axis=1)
    return RegionMoves(a.bends, tuple(a.units.values()), changed)


def mean_estimate(values: Array, method: str) -> Estimate:
    """Return the mean over inputs with its standard error."""
    n = len(values)
    stderr = float(values.std(ddof=1)) / np.sqrt(n) if n > 1 else np.nan
    return Estimate(float(values.mean()), stderr, n, method=f"{method}, mean over inputs")


def _labels(rows: Array) -> Array:
    names: dict[bytes, int] = {}
    return np.array([names.setdefault(row.tobytes(), len(names)) for row in rows])


def _column_entropies(rows: Array) -> Array:
    """Return the entropy of the entries of each column, in bits."""
    found = np.zeros(rows.shape[1])
    for branch in np.unique(rows):
        p = (rows == branch).mean(axis=0)
        found -= p * np.log2(np.where(p > 0, p, 1.0))
    return found


def _listed(units: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in units.items())
