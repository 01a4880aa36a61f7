"""How far training drifts from what gradient flow conserves, and how far it must."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.clouds import Trajectory
from geomprobe.dynamics.quantities import ConservedQuantities, ConservedQuantity, Tensors
from geomprobe.findings import Estimate
from geomprobe.jacobians import trainable_parameters
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class ConservationDrift(ByValue):
    """Drift of each quantity along a path; made by :func:`conservation_drift`.

    Parameters
    ----------
    times : array of shape (T,)
        Of each state: steps times learning rate, over 1 less the momentum.
    drift : dict of str to array of shape (T,)
        By quantity: the norm of its difference from what gradient flow makes of its first value
        (the same value; with weight decay, an exponentially smaller one), relative to its terms.
    predicted : dict of str to array of shape (T,)
        The same of what the steps must make of it, computed from gradients; empty without these.
    misfit : dict of str to float
        Largest relative difference of the quantity from that prediction: rounding, unless the
        optimizer did something else or the symmetry is not exact.
    """

    times: Array
    drift: Mapping[str, Array]
    predicted: Mapping[str, Array]
    misfit: Mapping[str, float]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a quantity: its largest drift, the predicted one, and the misfit."""
        import pandas as pd

        rows = {
            name: {
                "drift": float(values.max()),
                "predicted": float(self.predicted[name].max()) if self.predicted else math.nan,
                "misfit": self.misfit.get(name, math.nan),
            }
            for name, values in self.drift.items()
        }
        frame: pd.DataFrame = pd.DataFrame.from_dict(rows, orient="index")
        return frame

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the drifts over time; predictions are dashed."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        for name, values in self.drift.items():
            (_line,) = axes.plot(self.times, values, label=name)
            if self.predicted:
                axes.plot(self.times, self.predicted[name], "k--", lw=0.8)
        axes.set(xlabel="steps times learning rate", ylabel="relative drift")
        axes.legend()
        return axes


def conservation_drift(
    states: Iterable[Tensors],
    quantities: ConservedQuantities,
    *,
    lr: float,
    steps: Sequence[int] | None = None,
    gradients: Iterable[Tensors] | None = None,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> ConservationDrift:
    r"""Measure how quantities drift along states of training, and compare with what they must.

    Parameters
    ----------
    states : iterable of dict of str to Tensor
        Parameters by name at two moments or more, such as copies of ``state_dict()``; of a
        :class:`~geomprobe.Trajectory` of all of them, :func:`parameter_states`.
    quantities : ConservedQuantities
    lr : float
        Learning rate :math:`\eta` of SGD.
    steps : sequence of int, optional
        Optimizer step of each state; by default 0, 1, 2, ...
    gradients : iterable of dict of str to Tensor, optional
        Gradients of the loss, without weight decay, at each state but the last, of which each must
        then be one step from the next; the first state must be that before the first step.
    momentum, weight_decay : float
        :math:`\beta` and :math:`\lambda` as torch.optim.SGD has them.

    Returns
    -------
    ConservationDrift

    Raises
    ------
    ValueError
        Fewer states, steps that do not grow, gradients that are not as many as steps between the
        states, a learning rate that is not positive, momentum outside [0, 1), negative decay.

    Notes
    -----
    For a quantity of degree 2 with bilinear form M, the symmetry says :math:`M(\theta, \nabla L) =
    0`, for the gradient of every mini-batch. A step of SGD therefore changes it by exactly

    .. math::
        Q(\theta - \eta g) - Q(\theta) = \eta^2 Q(g),

    which adds up to :math:`O(\eta)` over a fixed time: the drift halves with the learning rate.
    With velocity :math:`v' = \beta v + g + \lambda \theta` and :math:`P = M(\theta, v)`

    .. math::
        Q' = Q - 2 \eta (\beta P + \lambda Q) + \eta^2 Q(v'), \qquad
        P' = \beta P + \lambda Q - \eta\, Q(v').

    Sums (degree 1) do not drift at all without weight decay. Under gradient flow with decay a
    quantity of degree k falls as :math:`e^{-k \lambda t}`.

    References
    ----------
    Kunin et al. (2021) and Du et al. (2018), as of
    :func:`~geomprobe.dynamics.conserved_quantities`.
    """
    _require_optimizer(lr, momentum, weight_decay)
    held = list(states)
    marks = np.arange(len(held)) if steps is None else np.asarray(steps)
    if len(held) < 2 or marks.shape != (len(held),) or not (np.diff(marks) > 0).all():
        raise ValueError(
            f"two states or more are needed, each with a later step than the one before; got "
            f"{len(held)} states and steps {marks[:5].tolist()} ..."
        )
    slopes = None if gradients is None else list(gradients)
    if slopes is not None and (len(slopes) != len(held) - 1 or not (np.diff(marks) == 1).all()):
        raise ValueError(
            f"{len(slopes)} gradients and {len(held)} states at steps {marks[:5].tolist()} ... do "
            "not fit: there must be one gradient from each state to the next, which is one step on"
        )
    times = lr * (marks - marks[0]) / (1 - momentum)
    drift, predicted, misfit = {}, {}, {}
    for one in quantities:
        size = one.size(held[0]) or 1.0
        start = one.evaluate(held[0])
        flow = [start * math.exp(-one.degree * weight_decay * t) for t in times]
        found = [one.evaluate(state) for state in held]
        drift[one.name] = _norms(found, flow) / size
        if slopes is not None:
            expected = list(_expected(one, start, slopes, held, lr, momentum, weight_decay))
            predicted[one.name] = _norms(expected, flow) / size
            misfit[one.name] = float(_norms(found, expected).max() / size)
    return ConservationDrift(times, drift, predicted, misfit)


def drift_order(lrs: Sequence[float], drifts: Sequence[float]) -> Estimate:
    """Return by which power of the learning rate a drift over a fixed time grows.

    Parameters
    ----------
    lrs : sequence of float
        Two learning rates or more.
    drifts : sequence of float
        The drift with each of them, at the same time (steps times learning rate).

    Returns
    -------
    Estimate
        Slope of least squares on logarithmic axes, with its standard error from three on: 1 for
        SGD, where the steps are small.

    Raises
    ------
    ValueError
        Fewer, or numbers that are not positive.
    """
    x, y = np.asarray(lrs, dtype=float), np.asarray(drifts, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or len(np.unique(x)) < 2:
        raise ValueError(f"as many drifts as learning rates, two or more, got {lrs} and {drifts}")
    if not (np.isfinite([x, y]).all() and (x > 0).all() and (y > 0).all()):
        raise ValueError(f"learning rates and drifts must be positive, got {lrs} and {drifts}")
    x, y = np.log(x) - np.log(x).mean(), np.log(y)
    slope = float(x @ y / (x @ x))
    left = y - y.mean() - slope * x
    spread = float(np.sqrt(left @ left / (len(x) - 2) / (x @ x))) if len(x) > 2 else math.nan
    return Estimate(slope, spread, len(x), method="slope of log drift over log learning rate")


def parameter_states(model: nn.Module, trajectory: Trajectory) -> Iterator[dict[str, Tensor]]:
    """Yield the parameters at each point of a trajectory, by name.

    Parameters
    ----------
    model : torch.nn.Module
        Of which the trajectory is.
    trajectory : Trajectory
        Of all trainable parameters, not projected: that of ``TrajectoryRecorder(model)``.

    Raises
    ------
    ValueError
        Another number of coordinates than the model has trainable parameters.
    """
    shapes = {name: value.shape for name, value in trainable_parameters(model).items()}
    size = sum(shape.numel() for shape in shapes.values())
    if trajectory.points.shape[1] != size:
        raise ValueError(
            f"the trajectory has {trajectory.points.shape[1]} coordinates, and the model {size} "
            "trainable parameters; record them all, without dim= and parameters="
        )
    for point in torch.from_numpy(trajectory.points):
        parts = point.split([shape.numel() for shape in shapes.values()])
        yield {
            name: part.view(shape)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }


def _require_optimizer(lr: float, momentum: float, weight_decay: float) -> None:
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be positive and finite, got {lr}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must not be negative, got {weight_decay}")


def _norms(values: Sequence[Tensor], others: Sequence[Tensor]) -> Array:
    return np.array([float((a - b).norm()) for a, b in zip(values, others, strict=True)])


def _expected(
    one: ConservedQuantity,
    start: Tensor,
    gradients: Sequence[Tensors],
    states: Sequence[Tensors],
    lr: float,
    momentum: float,
    decay: float,
) -> Iterator[Tensor]:
    """Yield the quantity at each state, from its first value and the gradients alone."""
    quantity, cross = start, torch.zeros_like(start)
    velocity = {
        w.parameter: torch.zeros(states[0][w.parameter].shape, dtype=torch.float64, device="cpu")
        for w in one.weights
    }
    yield quantity
    for gradient, state in zip(gradients, states, strict=False):
        for name, value in velocity.items():
            added = gradient[name].cpu().double() + decay * state[name].cpu().double()
            velocity[name] = momentum * value + added
        cross = momentum * cross + decay * quantity
        if one.degree == 1:
            quantity = quantity - lr * cross
        else:
            moved = one.evaluate(velocity)
            quantity = quantity - 2 * lr * cross + lr**2 * moved
            cross = cross - lr * moved
        yield quantity
