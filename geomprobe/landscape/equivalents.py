"""Other parameters of the same function: the canonical ones, and random ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Samples
from geomprobe.hooks.precise import in_double_precision
from geomprobe.landscape.copies import state_of
from geomprobe.landscape.matching import assign, permuted
from geomprobe.landscape.structure import Level
from geomprobe.landscape.symmetry import Symmetries, moved_copy, symmetries
from geomprobe.storage import Array

#: Passes over layers to bring norms to one, at most, and the change of a logarithm that ends it.
_PASSES = 100
_SETTLED = 1e-13


def canonical(model: nn.Module, data: Samples) -> nn.Module:
    """Return a copy that is the same for all models that are equal up to its symmetries.

    Each unit that can be rescaled gets incoming weights, bias included, of norm one, unit after
    unit in the order of the parameters; a unit without any stays. Then interchangeable units are
    sorted by their weights, each unit's in rising order.

    Parameters
    ----------
    model : torch.nn.Module
    data : Samples
        On which it is followed, and the function of the copy is checked.

    Raises
    ------
    TypeError
        Data that are not Samples of tensors.
    ValueError
        What :func:`symmetries` refuses, or the copy is not the same function.
    """
    found = symmetries(model, data)
    own, own_data, _ = in_double_precision(model, data)
    state = state_of(own)
    logs = unit_norms(found, state)
    identity = np.arange(found.n_atoms)
    factors = found.factors(logs)
    scaled = found.apply(state, identity, factors)
    source = identity
    for level in found.levels:
        step = _sorted(found, level, permuted(scaled, found.axes, source))
        source = source[step]
    # Factors follow their atoms.
    return moved_copy(model, own, own_data, found, source, factors[source])[0]


def unit_norms(
    found: Symmetries, state: Mapping[str, Tensor], like: Mapping[str, Tensor] | None = None
) -> Array:
    """Return logarithms of factors that bring incoming weights to norm one, or to another's.

    Layer after layer, in the order of the parameters, and again until nothing changes, since a
    layer that feeds itself changes its own.
    """
    logs = np.zeros(len(found.scalings))
    wanted = np.ones(len(logs)) if like is None else _incoming(found, like)
    first = [int(scaling.up[0]) for scaling in found.scalings]
    layers = [axis.holds(np.array(first, dtype=np.int64)) for axis in found.axes]
    identity = np.arange(found.n_atoms)
    for _ in range(_PASSES):
        before = logs.copy()
        for layer in (layer for layer in layers if layer.any()):
            current = found.apply(state, identity, found.factors(logs))
            norms = _incoming(found, current)
            some = layer & (norms > 0) & (wanted > 0)
            logs[some] += np.log(wanted[some] / norms[some])
        if np.abs(logs - before).max(initial=0.0) < _SETTLED:
            break
    return logs


def _incoming(found: Symmetries, state: Mapping[str, Tensor]) -> Array:
    """Return the norm of the weights that each scaling multiplies."""
    squares = np.zeros(found.n_atoms)
    for axis in found.axes:
        if axis.name not in found.variances:
            rows = state[axis.name].movedim(axis.axis, 0).reshape(axis.size, -1)
            squares[axis.start : axis.start + axis.size] = rows.square().sum(1).numpy()
    return np.sqrt([squares[scaling.up].sum() for scaling in found.scalings])


def _limits(found: Symmetries, state: Mapping[str, Tensor]) -> tuple[Array, Array]:
    """Return between which logarithms of factors no running variance becomes negative."""
    least = np.full(found.n_atoms, -np.inf)
    for axis in found.axes:
        eps = found.variances.get(axis.name, 0.0)
        if eps > 0:
            variance = state[axis.name].double().clamp_min(0).numpy()
            # A little more, against rounding.
            atoms = slice(axis.start, axis.start + axis.size)
            least[atoms] = np.log(eps / (variance + eps)) / 2 + 1e-9
    low = np.array([least[scaling.up].max(initial=-np.inf) for scaling in found.scalings])
    high = np.array([-least[scaling.down].max(initial=-np.inf) for scaling in found.scalings])
    return low, high


def _sorted(found: Symmetries, level: Level, state: Mapping[str, Tensor]) -> Array:
    """Return which atom comes in the place of each so that units are in order."""
    step = np.arange(found.n_atoms)
    for part in level.inner:
        inner = _sorted(found, part, state)
        step = step[inner]
    keys = []
    for part in level.every():
        columns = part.atoms.reshape(len(level.atoms), -1)
        for axis in found.axes if columns.size else ():
            there = columns[:, axis.holds(columns[0])] - axis.start
            rows = state[axis.name].movedim(axis.axis, 0)[torch.from_numpy(there)]
            # Sorted, so that the order of other units has no say.
            keys.append(np.sort(rows.reshape(len(there), -1).numpy(), axis=1))
    together = np.concatenate(keys, axis=1)
    # Rounding must not decide.
    together = np.round(together / max(np.abs(together).max(), 1e-300), 9)
    groups = np.arange(len(level.atoms)).reshape(-1, level.count)
    order = np.concatenate([group[np.lexsort(together[group].T[::-1])] for group in groups])
    move = np.arange(found.n_atoms)
    for part in level.every():
        blocks = part.atoms.reshape(len(level.atoms), -1)
        move[blocks.ravel()] = blocks[order].ravel()
    return step[move]


def random_equivalent(
    model: nn.Module,
    data: Samples,
    *,
    permute: bool = True,
    rescale: float = 1.0,
    random_state: int = 0,
) -> nn.Module:
    """Return a copy that looks different and is the same function: a control for comparisons.

    Parameters
    ----------
    model : torch.nn.Module
    data : Samples
        On which it is followed, and the function of the copy is checked.
    permute : bool
        Draw all permutations uniformly.
    rescale : float
        Standard deviation of the logarithms of factors, from a normal distribution; 0 for none.
        Factors that would make a running variance negative are limited.
    random_state : int

    Raises
    ------
    TypeError
        Data that are not Samples of tensors.
    ValueError
        What :func:`symmetries` refuses, a negative ``rescale``, or the copy is not the same
        function.
    """
    if not 0 <= rescale < math.inf:
        raise ValueError(f"rescale must be finite and not negative, got {rescale}")
    found = symmetries(model, data)
    generator = np.random.default_rng(random_state)
    source = np.arange(found.n_atoms)
    for level in found.levels if permute else ():
        places, sources = assign(
            level, lambda atoms: generator.standard_normal((len(atoms), len(atoms)))
        )
        source[places] = sources
    logs = rescale * generator.standard_normal(len(found.scalings))
    own, own_data, _ = in_double_precision(model, data)
    logs = np.clip(logs, *_limits(found, permuted(state_of(own), found.axes, source)))
    return moved_copy(model, own, own_data, found, source, found.factors(logs))[0]
