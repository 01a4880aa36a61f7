"""Bring one network to the place, among all that are the same function, nearest to another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Samples, require_samples
from geomprobe.findings import Estimate
from geomprobe.hooks.precise import in_double_precision
from geomprobe.landscape.copies import (
    copied,
    require_alike,
    require_one_code,
    state_of,
)
from geomprobe.landscape.equivalents import unit_norms
from geomprobe.landscape.matching import match_activations, match_weights
from geomprobe.landscape.symmetry import Symmetries, moved_copy, symmetries
from geomprobe.storage import Array


@dataclass(frozen=True, eq=False)
class Alignment:
    """Two networks brought together; made by :func:`align`.

    Parameters
    ----------
    model : torch.nn.Module
        A copy of the second network, the same function, aligned with the first.
    symmetries : Symmetries
        What could be permuted, and what was pinned, with reasons.
    source : int array of shape (n_atoms,)
        Which atom came in the place of each.
    log_factors : array of shape (n_atoms,)
        By which factors atoms were multiplied.
    distance_before, distance_after : float
        Euclidean distances of the two networks' parameters.
    difference : float
        Largest difference of the outputs of the second network and its copy, both in double
        precision, relative to the largest output: rounding.
    method : str
    """

    model: nn.Module
    symmetries: Symmetries
    source: Array
    log_factors: Array
    distance_before: float
    distance_after: float
    difference: float
    method: str

    @property
    def moved(self) -> int:
        """How many interchangeable units changed their place."""
        return sum(
            int((self.source[level.atoms] != level.atoms).any(axis=1).sum())
            for top in self.symmetries.levels
            for level in top.every()
            if level.atoms.size
        )

    @property
    def permutations(self) -> dict[str, Array]:
        """By axis, as in ``"fc.weight[0]"``, which of its coordinates came in the place of each."""
        return {
            f"{axis.name}[{axis.axis}]": self.source[axis.start : axis.start + axis.size]
            - axis.start
            for axis in self.symmetries.axes
        }

    def __str__(self) -> str:
        return (
            f"distance {self.distance_before:.4g} -> {self.distance_after:.4g} by {self.method}; "
            f"{self.moved} units moved; outputs differ by {self.difference:.1e}\n{self.symmetries}"
        )


def align(
    a: nn.Module,
    b: nn.Module,
    data: Samples,
    *,
    match: Literal["weights", "activations"] = "weights",
    rescale: bool = False,
    restarts: int = 1,
    tolerance: float = 1e-3,
    batch_size: int = 256,
    random_state: int = 0,
) -> Alignment:
    r"""Permute the units of network b so that it comes near network a, and check it to be b.

    .. math::
        \max_\pi \; \sum_p \langle \theta^a_p, \; (\pi \theta^b)_p \rangle

    over all permutations that leave the function of b as it is; the same as the least Euclidean
    distance of the parameters.

    Parameters
    ----------
    a, b : torch.nn.Module
        Of one architecture; both are left as they were.
    data : Samples
        Inputs on which the networks are followed and the function of the copy is checked, and whose
        activations are matched.
    match : {"weights", "activations"}
        By the inner product of weights, over sets of units in turn until none gains; or by the
        correlation of activations, once for each set.
    rescale : bool
        Take out rescalings too: both are matched with incoming weights of norm one, and the copy's
        units are given the norms of a's.
    restarts : int
        Runs of weight matching, of which the best is taken: the first through the model in order,
        others in random orders from random permutations.
    tolerance : float
        A set of units is looked at again after a neighbour's move gained a larger share than this
        of the inner product; 0 for a strict local optimum.
    batch_size : int
        Samples of a pass for activations.
    random_state : int

    Returns
    -------
    Alignment

    Raises
    ------
    TypeError
        Data that are not Samples of tensors.
    ValueError
        Networks of different architectures, no samples, activations or weights that are not finite,
        what :func:`~geomprobe.landscape.symmetries` refuses, or a copy that turns out to be another
        function than b.

    Notes
    -----
    Each set of n units takes an assignment, O(n^3), and a product of n x n weights, for each sweep.
    Weight matching finds a local optimum; it is the global one where there is one set of units.

    References
    ----------
    Ainsworth, S., Hayase, J. and Srinivasa, S. (2023). Git Re-Basin: merging models modulo
    permutation symmetries. ICLR, sections 3.1 and 3.2.
    """
    if match not in ("weights", "activations"):
        raise ValueError(f'match must be "weights" or "activations", got {match!r}')
    if restarts < 1 or batch_size < 1 or not tolerance >= 0:
        raise ValueError(
            "restarts and batch_size must be at least 1 and tolerance not negative, got "
            f"{restarts}, {batch_size} and {tolerance}"
        )
    require_alike({"a": a, "b": b})
    require_samples(data)
    for title, model in (("a", a), ("b", b)):
        bad = [name for name, t in state_of(model).items() if not bool(torch.isfinite(t).all())]
        if bad:
            raise ValueError(f"{bad[0]!r} of {title} is not finite")
    (one, own_data, _), (two, *_) = (in_double_precision(model, data) for model in (a, b))
    require_one_code(one, two, own_data)
    found = symmetries(b, data)
    target, other = state_of(one), state_of(two)
    identity = np.arange(found.n_atoms)
    logs = np.zeros(len(found.scalings))
    if rescale:
        logs = unit_norms(found, other)
        ours = found.apply(target, identity, found.factors(unit_norms(found, target)))
        theirs = found.apply(other, identity, found.factors(logs))
    else:
        ours, theirs = target, other
    weights = [name for name, _ in one.named_parameters()]
    if match == "weights":
        source = match_weights(
            [axis for axis in found.axes if axis.name in weights],
            found.levels,
            _weights(b, ours),
            _weights(b, theirs),
            found.n_atoms,
            restarts=restarts,
            tolerance=tolerance,
            generator=np.random.default_rng(random_state),
        )
    else:
        source = match_activations(
            found.levels, one, two, own_data, found.n_atoms, batch_size=batch_size
        )
    factors = np.zeros(found.n_atoms)
    if rescale:
        there = found.apply(other, source, factors)
        factors = found.factors(unit_norms(found, there, like=target))
    aligned, difference = moved_copy(b, two, own_data, found, source, factors)
    return Alignment(
        aligned,
        found,
        source,
        factors,
        _distance(target, other, weights),
        _distance(target, state_of(aligned), weights),
        difference,
        f"{match} matching" + (" and rescaling" if rescale else ""),
    )


def _weights(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters in the model's own precision, float32 at least."""
    return {
        name: state[name].to(torch.promote_types(parameter.dtype, torch.float32))
        for name, parameter in model.named_parameters()
    }


def _distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: list[str]) -> float:
    """Return how far apart two states are, the first of which is on the CPU."""
    pairs = [(a[name].double(), b[name].cpu().double()) for name in names]
    return math.sqrt(sum(float((x - y).square().sum()) for x, y in pairs))


def distance(
    a: nn.Module, b: nn.Module, data: Samples, *, restarts: int = 1, random_state: int = 0
) -> Estimate:
    """Return the distance of two networks' parameters modulo permutations and rescalings.

    Both are brought to incoming weights of norm one, and b is permuted to come near a. The distance
    is Euclidean, over parameters: zero for networks that differ by symmetries alone.

    Parameters
    ----------
    a, b : torch.nn.Module
    data : Samples
    restarts, random_state : int
        As for :func:`align`, whose errors are raised.

    Returns
    -------
    Estimate
        An upper bound of the least over all permutations.
    """
    require_alike({"a": a, "b": b})
    require_samples(data)
    normal = []
    for model in (a, b):
        found = symmetries(model, data)
        own = in_double_precision(model, data)[0]
        identity = np.arange(found.n_atoms)
        factors = found.factors(unit_norms(found, state_of(own)))
        normal.append(copied(own, found.apply(state_of(own), identity, factors)))
    one, two = normal
    nearest = align(one, two, data, restarts=restarts, random_state=random_state)
    return Estimate(
        nearest.distance_after,
        method=f"units of norm one, {nearest.method}, {restarts} run(s)",
        note="an upper bound: the permutation is the best of those tried",
    )
