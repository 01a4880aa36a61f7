"""Barriers between every two of several networks, and how far their minima differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from geomprobe.evidence import Loss, Samples, require_samples
from geomprobe.findings import Estimate
from geomprobe.landscape.alignment import align
from geomprobe.landscape.barriers import linear_barrier
from geomprobe.landscape.copies import require_alike
from geomprobe.landscape.paths import LARGEST_PASS
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Connectivity(ByValue):
    """Barriers between networks; made by :func:`connectivity_matrix`.

    Parameters
    ----------
    barriers : array of shape (k, k)
        Of the straight line, as the networks are.
    aligned : array of shape (k, k), or None
        The same with the second aligned to the first.
    stderrs, aligned_stderrs : arrays of shape (k, k)
        Over samples.
    losses : array of shape (k,)
        Mean loss of each network.
    loss_stderrs : array of shape (k,)
    spread : Estimate
        Standard deviation of the networks' losses.
    names : tuple of str
    """

    barriers: Array
    stderrs: Array
    aligned: Array | None
    aligned_stderrs: Array | None
    losses: Array
    loss_stderrs: Array
    spread: Estimate
    names: tuple[str, ...]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw barriers as they are above the diagonal, and after alignment below it."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        shown = self.barriers.copy()
        if self.aligned is not None:
            below = np.tril_indices(len(shown), -1)
            shown[below] = self.aligned[below]
        np.fill_diagonal(shown, np.nan)
        image = axes.imshow(shown, cmap="viridis", vmin=0)
        axes.figure.colorbar(image, ax=axes, label="barrier")
        ticks = range(len(self.names))
        axes.set_xticks(ticks, self.names, rotation=45, ha="right")
        axes.set_yticks(ticks, self.names)
        if self.aligned is not None:
            axes.set_title("above: as they are; below: aligned", fontsize="medium")
        return axes


def connectivity_matrix(
    models: Sequence[nn.Module],
    data: Samples,
    loss: Loss,
    *,
    names: Sequence[str] | None = None,
    aligned: bool = True,
    points: int = 11,
    reset_bn: bool = False,
    batch_size: int = LARGEST_PASS,
    **options: Any,
) -> Connectivity:
    """Return the barriers between every two networks, before and after alignment.

    Parameters
    ----------
    models : sequence of torch.nn.Module
        Two or more of one architecture: of several seeds, or checkpoints of a run.
    data : Samples
        Inputs and targets.
    loss : callable
        ``loss(outputs, targets)``: the mean over the samples of a batch.
    names : sequence of str, optional
        By default their numbers.
    aligned : bool
        Also align the second of each two with the first.
    points, reset_bn, batch_size
        As for :func:`linear_barrier`.
    **options
        As for :func:`align`.

    Returns
    -------
    Connectivity

    Raises
    ------
    TypeError
        Data that are not Samples of tensors.
    ValueError
        Fewer than two networks, names of another number, or what :func:`linear_barrier` and
        :func:`align` refuse.

    Notes
    -----
    k (k - 1) / 2 alignments, and twice as many lines. Aligning to a common network instead would
    cost less, and gives larger barriers between the others.
    """
    titles = [str(k) for k in range(len(models))] if names is None else list(names)
    if len(models) < 2 or len(titles) != len(models):
        raise ValueError(
            f"expected two networks or more and a name for each, got {len(models)} networks and "
            f"{len(titles)} names"
        )
    require_alike(
        dict(zip(titles, models, strict=True))
        if len(set(titles)) == len(titles)
        else {f"network {k}": model for k, model in enumerate(models)}
    )
    require_samples(data, targets=True)
    k = len(models)
    matrices = [np.zeros((k, k)) for _ in range(4)]
    ends: dict[int, Estimate] = {}
    for i, j in combinations(range(k), 2):
        others = [models[j]]
        if aligned:
            others.append(align(models[i], models[j], data, **options).model)
        for way, other in enumerate(others):
            found = linear_barrier(
                models[i],
                other,
                data,
                loss,
                points=points,
                reset_bn=reset_bn,
                batch_size=batch_size,
            )
            ends[i] = found.train.ends[0]
            if way == 0:
                ends[j] = found.train.ends[1]
            for matrix, value in zip(
                matrices[2 * way : 2 * way + 2],
                (found.barrier.value, found.barrier.stderr),
                strict=True,
            ):
                matrix[i, j] = matrix[j, i] = value
    losses = np.array([ends[i].value for i in range(k)])
    return Connectivity(
        matrices[0],
        matrices[1],
        matrices[2] if aligned else None,
        matrices[3] if aligned else None,
        losses,
        np.array([ends[i].stderr for i in range(k)]),
        _spread(losses),
        tuple(titles),
    )


def _spread(losses: Array) -> Estimate:
    """Return the standard deviation, with the error it has if losses are normal."""
    k = len(losses)
    deviation = float(losses.std(ddof=1))
    return Estimate(
        deviation,
        deviation / np.sqrt(2 * (k - 1)),
        k,
        method="standard deviation over networks; error of normal losses",
    )
