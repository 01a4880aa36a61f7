"""The loss of each sample along a path of parameters, and the barrier on the way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from geomprobe.evidence import Loss, Samples, forward, require_samples
from geomprobe.findings import Estimate
from geomprobe.hooks import streams_kept
from geomprobe.landscape.copies import (
    State,
    copied,
    require_alike,
    require_one_code,
    state_of,
)
from geomprobe.landscape.evaluation import passed
from geomprobe.landscape.single_losses import is_mean, losses_alone, whole_loss
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Samples of a pass, by default.
LARGEST_PASS = 512
#: Samples, at least, on which the loss is checked to be a mean.
_CHECKED = 64


@dataclass(frozen=True, eq=False)
class LossPath(ByValue):
    """Losses of samples along a path between two networks.

    Parameters
    ----------
    positions : array of shape (t,)
        From 0, the first network, to 1, the second.
    losses : array of shape (t, n)
        Of each sample.
    arc : array of shape (t,)
        Euclidean length of the path up to there, in parameters.
    method : str
    """

    positions: Array
    losses: Array
    arc: Array
    method: str = ""

    @property
    def mean(self) -> Array:
        """Mean loss at each position, (t,)."""
        values: Array = self.losses.mean(axis=1)
        return values

    @property
    def stderr(self) -> Array:
        """Standard error of each mean over samples, (t,)."""
        return _stderr(self.losses)

    @property
    def excess(self) -> Array:
        """Of each sample: loss less the straight interpolation of those at the ends, (t, n)."""
        share = self.positions[:, None]
        found: Array = self.losses - (1 - share) * self.losses[0] - share * self.losses[-1]
        return found

    @cached_property
    def barrier(self) -> Estimate:
        """Largest excess of the mean loss over the interpolation of its ends; 0 at least.

        The standard error is over samples, the same at all positions, at the highest position
        inside. That is chosen on the same samples, so that a small barrier is a little too large.
        """
        inside = self.excess[1:-1]
        highest = int(np.argmax(inside.mean(axis=1)))
        n = self.losses.shape[1]
        note = f"highest at {self.positions[1 + highest]:.3g} of {len(self.positions)} positions"
        if n < 2:
            note += "; one sample has no standard error"
        value = max(float(inside[highest].mean()), 0.0)
        error = float(_stderr(inside)[highest])
        return Estimate(value, error, n, method=self.method, note=note)

    @property
    def ends(self) -> tuple[Estimate, Estimate]:
        """Mean losses of both networks."""
        n = self.losses.shape[1]
        first, last = (
            Estimate(self.mean[k], self.stderr[k], n, method="mean over samples") for k in (0, -1)
        )
        return first, last

    @property
    def length(self) -> float:
        """Euclidean length of the path, in parameters."""
        return float(self.arc[-1])

    def plot(self, ax: Axes | None = None, *, label: str | None = None) -> Axes:
        """Draw the mean loss along the path, with a band of two standard errors."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        (line,) = axes.plot(self.positions, self.mean, label=label)
        low, high = self.mean - 2 * self.stderr, self.mean + 2 * self.stderr
        axes.fill_between(self.positions, low, high, color=line.get_color(), alpha=0.2, lw=0)
        axes.set(xlabel="position on the path", ylabel="mean loss")
        if label:
            axes.legend()
        return axes


def _stderr(rows: Array) -> Array:
    n = rows.shape[1]
    if n < 2:
        return np.full(len(rows), np.nan)
    found: Array = rows.std(axis=1, ddof=1) / np.sqrt(n)
    return found


class Traveller:
    """A copy of a model that is put at other parameters, and its loss there.

    Parameters
    ----------
    model : torch.nn.Module
    data : Samples
        With targets.
    loss : callable
        ``loss(outputs, targets)``: the mean over the samples of a batch.
    batch_size : int
    reset_bn : bool
        Take the statistics of batch normalization anew from ``data`` at every place.

    Raises
    ------
    ValueError
        No samples or targets, a batch size below one, a model that cannot be copied, or a loss that
        is not one finite number, or not the mean over samples.
    """

    def __init__(
        self, model: nn.Module, data: Samples, loss: Loss, batch_size: int, reset_bn: bool = False
    ) -> None:
        require_samples(data, targets=True)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.model = copied(model)
        for module in self.model.modules():
            module.training = False
        self.state = state_of(self.model)
        device = next(iter(self.state.values())).device
        self.data, self.loss, self.batch_size = data.to(device), loss, batch_size
        self.norms = _norms(self.model)
        self.reset_bn = reset_bn and bool(self.norms)
        if self.reset_bn and len(data) < 2:
            raise ValueError("statistics of batch normalization need at least two samples")
        if self.reset_bn and batch_size < 2:
            raise ValueError(
                "statistics of batch normalization need batches of two samples or more: give a "
                f"larger batch_size than {batch_size}, or reset_bn=False"
            )
        # Of all classes, where the data are sorted by them.
        count = min(len(data), max(batch_size, _CHECKED))
        some = self.data.take(
            torch.linspace(0, len(data) - 1, count, device="cpu").long().to(device)
        )
        with streams_kept(), torch.no_grad():
            _require_mean(loss, passed(self.model, some, batch_size), some.targets)

    def losses(self, state: Mapping[str, Tensor], data: Samples | None = None) -> Array:
        """Return the loss of each sample at other parameters and buffers, (n,)."""
        data = self.data if data is None else data.to(self.data_device)
        with streams_kept(), torch.no_grad():
            here = self._renormalized(state) if self.reset_bn else state
            found = [
                losses_alone(self.loss, self.outputs(here, batch), batch.targets)
                for batch in data.batches(self.batch_size)
            ]
        return torch.cat(found).double().cpu().numpy()

    @property
    def data_device(self) -> torch.device:
        """Where the model is."""
        return next(iter(self.state.values())).device

    def outputs(self, state: Mapping[str, Tensor], batch: Samples) -> Any:
        """Return the model's outputs at other parameters and buffers."""

        def call(*args: Any, **kwargs: Any) -> Any:
            return functional_call(self.model, dict(state), args, kwargs)

        return forward(call, batch.inputs)

    @contextmanager
    def batch_statistics(self) -> Iterator[None]:
        """Let batch normalization use the statistics of each batch for a while."""
        for module in self.norms:
            module.training, module.momentum = self.reset_bn, 0.0
        try:
            yield
        finally:
            for module in self.norms:
                module.training = False

    def _renormalized(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors with running statistics that are the mean over the batches of the data.

        Batches of one size, or nearly so, in random order: sorted ones would vary less than the
        data do.
        """
        own = copy.deepcopy(self.model)
        tensors = state_of(own)
        for name, value in state.items():
            tensors[name].copy_(value)
        norms = _norms(own)
        for norm in norms:
            norm.reset_running_stats()
            norm.training = True
        n, seen = len(self.data), 0
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0), device="cpu")
        for rows in order.tensor_split(-(-n // self.batch_size)):
            if len(rows) > 1:
                seen += len(rows)
                for norm in norms:
                    norm.momentum = len(rows) / seen
                forward(own, self.data.take(rows.to(self.data_device)).inputs)
        return {name: tensor.clone() for name, tensor in tensors.items()}


def _norms(model: nn.Module) -> list[_NormBase]:
    """Return the batch normalizations that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _NormBase) and m.running_mean is not None]


def _require_mean(loss: Loss, outputs: Any, targets: Any) -> None:
    together = whole_loss(loss, outputs, targets, "of the first network")
    if not is_mean(together, losses_alone(loss, outputs, targets), 1e-3):
        raise ValueError(
            "the loss of a batch is not the mean of those of its samples, and a barrier has no "
            'standard error then: give a loss with reduction="mean" and without weights of '
            "classes or targets that are ignored"
        )


def path_losses(
    traveller: Traveller,
    state_at: Callable[[float], Mapping[str, Tensor]],
    positions: Array,
    weights: Sequence[str],
    data: Samples | None = None,
    method: str = "",
) -> LossPath:
    """Return the losses along a path, and its length in the tensors ``weights``.

    Raises
    ------
    ValueError
        Losses at an end that are not finite.
    """
    rows, arc, before = [], [0.0], None
    for position in positions.tolist():
        state = state_at(position)
        rows.append(traveller.losses(state, data))
        if before is not None:
            squares = sum(
                float((state[name] - before[name]).double().square().sum()) for name in weights
            )
            arc.append(arc[-1] + squares**0.5)
        before = {name: state[name] for name in weights}
    losses = np.array(rows)
    for k, title in ((0, "first"), (-1, "second")):
        if not np.isfinite(losses[k]).all():
            bad = int((~np.isfinite(losses[k])).sum())
            raise ValueError(
                f"the loss of the {title} network is not finite for {bad} of {losses.shape[1]} "
                "samples"
            )
    return LossPath(positions, losses, np.array(arc), method)


def paths_of(
    traveller: Traveller,
    state_at: Callable[[float], Mapping[str, Tensor]],
    points: int,
    test: Samples | None,
    method: str,
) -> tuple[LossPath, LossPath | None]:
    """Return the losses along a path on the traveller's own data, and on others if there are any.

    Raises
    ------
    ValueError
        What :func:`path_losses` refuses.
    """
    weights = [name for name, _ in traveller.model.named_parameters()]
    grid = np.linspace(0, 1, points)

    def on(samples: Samples) -> LossPath:
        return path_losses(traveller, state_at, grid, weights, samples, method)

    return on(traveller.data), None if test is None else on(test)


def departure(
    a: nn.Module,
    b: nn.Module,
    data: Samples,
    loss: Loss,
    test: Samples | None,
    batch_size: int,
    reset_bn: bool,
) -> tuple[Traveller, State, State]:
    """Check two networks and data; return a traveller, and the tensors of both where it is.

    Raises
    ------
    TypeError
        Data that are not Samples of tensors.
    ValueError
        Networks of different architectures, and what :class:`Traveller` refuses.
    """
    require_alike({"a": a, "b": b})
    if test is not None:
        require_samples(test, targets=True)
    traveller = Traveller(a, data, loss, batch_size, reset_bn)
    require_one_code(a, b, data)
    device = traveller.data_device
    last = {name: tensor.to(device) for name, tensor in state_of(copied(b)).items()}
    return traveller, state_of(copied(a)), last


def mixed(shares: Sequence[float], states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the combination of tensors with these shares; one of share 1 is returned as it is."""
    if 1.0 in shares and sum(share != 0 for share in shares) == 1:
        return dict(states[shares.index(1.0)])
    return {
        name: sum(
            (share * state[name] for share, state in zip(shares, states, strict=True)),
            start=torch.zeros_like(states[0][name]),
        )
        for name in states[0]
    }
