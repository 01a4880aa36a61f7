"""Permutations and rescalings of parameters that leave a model's function as it is."""

from __future__ import annotations

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
from geomprobe.landscape.matching import permuted
from geomprobe.landscape.structure import Level, levels_of
from geomprobe.landscape.tracing import trace
from geomprobe.landscape.units import Axis, Units
from geomprobe.storage import Array


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
    roots, signs = units.scales.signed_roots()
    free = ~units.scales.all_frozen()
    for axis in axes:
        atoms = np.arange(axis.start, axis.start + axis.size)
        atoms = atoms[free[atoms]]
        rows = zip(atoms.tolist(), roots[atoms].tolist(), signs[atoms].tolist(), strict=True)
        for atom, root, sign in rows:
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
