"""The length of a training path in the Fisher metric: how far the predictions have moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from geomprobe.clouds import Trajectory
from geomprobe.dynamics.output_metric import Metric, pushed, require_metric, squared
from geomprobe.evidence import Samples, require_samples
from geomprobe.findings import Estimate
from geomprobe.hooks import quiet
from geomprobe.jacobians import split, trainable_parameters
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array
from geomprobe.values import ByValue


@dataclass(frozen=True, eq=False)
class NaturalLength(ByValue):
    """A path in the Fisher metric; made by :func:`natural_length`.

    Parameters
    ----------
    steps : int array of shape (T,)
    squares : array of shape (T - 1, N)
        Squared length of each segment, of each sample.
    euclidean : array of shape (T - 1,)
        Length of each segment in the parameters.
    """

    steps: Array
    squares: Array
    euclidean: Array

    @property
    def segments(self) -> Array:
        """Length of each segment, of shape (T - 1,)."""
        lengths: Array = np.sqrt(self.squares.mean(axis=1))
        return lengths

    @property
    def length(self) -> Estimate:
        """Length of the path, with the standard error of having drawn these samples."""
        n = self.squares.shape[1]

        def of(samples: Array) -> float:
            return float(np.sqrt(self.squares[:, samples].mean(axis=1)).sum())

        method = "JVP at the middle of each segment; delete-half jackknife over samples"
        return Estimate(of(np.arange(n)), float(delete_half_stderr(of, n)), n, method=method)

    @property
    def per_unit(self) -> Array:
        """Natural over Euclidean length of each segment: NaN where the path stood still."""
        moved = self.euclidean > 0
        empty = np.full(len(moved), np.nan)
        ratios: Array = np.divide(self.segments, self.euclidean, out=empty, where=moved)
        return ratios


def natural_length(
    model: nn.Module,
    data: Samples,
    trajectory: Trajectory,
    *,
    metric: Metric = "softmax",
    batch_size: int = 256,
) -> NaturalLength:
    r"""Measure a path of exact parameters in the Fisher metric, without a Fisher matrix.

    .. math::
        \ell = \sum_t \sqrt{\delta_t^T F(\bar\theta_t)\, \delta_t}, \qquad
        \delta^T F \delta = \frac{1}{N} \sum_n (J_n \delta)^T H_n (J_n \delta)

    with :math:`\delta_t` from one point to the next, :math:`\bar\theta_t` the middle of the two,
    and :math:`H_n = \operatorname{diag}(p) - p p^T` for a softmax.

    Parameters
    ----------
    model : torch.nn.Module
        Looked at in evaluation mode with its present buffers, and left as it was.
    data : Samples
        N inputs.
    trajectory : Trajectory
        Of all trainable parameters, in the model's order and not projected: that of
        ``TrajectoryRecorder(model)``.
    metric : {"softmax", "euclidean"} or likelihood
        At the outputs: of logits, of the outputs as they are, or of a likelihood such as
        :class:`~geomprobe.information.Gaussian`, which leaves out what the targets call padding.
    batch_size : int
        Samples of a pass.

    Returns
    -------
    NaturalLength

    Raises
    ------
    ValueError
        No samples, another metric, a softmax of one logit, outputs that are not finite, points that
        are not, of another number of coordinates than the model has parameters, or fewer than two.
    TypeError
        Data that are no samples of tensors; a metric without ``rows``; outputs that are not one
        tensor of at least two axes.

    Notes
    -----
    To second order in the length of a segment :math:`\delta^T F \delta / 2` is the
    Kullback-Leibler divergence of the predictions at its ends, averaged over the inputs, so that
    the natural length does not change with the parametrisation. The rule of the middle is right to
    third order in a segment: with every tenth step recorded the length is that of the polygon
    through every tenth step. One forward-mode product a segment and batch.

    References
    ----------
    Amari, S. (2016). Information Geometry and Its Applications. For natural length along training:
    Rao, C. R. (1945). Information and the accuracy attainable in the estimation of statistical
    parameters. Bulletin of the Calcutta Mathematical Society 37.
    """
    require_metric(metric)
    require_samples(data)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    parameters = trainable_parameters(model)
    size = sum(value.numel() for value in parameters.values())
    points = trajectory.points
    if points.shape[1] != size:
        raise ValueError(
            f"the trajectory has {points.shape[1]} coordinates, and the model {size} trainable "
            "parameters; record them all, TrajectoryRecorder(model) without dim= and parameters="
        )
    if len(points) < 2 or not np.isfinite(points).all():
        raise ValueError(
            f"a length takes two points or more, all finite; there are {len(points)}, of which "
            f"{int((~np.isfinite(points).all(axis=1)).sum())} are not"
        )
    data = data.to(next(iter(parameters.values())).device)
    squares = np.empty((len(points) - 1, len(data)))
    with quiet(model):
        for row, before, after in zip(squares, points, points[1:], strict=False):
            middle = split(torch.from_numpy((before.astype(float) + after) / 2), parameters)
            along = split(torch.from_numpy(after.astype(float) - before), parameters)
            done = 0
            for batch in data.batches(batch_size):
                outputs, moved = pushed(model, batch, middle, along)
                found = squared(metric, outputs, moved, batch.targets)
                row[done : done + len(batch)] = found.cpu().numpy()
                done += len(batch)
    if not np.isfinite(squares).all():
        raise ValueError("the outputs, or their changes, are not finite along the path")
    euclidean = np.linalg.norm(np.diff(points.astype(float), axis=0), axis=1)
    return NaturalLength(trajectory.steps, squares, euclidean)
