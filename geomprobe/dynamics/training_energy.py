"""The energy of training with momentum: loss and kinetic energy, and what friction takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geomprobe.clouds import Trajectory
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class TrainingEnergy(ByValue):
    """Energies along a path; made by :func:`training_energy`.

    Parameters
    ----------
    steps : int array of shape (T - 1,)
    loss : array of shape (T - 1,)
        The potential energy.
    kinetic : array of shape (T - 1,)
        Half the squared momentum, the squared length of a step over twice the learning rate.
    friction : array of shape (T - 1,)
        What friction takes in the step that follows, to first order in the root of the
        learning rate: twice the kinetic energy, times 1 less the momentum.
    """

    steps: Array
    loss: Array
    kinetic: Array
    friction: Array

    @property
    def total(self) -> Array:
        """Loss and kinetic energy."""
        energy: Array = self.loss + self.kinetic
        return energy

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss and the total energy."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        axes.plot(self.steps, self.loss, label="loss")
        axes.plot(self.steps, self.total, label="loss and kinetic energy")
        axes.set(xlabel="step", ylabel="energy")
        axes.legend()
        return axes


def training_energy(
    trajectory: Trajectory, *, momentum: float, lr: float | None = None
) -> TrainingEnergy:
    r"""Return the discrete energy of SGD with momentum along its path.

    .. math::
        E_t = L(q_t) + \tfrac12 \lVert p_t \rVert^2, \qquad
        p_t = (q_t - q_{t-1}) / \sqrt{\eta}, \qquad
        E_{t+1} - E_t \approx -(1 - \beta) \lVert p_t \rVert^2

    Parameters
    ----------
    trajectory : Trajectory
        Of every step, with the loss at each point (before the step that leaves it), as
        ``recorder.record(step, loss)`` before ``optimizer.step()`` keeps it. Lengths are those of
        its ``meta["step_norms"]``, before any projection, where they are there.
    momentum : float
        :math:`\beta`, as torch.optim.SGD has it.
    lr : float, optional
        :math:`\eta`; by default that of the optimizer whose rates were recorded, if it has one
        parameter group.

    Returns
    -------
    TrainingEnergy

    Raises
    ------
    ValueError
        Steps left out, losses that are not finite, a learning rate that is not known, momentum
        outside [0, 1).

    Notes
    -----
    The loss on the whole data falls this way; of mini-batch losses the noise is usually larger than
    what friction takes in a step.

    References
    ----------
    França et al. (2020), as of :func:`~geomprobe.dynamics.symplectic_defect`.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if len(trajectory) < 2 or not (np.diff(trajectory.steps) == 1).all():
        raise ValueError("an energy takes every step; record with every=1 and enough points")
    if not np.isfinite(trajectory.losses).all():
        raise ValueError("every point must have a finite loss: recorder.record(step, loss)")
    meta = trajectory.meta
    rates = meta.get("learning_rates")
    if lr is not None:
        eta = np.full(len(trajectory), float(lr))
    elif rates and all(len(one) == 1 and one[0] for one in rates):
        # The rate when a point was recorded is that of the step that leaves it.
        eta = np.array([one[0] for one in rates])
    else:
        raise ValueError("the learning rate was not recorded, or is not one; give lr=")
    if not (eta > 0).all():
        raise ValueError(f"learning rates must be positive, got {eta.min()}")
    norms = meta.get("step_norms")
    if norms is None:
        moves = np.diff(trajectory.points.astype(np.float64), axis=0)
        lengths = np.linalg.norm(moves, axis=1)
    else:
        lengths = np.array([np.nan if one is None else one for one in norms[1:]], dtype=float)
    kinetic = lengths**2 / (2 * eta[:-1])
    friction = 2 * (1 - momentum) * kinetic
    return TrainingEnergy(trajectory.steps[1:], trajectory.losses[1:], kinetic, friction)
