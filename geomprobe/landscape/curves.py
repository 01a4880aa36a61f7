"""Curves of low loss between two networks, trained by gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples
from geomprobe.findings import Estimate
from geomprobe.hooks import streams_kept
from geomprobe.landscape.copies import copied
from geomprobe.landscape.paths import (
    LARGEST_PASS,
    LossPath,
    Traveller,
    departure,
    mixed,
    paths_of,
)
from geomprobe.storage import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Positions at which the gradient is taken in each step.
_AT_ONCE = 4
#: Their shift from step to step, which covers the curve most evenly.
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, eq=False)
class LowLossCurve:
    """A trained curve between two networks; made by :func:`low_loss_curve`.

    Parameters
    ----------
    path : LossPath
        On the data it was trained on.
    test : LossPath or None
    training : array of shape (steps,)
        Mean loss at the positions of each step.
    kind : str
    points : tuple of dict
        Control points, the two networks among them: tensors by name.
    model : torch.nn.Module
        A copy of the first network, which :meth:`model_at` copies.
    """

    path: LossPath
    test: LossPath | None
    training: Array
    kind: str
    points: tuple[Mapping[str, Tensor], ...]
    model: nn.Module

    @property
    def barrier(self) -> Estimate:
        """Along the curve, on the data it was trained on."""
        return self.path.barrier

    @property
    def test_barrier(self) -> Estimate:
        """Along the curve, on the test data."""
        if self.test is None:
            return Estimate.undefined("no test data were given")
        return self.test.barrier

    @property
    def stretch(self) -> float:
        """Length of the curve over the distance of its ends: 1 for a straight line."""
        first, last = self.points[0], self.points[-1]
        names = [name for name, _ in self.model.named_parameters()]
        chord = math.sqrt(
            sum(float((first[name] - last[name]).double().square().sum()) for name in names)
        )
        return self.path.length / chord if chord else math.nan

    def model_at(self, t: float) -> nn.Module:
        """Return the network at a position between 0 and 1; running statistics are interpolated."""
        if not 0 <= t <= 1:
            raise ValueError(f"t must be between 0 and 1, got {t}")
        shares = _shares(self.kind, len(self.points), t)
        return copied(self.model, mixed(shares, self.points))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the mean loss along the curve."""
        axes = self.path.plot(ax, label="train" if self.test else None)
        if self.test is not None:
            self.test.plot(axes, label="test")
        return axes


def low_loss_curve(
    a: nn.Module,
    b: nn.Module,
    data: Samples,
    loss: Loss,
    *,
    kind: Literal["bezier", "polygon"] = "bezier",
    bends: int = 3,
    steps: int = 600,
    lr: float = 0.05,
    batch_size: int = LARGEST_PASS,
    test: Samples | None = None,
    points: int = 41,
    reset_bn: bool = True,
    random_state: int = 0,
) -> LowLossCurve:
    r"""Train a curve between two networks so that its mean loss is low.

    .. math::
        \min_{\theta_1, \ldots, \theta_k} \; \mathbb E_{t \sim U(0, 1)} \,
        L\bigl(\varphi(t)\bigr), \qquad
        \varphi_{\mathrm{bezier}}(t) = \sum_{i=0}^{k+1} \binom{k+1}{i} (1 - t)^{k + 1 - i} t^i
        \theta_i

    Parameters
    ----------
    a, b : torch.nn.Module
        Of one architecture: the ends, which stay. Both are left as they were.
    data : Samples
        Inputs and targets.
    loss : callable
        ``loss(outputs, targets)``: the mean over the samples of a batch.
    kind : {"bezier", "polygon"}
        A Bézier curve, or a chain of straight pieces of equal time.
    bends : int
        Control points between the ends, k, which are trained.
    steps : int
        Of Adam, with a rate that falls to zero as a cosine; each on one batch, at four positions
        spread over the curve.
    lr : float
        First rate, relative to the size of the parameters and of their differences.
    batch_size : int
        Samples of a step and of a pass.
    test : Samples, optional
        Others, on which the trained curve is looked at too.
    points : int
        Positions on the trained curve, both ends included.
    reset_bn : bool
        Take the running statistics of batch normalization anew from ``data`` wherever the trained
        curve is looked at; in training those of each batch are used.
    random_state : int
        Seed of batches, positions and of a start slightly off the straight line.

    Returns
    -------
    LowLossCurve

    Raises
    ------
    TypeError
        Data that are not Samples of tensors.
    ValueError
        Networks of different architectures or equal ones; no samples or targets; a parameter
        outside its range; a loss that is not one finite number, or not the mean over samples; or
        training that diverged.

    Notes
    -----
    Four gradients a step; ``bends`` times the memory of the parameters, four times over. The
    barrier is that of the best curve found, at the positions looked at: an upper bound of what
    curves can do. Frozen parameters are interpolated.

    References
    ----------
    Garipov, T. et al. (2018). Loss surfaces, mode connectivity, and fast ensembling of DNNs.
    NeurIPS, section 3.
    """
    if kind not in ("bezier", "polygon"):
        raise ValueError(f'kind must be "bezier" or "polygon", got {kind!r}')
    for name, number, least in (("bends", bends, 1), ("steps", steps, 1), ("points", points, 3)):
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be positive and finite, got {lr}")
    traveller, first, last = departure(a, b, data, loss, test, batch_size, reset_bn)
    chain = [mixed((1 - s, s), (first, last)) for s in np.linspace(0, 1, bends + 2).tolist()]
    training = _train(traveller, chain, kind, steps, lr, random_state)

    def at(t: float) -> Mapping[str, Tensor]:
        return mixed(_shares(kind, len(chain), t), chain)

    method = f"{kind} of {bends} bends, {steps} steps; {points} positions"
    path, other = paths_of(traveller, at, points, test, method)
    return LowLossCurve(path, other, training, kind, tuple(chain), copied(a))


def _shares(kind: str, n: int, t: float) -> tuple[float, ...]:
    """Return the share of each of n control points at a position."""
    k = n - 1
    if kind == "bezier":
        return tuple(math.comb(k, i) * (1 - t) ** (k - i) * t**i for i in range(n))
    return tuple(max(0.0, 1 - abs(t * k - i)) for i in range(n))


def _size(values: Tensor) -> float:
    """Return the size of entries: a root mean square in which each counts as its own square."""
    squares = values.square()
    return float((squares.square().sum() / squares.sum()).sqrt())


def _train(
    traveller: Traveller,
    chain: list[dict[str, Tensor]],
    kind: str,
    steps: int,
    lr: float,
    random_state: int,
) -> Array:
    """Train the inner control points in place; return the mean loss of each step."""
    generator = torch.Generator().manual_seed(random_state)
    names = [name for name, p in traveller.model.named_parameters() if p.requires_grad]
    if not names:
        raise ValueError("the networks have no trainable parameters, which a curve could bend")
    ends = torch.cat([chain[k][name].double().ravel() for k in (0, -1) for name in names])
    chord = torch.cat([(chain[0][name] - chain[-1][name]).double().ravel() for name in names])
    if not bool(chord.any()):
        raise ValueError("the networks are equal: there is nothing to connect")
    # Rates are for entries as large as those that matter: of the parameters, and of the way.
    size = min(_size(ends), _size(chord))
    off = 0.01 * float(chord.norm()) / len(chord) ** 0.5
    leaves = []
    for state in chain[1:-1]:
        for name in names:
            noise = torch.randn(
                state[name].shape, generator=generator, dtype=torch.float64, device="cpu"
            )
            start = state[name] + (off * noise).to(state[name])
            state[name] = start.detach().requires_grad_()
            leaves.append(state[name])
    optimizer = torch.optim.Adam(leaves, lr * size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    n = len(traveller.data)
    order = torch.empty(0, dtype=torch.int64, device="cpu")
    shift = float(torch.rand((), generator=generator, device="cpu"))
    history = []
    with streams_kept(), torch.enable_grad(), traveller.batch_statistics():
        for _ in range(steps):
            if len(order) < min(traveller.batch_size, n):
                order = torch.randperm(n, generator=generator, device="cpu")
            rows, order = order[: traveller.batch_size], order[traveller.batch_size :]
            batch = traveller.data.take(rows.to(traveller.data_device))
            shift = (shift + _GOLDEN) % 1.0
            total = 0.0
            optimizer.zero_grad()
            for k in range(_AT_ONCE):
                state = mixed(_shares(kind, len(chain), (k + shift) / _AT_ONCE), chain)
                value = traveller.loss(traveller.outputs(state, batch), batch.targets) / _AT_ONCE
                torch.autograd.backward(value)
                total += float(value.detach())
            if not math.isfinite(total):
                raise ValueError(f"the loss on the curve is {total}: take a smaller lr than {lr}")
            optimizer.step()
            schedule.step()
            history.append(total)
    for state in chain[1:-1]:
        for name in names:
            state[name] = state[name].detach()
    return np.array(history)
