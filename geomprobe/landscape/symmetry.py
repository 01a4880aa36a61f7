"""Permutations and rescalings of parameters that leave a model's function as it is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from geomprobe.evidence import Samples, require_samples
from geomprobe.hooks.precise import in_double_precision
from geomprobe.landscape.copies import (
    State,
    copied,
    outputs_of,
    require_alike,
    state_of,
)
from geomprobe.landscape.matching import assign, permuted
from geomprobe.landscape.structure import Level, levels_of
from geomprobe.landscape.tracing import trace
from geomprobe.landscape.units import Axis, Units
from geomprobe.storage import Array

#: Passes over layers to bring norms to one, at most, and the change of a logarithm that ends it.
_PASSES = 100
_SETTLED = 1e-13


@dataclass(frozen=True, eq=False)
class Scaling:
    """Atoms whose parameters can be multiplied while those of others are divided.

    Parameters
    ----------
    up, down : int arrays
        Atoms.
    trainable : bool
        Whether all are of parameters that require gradients; else buffers or frozen ones scale too.
    """

    up: Array
    down: Array
    trainable: bool


@dataclass(frozen=True, eq=False)
class Symmetries:
    """Permutations and rescalings of a model; made by :func:`symmetries`.

    Parameters
    ----------
    axes : tuple of Axis
        Of parameters and buffers, with their atoms.
    levels : tuple of Level
        Sets of interchangeable units.
    scalings : tuple of Scaling
        Independent factors, one for each unit that can be rescaled.
    pinned : mapping of str to str
        By axis of a tensor, as in ``"fc.weight[1]"``, why nothing there can be permuted.
    variances : mapping of str to float
        Running variances v, and the eps with which they count: v + eps is what scales, by the
        square.
    n_atoms : int
    """

    axes: tuple[Axis, ...]
    levels: tuple[Level, ...]
    scalings: tuple[Scaling, ...]
    pinned: Mapping[str, str]
    variances: Mapping[str, float] = field(default_factory=dict)
    n_atoms: int = 0

    @property
    def log_order(self) -> float:
        """Natural logarithm of the number of permutations."""
        return sum(level.log_order for level in self.levels)

    @property
    def continuous_dimension(self) -> int:
        """Number of independent rescalings of trainable parameters.

        A lower bound for the dimension of the symmetry group: mixing of units, as in linear
        networks, and translations before a softmax are not counted.
        """
        return sum(scaling.trainable for scaling in self.scalings)

    @property
    def spaces(self) -> dict[str, int]:
        """How many units are interchangeable, by the axes that they lie on."""
        return {self.describe(level): level.count for top in self.levels for level in top.every()}

    def describe(self, level: Level) -> str:
        """Name the axes of tensors that the units of a level lie on."""
        atoms = level.atoms if level.atoms.size else level.inner[0].atoms
        lying = [_title(axis) for axis in self.axes if axis.holds(atoms[:1].ravel()).any()]
        return ("" if level.atoms.size else "blocks of ") + ", ".join(lying)

    def __str__(self) -> str:
        lines = [f"{count} units: {title}" for title, count in self.spaces.items()]
        lines += [f"pinned: {title}: {reason}" for title, reason in self.pinned.items()]
        return "\n".join(
            [
                f"permutations: exp({self.log_order:.6g})",
                f"rescalings: {len(self.scalings)}",
                *lines,
            ]
        )

    def apply(self, state: Mapping[str, Tensor], source: Array, log_factors: Array) -> State:
        """Return tensors with atoms brought from elsewhere, and then multiplied.

        Parameters
        ----------
        state : mapping of str to Tensor
        source : int array of shape (n_atoms,)
        log_factors : array of shape (n_atoms,)
        """
        found = permuted(state, self.axes, source)
        factors: dict[str, Tensor] = {}
        for axis in self.axes:
            logs = log_factors[axis.start : axis.start + axis.size]
            if logs.any():
                shape = [1] * found[axis.name].ndim
                shape[axis.axis] = axis.size
                factor = torch.from_numpy(np.exp(logs)).reshape(shape)
                factors[axis.name] = factors.get(axis.name, torch.ones((), device="cpu")) * factor
        for name, factor in factors.items():
            tensor = found[name]
            factor = factor.to(tensor)
            if name in self.variances:
                eps = self.variances[name]
                found[name] = (tensor + eps) * factor.square() - eps
            else:
                found[name] = tensor * factor
        return found

    def factors(self, logs: Array) -> Array:
        """Return logarithms of factors by atom, (n_atoms,), from those of the scalings."""
        found = np.zeros(self.n_atoms)
        for scaling, log in zip(self.scalings, logs.tolist(), strict=True):
            found[scaling.up] = log
            found[scaling.down] = -log
        return found


def symmetries(model: nn.Module, data: Samples) -> Symmetries:
    """Find the permutations and rescalings of a model that leave its function as it is.

    One pass over a sample is followed, operation by operation: which coordinates of which
    parameters and buffers belong to one hidden unit, which units are parts of others (the channels
    of a head, the places of a flattened map), and which cannot move, since the data or the reader
    of the outputs tell them apart or an operation is not understood. A factor is kept where
    operations are positively homogeneous, between the weights into a unit and those out of it.

    Parameters
    ----------
    model : torch.nn.Module
        Looked at in evaluation mode, and left as it was. Any layers; tied and frozen parameters are
        permuted like others. Code that looks at values is followed as it runs for that sample.
    data : Samples
        One input or more.

    Returns
    -------
    Symmetries

    Raises
    ------
    TypeError
        Data that are not Samples of tensors.
    ValueError
        No samples, or a model without parameters or that cannot be copied.

    Notes
    -----
    What is found is right for the operations that were seen; :func:`align`, :func:`canonical` and
    :func:`random_equivalent` check it by the outputs. It need not be everything: channels of
    grouped convolutions keep their places within groups. A scaling before batch normalization
    changes its running mean and variance too, and is exact, eps included.

    References
    ----------
    Hecht-Nielsen, R. (1990). On the algebraic structure of feedforward network weight spaces.
    Ainsworth, S., Hayase, J. and Srinivasa, S. (2023). Git Re-Basin. ICLR, section 3 and appendix.
    """
    require_alike({"the model": model})
    require_samples(data)
    # Batch normalization without running statistics takes those of the samples.
    alone = not any(
        isinstance(module, _BatchNorm) and module.running_mean is None for module in model.modules()
    )
    if not alone and len(data) < 2:
        raise ValueError("batch normalization without running statistics needs two samples, got 1")
    own, one, _ = in_double_precision(model, data.take(slice(0, 1 if alone else 2)))
    units = trace(own, one.inputs)
    order = {name: number for number, name in enumerate(units.used)}
    axes = sorted(units.axes, key=lambda axis: (order.get(axis.name, len(order)), axis.start))
    place = np.zeros(len(units.moves), dtype=np.int64)
    for number, axis in enumerate(axes):
        place[axis.start : axis.start + axis.size] = number

    def first(top: Level) -> int:
        return min(int(place[part.atoms].min(initial=len(axes))) for part in top.every())

    levels = tuple(sorted(levels_of(units), key=first))
    moving = {
        atom for top in levels for level in top.every() for atom in level.atoms.ravel().tolist()
    }
    pinned = {
        _title(axis): _reason(units, axis)
        for axis in axes
        if moving.isdisjoint(range(axis.start, axis.start + axis.size))
    }
    return Symmetries(
        tuple(axes),
        levels,
        tuple(_scalings(units, axes, own)),
        pinned,
        units.variances,
        len(units.moves),
    )


def _title(axis: Axis) -> str:
    return f"{axis.name}[{axis.axis}]"


def _reason(units: Units, axis: Axis) -> str:
    wanted = {units.moves.root(atom)[0] for atom in range(axis.start, axis.start + axis.size)}
    for atom, reason in units.reasons.items():
        if units.moves.root(atom)[0] in wanted:
            return reason
    return "each coordinate is treated in a way of its own"


def _scalings(units: Units, axes: list[Axis], model: nn.Module) -> list[Scaling]:
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    sides: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    leading: dict[int, bool] = {}
    fixed: set[int] = set()
    for axis in axes:
        for atom in range(axis.start, axis.start + axis.size):
            root, sign = units.scales.root(atom)
            if not units.scales.frozen(root):
                leading.setdefault(root, sign > 0)
                sides[root][sign < 0].append(atom)
                if axis.name not in trainable:
                    fixed.add(root)
    # In the order of use: what leads to a unit comes before what leads on from it.
    found = []
    for root, (plus, minus) in sides.items():
        up, down = (plus, minus) if leading[root] else (minus, plus)
        found.append(Scaling(np.array(up), np.array(down, dtype=np.int64), root not in fixed))
    return found


def verify_same_function(
    a: nn.Module, b: nn.Module, data: Samples, *, tolerance: float | None = None
) -> float:
    """Return the largest difference of two models' outputs, relative to the largest output.

    Parameters
    ----------
    a, b : torch.nn.Module
        Copies in double precision and in evaluation mode are compared.
    data : Samples
    tolerance : float, optional
        By default the square root of the machine precision of what they calculate in.

    Raises
    ------
    TypeError
        Data that are not Samples of tensors.
    ValueError
        It is above the tolerance, outputs differ in number or shape, or there are no samples.
    """
    require_samples(data)
    (one, own_data, _), (two, *_) = (in_double_precision(model, data) for model in (a, b))
    return _difference(one, two, own_data, tolerance)


def _difference(a: nn.Module, b: nn.Module, data: Samples, tolerance: float | None = None) -> float:
    ours, theirs = outputs_of(a, data), outputs_of(b, data)
    shapes = [[tuple(part.shape) for part in parts] for parts in (ours, theirs)]
    if shapes[0] != shapes[1] or not ours:
        raise ValueError(f"outputs have shapes {shapes[0]} and {shapes[1]}")
    size = max(float(part.abs().max()) for part in ours)
    difference = max(float((x - y).abs().max()) for x, y in zip(ours, theirs, strict=True))
    relative = difference / size if size > 0 else difference
    allowed = torch.finfo(ours[0].dtype).eps ** 0.5 if tolerance is None else tolerance
    if not relative <= allowed:
        raise ValueError(
            f"the models are not one function: outputs differ by up to {relative:.1e} of the "
            f"largest, and {allowed:.1e} is allowed. Where a copy was permuted, its forward may "
            "depend on the values it sees, or on what is not a parameter"
        )
    return relative


def moved_copy(
    model: nn.Module,
    own: nn.Module,
    data: Samples,
    found: Symmetries,
    source: Array,
    log_factors: Array,
) -> tuple[nn.Module, float]:
    """Return a copy with atoms permuted and rescaled, and by how much its outputs differ.

    That is told by ``own``, the model in double precision, and data in it.

    Raises
    ------
    ValueError
        It is not the same function.
    """
    state = found.apply(state_of(own), source, log_factors)
    difference = _difference(own, copied(own, state), data)
    return copied(model, state), difference


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
