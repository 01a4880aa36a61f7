"""The loss on the straight line between two networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from geomprobe.evidence import Loss, Samples
from geomprobe.findings import Estimate
from geomprobe.landscape.paths import LARGEST_PASS, LossPath, departure, mixed, paths_of
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class LinearBarrier(ByValue):
    """Losses on the straight line between two networks; made by :func:`linear_barrier`.

    Parameters
    ----------
    train : LossPath
    test : LossPath or None
    """

    train: LossPath
    test: LossPath | None = None

    @property
    def barrier(self) -> Estimate:
        """On the training data."""
        return self.train.barrier

    @property
    def test_barrier(self) -> Estimate:
        """On the test data."""
        if self.test is None:
            return Estimate.undefined("no test data were given")
        return self.test.barrier

    def plot(self, ax: Axes | None = None, *, label: str | None = None) -> Axes:
        """Draw the losses along the line."""
        axes = self.train.plot(ax, label=label or ("train" if self.test else None))
        if self.test is not None:
            self.test.plot(axes, label=f"{label}, test" if label else "test")
        return axes


def linear_barrier(
    a: nn.Module,
    b: nn.Module,
    data: Samples,
    loss: Loss,
    *,
    test: Samples | None = None,
    points: int = 25,
    reset_bn: bool = False,
    batch_size: int = LARGEST_PASS,
) -> LinearBarrier:
    r"""Return the loss on the straight line between two networks, and the barrier on it.

    .. math::
        B = \max_{\alpha \in [0, 1]} \Bigl[ L\bigl((1 - \alpha) \theta_a + \alpha \theta_b\bigr)
        - (1 - \alpha) L(\theta_a) - \alpha L(\theta_b) \Bigr]

    Parameters
    ----------
    a, b : torch.nn.Module
        Of one architecture. Copies in evaluation mode are looked at. Buffers, running statistics
        among them, are interpolated like parameters; whole numbers are those of a.
    data : Samples
        Inputs and targets, of training.
    loss : callable
        ``loss(outputs, targets)``: the mean over the samples of a batch.
    test : Samples, optional
        Others, for a second barrier.
    points : int
        Positions on the line, both ends included.
    reset_bn : bool
        Take the running statistics of batch normalization anew at every position, from ``data``
        (Jordan et al. 2023): interpolated ones do not fit the activations between the networks.
    batch_size : int
        Samples of a pass.

    Returns
    -------
    LinearBarrier

    Raises
    ------
    TypeError
        Data that are not Samples of tensors.
    ValueError
        Networks of different architectures; no samples or targets; fewer than three points; a loss
        that is not one finite number, not the mean over samples, or not finite at an end.

    Notes
    -----
    ``points`` passes over the data, twice that with ``reset_bn``. The grid may miss a narrow ridge:
    the barrier is a lower bound of that of the line.

    References
    ----------
    Frankle, J., Dziugaite, G. K., Roy, D. and Carbin, M. (2020). Linear mode connectivity and the
    lottery ticket hypothesis. ICML. Entezari, R., Sedghi, H., Saukh, O. and Neyshabur, B. (2022).
    The role of permutation invariance in linear mode connectivity. ICLR, definition 2.1. Jordan,
    K. et al. (2023). REPAIR. ICLR.
    """
    if points < 3:
        raise ValueError(f"points must be at least 3, got {points}")
    traveller, *ends = departure(a, b, data, loss, test, batch_size, reset_bn)
    method = f"straight line, {points} positions" + (
        ", statistics taken anew" if traveller.reset_bn else ""
    )
    return LinearBarrier(
        *paths_of(traveller, lambda t: mixed((1 - t, t), ends), points, test, method)
    )
