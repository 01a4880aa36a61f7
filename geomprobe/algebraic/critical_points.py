"""Where training stopped: minimum, saddle or neither, and which flat directions are symmetries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.algebraic.bent_loss import (
    BentLoss,
    bent_loss,
    parameter_vector,
    set_parameters,
    slope_of,
)
from geomprobe.algebraic.functional_dimension import Cotangents, jacobian_factors
from geomprobe.evidence import Loss, Samples, forward, require_samples
from geomprobe.hooks import quiet
from geomprobe.hooks.precise import in_double_precision, in_precision
from geomprobe.jacobians import row_epsilon, trainable_parameters
from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What :attr:`Stationarity.kind` can be.
KINDS = ("not critical", "minimum", "maximum", "strict saddle", "degenerate")


@dataclass(frozen=True, eq=False)
class Stationarity(ByValue):
    """What kind of point the parameters are; made by :func:`classify_critical_point`.

    Parameters
    ----------
    kind : str
        ``"not critical"``: the loss has a slope. ``"minimum"``: it rises in every direction that is
        no symmetry. ``"strict saddle"``: it falls in some, and rises in others. ``"maximum"``: it
        falls in some and rises in none. ``"degenerate"``: it falls in none, and is flat to second
        order in directions that no symmetry explains, so that second derivatives do not decide
        between a minimum and a saddle that is not strict.
    loss : float
    gradient_norm : float
    relative_gradient : float
        Gradient norm over the largest curvature times the norm of the parameters.
    newton_step : float
        Norm of the Newton step to the critical point, over that of the parameters.
    index : int
        Directions in which the loss falls on both sides (Morse index).
    flat : int
        Eigenvalues within the tolerance around zero.
    symmetric : int
        Flat directions that change what the loss sees of the outputs at no input: the tangents of
        the set of parameters with the same function. 0 at singular parameters, where this set may
        have none; a note says so.
    flat_on_data : int
        Flat directions that change what the loss sees of the outputs at no input of the data; these
        contain the symmetric ones.
    eigenvalues : array of shape (p,)
        Of the Hessian, rising.
    tolerance : float
        Below which an eigenvalue is flat: rounding, and what the remaining slope leaves open.
    moved : float
        How far Newton steps moved the parameters, over their norm.
    notes : tuple of str
    """

    kind: str
    loss: float
    gradient_norm: float
    relative_gradient: float
    newton_step: float
    index: int
    flat: int
    symmetric: int
    flat_on_data: int
    eigenvalues: Array
    tolerance: float
    moved: float
    notes: tuple[str, ...] = ()

    @property
    def n_parameters(self) -> int:
        """Trainable parameters, p."""
        return len(self.eigenvalues)

    @property
    def unexplained(self) -> int:
        """Flat directions that no symmetry explains."""
        return self.flat - self.symmetric

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the eigenvalues in order: falling, flat and rising directions."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        ends = (0, self.index, self.index + self.flat, self.n_parameters)
        for name, colour, start, stop in zip(
            ("falling", "flat", "rising"),
            ("tab:red", "tab:gray", "tab:blue"),
            ends,
            ends[1:],
            strict=False,
        ):
            order = np.arange(start, stop)
            label = f"{name}: {stop - start}"
            axes.plot(order, self.eigenvalues[start:stop], ".", color=colour, label=label)
        largest = float(np.abs(self.eigenvalues).max()) or 1.0
        axes.set_yscale("symlog", linthresh=max(self.tolerance, 1e-4 * largest))
        axes.set(xlabel="index", ylabel="eigenvalue of the Hessian", title=self.kind)
        axes.legend()
        return axes


def classify_critical_point(
    model: nn.Module,
    data: Samples,
    loss: Loss,
    *,
    probe: Samples | None = None,
    newton_steps: int = 0,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> Stationarity:
    """Tell what kind of point of the loss the parameters of a small network are.

    Parameters
    ----------
    model : torch.nn.Module
        A copy in double precision and in evaluation mode is looked at. Parameters with
        ``requires_grad=False`` are constants.
    data : Samples
        Inputs and targets, as in training.
    loss : callable
        ``loss(outputs, targets)``, one number.
    probe : Samples, optional
        Inputs on which symmetries are told from directions that these data alone do not see. By
        default the data, and as many normal inputs of the same mean and covariance as there are
        parameters; where inputs are not one tensor of real numbers, the data.
    newton_steps : int
        Newton steps of the copy towards the critical point nearby, as long as the slope falls.
        Training seldom stops on one.
    tolerance : float
        Relative gradient up to which a point is critical.
    seed : int
        Seed of the probe and of random parameters.

    Returns
    -------
    Stationarity

    Raises
    ------
    ValueError
        No samples, targets or trainable parameters, a loss that is not one finite number, or what
        :func:`functional_dimension` refuses.
    MemoryEstimateError
        Too many parameters.

    Notes
    -----
    All eigenvalues of the Hessian, by p double backward passes. At an exact critical point the
    tangents of symmetries are flat; elsewhere their curvature is of the order of the gradient norm
    over the norm of the parameters, and ten times that is part of the tolerance. Along a flat
    direction the loss may still fall at a higher order.
    O(p) passes over the data and O(p^3) time, O(p^2) memory.
    """
    if newton_steps < 0 or not 0 < tolerance < 1:
        raise ValueError(
            "newton_steps must not be negative, and tolerance in (0, 1); "
            f"got {newton_steps} and {tolerance}"
        )
    require_samples(data, targets=True)
    p = sum(parameter.numel() for parameter in trainable_parameters(model).values())
    require_memory(
        64 * p * p, f"the Hessian of {p} parameters", "Freeze parameters, or take a smaller model."
    )
    copied, data, note = in_double_precision(model, data)
    notes = [note] if note else []
    with quiet(copied):
        start = parameter_vector(copied)
        here = _critical_point_nearby(copied, data, loss, newton_steps)
        moved = float((parameter_vector(copied) - start).norm())
        fitted = _is_fitted(copied, data, loss, tolerance)
        symmetric = on_data = 0
        if here.flat:
            seen = partial(_seen_by, loss)
            on_data = here.flat_within(_kernel(copied, data, seen))
            inputs = _widened(data, p, seed) if probe is None else in_precision(probe, start.dtype)
            wide = Samples(inputs.inputs, _drawn(data.targets, len(inputs), seed))
            everywhere = _kernel(copied, wide, seen)
            _perturb(copied, seed)
            if len(everywhere) == len(_kernel(copied, wide, seen)):
                symmetric = here.flat_within(everywhere)
            else:
                notes.append(
                    "The parameters are singular: the functional dimension grows nearby, and which "
                    "flat directions are symmetries is not told."
                )
    if fitted:
        notes.append(
            "The loss of every sample has no slope in its outputs: the data are fitted, and where "
            "the loss is convex in the outputs this is a global minimum."
        )
    return Stationarity(
        kind=_kind(here, fitted or here.flat == symmetric, tolerance),
        loss=here.value,
        gradient_norm=here.slope,
        relative_gradient=here.relative_gradient,
        newton_step=float(np.linalg.norm(here.newton_step())) / (here.size or 1.0),
        index=here.index,
        flat=here.flat,
        symmetric=symmetric,
        flat_on_data=on_data,
        eigenvalues=here.eigenvalues,
        tolerance=here.tolerance,
        moved=moved / (float(start.norm()) or 1.0),
        notes=tuple(notes),
    )


def _kind(here: BentLoss, explained: bool, tolerance: float) -> str:
    if here.relative_gradient > tolerance:
        return "not critical"
    if here.index:
        rising = len(here.eigenvalues) - here.index - here.flat
        return "strict saddle" if rising else "maximum"
    return "minimum" if explained else "degenerate"


def _critical_point_nearby(model: nn.Module, data: Samples, loss: Loss, steps: int) -> BentLoss:
    """Make Newton steps for a slope of zero, each damped until the slope falls."""
    here, damping = bent_loss(model, data, loss), 1e-3
    for _ in range(steps):
        before = parameter_vector(model)
        for _ in range(8):
            step = torch.from_numpy(here.newton_step(damping)).to(before)
            set_parameters(model, before + step)
            if slope_of(model, data, loss) < here.slope:
                damping /= 10
                break
            damping *= 10
        else:
            set_parameters(model, before)
            break
        here = bent_loss(model, data, loss)
    return here


def _seen_by(loss: Loss, outputs: Tensor, targets: Tensor | None) -> Tensor:
    """Return what a loss sees of each output: its second derivatives, and its slope."""
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(leaf, targets), leaf, create_graph=True)
        rows = [slope.detach()]
        for entry in slope.flatten(1).sum(dim=0):
            if entry.requires_grad:
                rows += torch.autograd.grad(entry, leaf, retain_graph=True, materialize_grads=True)
    return torch.stack(rows, dim=1) * len(outputs)


def _is_fitted(model: nn.Module, data: Samples, loss: Loss, tolerance: float) -> bool:
    """Tell whether the slope of the loss in the outputs is next to nothing beside its curvature."""
    with torch.no_grad():
        outputs = forward(model, data.inputs)
    slope, *curvature = _seen_by(loss, outputs, data.targets).unbind(dim=1)
    steepest = max((float(row.abs().max()) for row in curvature), default=0.0)
    return float(slope.abs().max()) <= tolerance * steepest * float(outputs.abs().max())


def _kernel(model: nn.Module, data: Samples, seen: Cotangents) -> Array:
    """Return orthonormal rows that span the directions in which nothing changes that is seen."""
    factor = jacobian_factors(model, data, seen)[1]
    _, values, directions = np.linalg.svd(factor, full_matrices=True)
    epsilon = row_epsilon(trainable_parameters(model))
    rounding = max(factor.shape) * epsilon * values[:1].sum()
    kernel: Array = directions[int((values > rounding).sum()) :]
    return kernel


def _perturb(model: nn.Module, seed: int) -> None:
    """Move the parameters by a ten-thousandth of their size."""
    here = parameter_vector(model)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(here), generator=generator, dtype=here.dtype, device="cpu").to(here)
    set_parameters(model, here + 1e-4 * float(here.square().mean().sqrt() or 1.0) * noise)


def _drawn(targets: Tensor | None, count: int, seed: int) -> Tensor:
    """Return so many of the targets, drawn at random."""
    assert targets is not None
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(targets), (count,), generator=generator, device="cpu")
    return targets[rows.to(targets.device)]


def _widened(data: Samples, count: int, seed: int) -> Samples:
    """Return the inputs, and so many normal ones with their mean and covariance."""
    inputs = data.inputs
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        return Samples(inputs)
    generator = torch.Generator().manual_seed(seed)
    rows = inputs.flatten(1)
    mixing = torch.randn(count, len(rows), generator=generator, dtype=rows.dtype, device="cpu")
    mixing = mixing.to(rows)
    drawn = rows.mean(dim=0) + mixing @ (rows - rows.mean(dim=0)) / len(rows) ** 0.5
    return Samples(torch.cat([inputs, drawn.view(count, *inputs.shape[1:])]))
