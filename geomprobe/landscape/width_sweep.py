"""Networks of growing width: where they can fit the data, and where minima become one valley."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from geomprobe.evidence import Loss, Samples, forward, require_samples
from geomprobe.findings import Estimate
from geomprobe.hooks import quiet, streams_kept
from geomprobe.hooks.precise import in_double_precision
from geomprobe.jacobians import (
    every_output,
    jacobian_products,
    row_epsilon,
    trainable_parameters,
)
from geomprobe.landscape.alignment import align
from geomprobe.landscape.barriers import linear_barrier
from geomprobe.landscape.paths import LARGEST_PASS, Traveller
from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Samples whose Jacobians are taken at a time.
_CHUNK = 32


@dataclass(frozen=True, eq=False)
class WidthSweep(ByValue):
    """Networks of several widths and seeds; made by :func:`width_sweep`.

    Parameters
    ----------
    widths : array of shape (w,)
    n_parameters : array of shape (w,)
    n_outputs : int
        Of all training samples together, N C: what a network must be able to choose to fit any
        targets.
    train, test : arrays of shape (w, s)
        Mean losses of each seed.
    ranks : array of shape (w, s)
        Of the Jacobian of all outputs on the training data.
    ntk_smallest : array of shape (w, s)
        Smallest eigenvalue of the tangent kernel: that Jacobian times its transpose.
    barriers : array of shape (w, s - 1)
        On the line from the first seed's network to each other's, aligned; NaN where aligning
        failed.
    notes : tuple of str
    """

    widths: Array
    n_parameters: Array
    n_outputs: int
    train: Array
    test: Array
    ranks: Array
    ntk_smallest: Array
    barriers: Array
    notes: tuple[str, ...] = ()

    @property
    def threshold(self) -> Estimate:
        """Smallest number of parameters with which the Jacobian has full rank, N C.

        Where all seeds reach it and at the next smaller width some do not, the threshold lies
        between these two: the value is their middle, and the standard error that of a uniform
        distribution in between. NaN where no width, or already the smallest, reaches it.
        """
        method = "full rank of the Jacobian on the training data"
        full = (self.ranks == self.n_outputs).all(axis=1)
        if not full[-1]:
            return Estimate.undefined("the widest network does not reach it", method=method)
        first = int(len(full) - np.argmin(full[::-1])) if not full.all() else 0
        if first == 0:
            return Estimate.undefined("the narrowest network is above it", method=method)
        low, high = self.n_parameters[first - 1], self.n_parameters[first]
        return Estimate(
            (low + high) / 2,
            (high - low) / 12**0.5,
            self.ranks.shape[1],
            method=method,
            note=f"between {low} and {high} parameters, widths {self.widths[first - 1]} and "
            f"{self.widths[first]}",
        )

    def plot(self, axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
        """Draw losses, rank over N C, the kernel's smallest eigenvalue and barriers."""
        import matplotlib.pyplot as plt

        three = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")[1]
        losses, rank, line = three if axes is None else axes
        for values, label in ((self.train, "train"), (self.test, "test")):
            losses.plot(self.widths, values.mean(1), marker="o", label=label)
        losses.set(ylabel="loss", xlabel="width", xscale="log", yscale="log")
        losses.legend()
        rank.plot(self.widths, self.ranks.mean(1) / self.n_outputs, marker="o", label="rank / N C")
        rank.set(xlabel="width", xscale="log", ylabel="rank of the Jacobian / N C")
        beside = rank.twinx()
        beside.semilogy(self.widths, self.ntk_smallest.mean(1), color="tab:red", marker=".")
        beside.set_ylabel("smallest eigenvalue of the kernel", color="tab:red")
        line.plot(self.widths, self.barriers.mean(1), marker="o")
        line.set(xlabel="width", xscale="log", ylabel="barrier after alignment")
        return [losses, rank, line]


def width_sweep(
    build: Callable[[int], nn.Module],
    widths: Sequence[int],
    train: Samples,
    test: Samples,
    loss: Loss,
    fit: Callable[[nn.Module, Samples], object],
    *,
    seeds: Sequence[int] = (0, 1),
    points: int = 11,
    n_jobs: int | None = None,
) -> WidthSweep:
    """Train networks of several widths, and measure what changes where they can fit the data.

    Parameters
    ----------
    build : callable
        From a width to an untrained network.
    widths : sequence of int
        In rising order.
    train, test : Samples
        With targets.
    loss : callable
        ``loss(outputs, targets)``: the mean over the samples of a batch.
    fit : callable
        ``fit(model, train)`` trains a network in place.
    seeds : sequence of int
        Of PyTorch's random stream for building and training; two or more for barriers.
    points : int
        Positions on each line.
    n_jobs : int, optional
        Processes, as joblib understands them; one width and seed each.

    Returns
    -------
    WidthSweep

    Raises
    ------
    TypeError
        Data that are not Samples of tensors.
    ValueError
        Widths that do not rise or no seeds; no samples or targets; or what
        :func:`linear_barrier` refuses.
    MemoryEstimateError
        Jacobians too large.

    Notes
    -----
    The tangent kernel of N samples and C outputs takes (N C)^2 numbers and the Jacobian N C P, in
    double precision.

    References
    ----------
    Belkin, M., Hsu, D., Ma, S. and Mandal, S. (2019). Reconciling modern machine-learning practice
    and the bias-variance trade-off. PNAS 116(32).
    """
    from joblib import Parallel, delayed

    if not len(widths) or list(widths) != sorted(set(widths)) or not len(seeds):
        raise ValueError(
            f"expected widths in rising order and one seed or more, got {list(widths)} and "
            f"{list(seeds)}"
        )
    require_samples(train, targets=True)
    require_samples(test, targets=True)
    jobs = [(width, seed) for width in widths for seed in seeds]
    found = Parallel(n_jobs=n_jobs)(
        delayed(_one)(build, width, seed, train, test, loss, fit) for width, seed in jobs
    )
    shape = len(widths), len(seeds)
    numbers = np.array([one[1] for one in found]).reshape(*shape, 6)
    notes = []
    barriers = np.full((len(widths), len(seeds) - 1), np.nan)
    for i in range(len(widths)):
        for j in range(1, len(seeds)):
            first, other = (found[i * len(seeds) + k][0] for k in (0, j))
            try:
                aligned = align(first, other, train).model
            except ValueError as error:
                notes.append(f"width {widths[i]}, seed {seeds[j]} was not aligned: {error}")
                continue
            line = linear_barrier(first, aligned, train, loss, points=points)
            barriers[i, j - 1] = line.barrier.value
    return WidthSweep(
        np.array(widths),
        numbers[:, 0, 4].astype(int),
        int(numbers[0, 0, 5]),
        numbers[..., 0],
        numbers[..., 1],
        numbers[..., 2].astype(int),
        numbers[..., 3],
        barriers,
        tuple(notes),
    )


def _one(
    build: Callable[[int], nn.Module],
    width: int,
    seed: int,
    train: Samples,
    test: Samples,
    loss: Loss,
    fit: Callable[[nn.Module, Samples], object],
) -> tuple[nn.Module, list[float]]:
    with streams_kept(seed):
        model = build(width)
        fit(model, train)
    traveller = Traveller(model, train, loss, LARGEST_PASS)
    losses = [float(traveller.losses(traveller.state, some).mean()) for some in (train, test)]
    rank, smallest, n_parameters, n_outputs = _kernel(model, train)
    return model, [*losses, rank, smallest, n_parameters, n_outputs]


def _kernel(model: nn.Module, data: Samples) -> tuple[int, float, int, int]:
    """Return the Jacobian's rank, the kernel's smallest eigenvalue, and the Jacobian's shape."""
    own, own_data, _ = in_double_precision(model, data)
    with quiet(own):
        parameters = trainable_parameters(own)
        with torch.no_grad():
            outputs = forward(own, own_data.inputs)
        each, p = outputs[0].numel(), sum(value.numel() for value in parameters.values())
        n = len(own_data) * each
        require_memory(8 * n * (2 * p + n), f"the Jacobian of {n} outputs", "Give fewer samples.")
        vectors = every_output(outputs)
        rows, _ = jacobian_products(own, parameters, own_data, outputs, vectors, _CHUNK)
    values = torch.linalg.svdvals(rows.double())
    tolerance = float(values[0]) * max(n, p) * row_epsilon(parameters)
    smallest = float(values[-1]) ** 2 if len(values) == n else 0.0
    return int((values > tolerance).sum()), smallest, p, n
