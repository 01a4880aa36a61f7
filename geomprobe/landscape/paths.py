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
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _NormBase
from torch.utils import _pytree as pytree

from geomprobe.evidence import Loss, Samples, forward
from geomprobe.findings import Estimate
from geomprobe.hooks import streams_kept
from geomprobe.landscape.copies import copied, require_data, state_of
from geomprobe.landscape.evaluation import passed
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
        require_data(data, targets=True)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.model = copied(model)
        for module in self.model.modules():
            module.training = False
        self.state = state_of(self.model)
        device = next(iter(self.state.values())).device
        self.data, self.loss, self.batch_size = data.to(device), loss, batch_size
        self.norms = [
            module
            for module in self.model.modules()
            if isinstance(module, _NormBase) and module.running_mean is not None
        ]
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
        some = self.data.take(torch.linspace(0, len(data) - 1, count).long().to(device))
        with streams_kept(), torch.no_grad():
            _require_mean(loss, passed(self.model, some, batch_size), some.targets)

    def losses(self, state: Mapping[str, Tensor], data: Samples | None = None) -> Array:
        """Return the loss of each sample at other parameters and buffers, (n,)."""
        data = self.data if data is None else data.to(self.data_device)
        with streams_kept(), torch.no_grad():
            here = self._renormalized(state) if self.reset_bn else state
            found = [
                _each(self.loss, self.outputs(here, batch), batch.targets)
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
        norms = [
            m for m in own.modules() if isinstance(m, _NormBase) and m.running_mean is not None
        ]
        for norm in norms:
            norm.reset_running_stats()
            norm.training = True
        n, seen = len(self.data), 0
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
        for rows in order.tensor_split(-(-n // self.batch_size)):
            if len(rows) > 1:
                seen += len(rows)
                for norm in norms:
                    norm.momentum = len(rows) / seen
                forward(own, self.data.take(rows.to(self.data_device)).inputs)
        return {name: tensor.clone() for name, tensor in tensors.items()}


def _each(loss: Loss, outputs: Any, targets: Any) -> Tensor:
    """Return the loss of each sample by itself, (n,)."""

    def one(output: Any, target: Any) -> Tensor:
        alone = pytree.tree_map(lambda leaf: leaf[None], (output, target))
        return loss(*alone).reshape(())

    try:
        return vmap(one)(outputs, targets)
    except RuntimeError:  # What vmap cannot follow, such as a loss that asks for values.
        each = Samples(outputs, targets).batches(1)
        return torch.stack([loss(single.inputs, single.targets).reshape(()) for single in each])


def _require_mean(loss: Loss, outputs: Any, targets: Any) -> None:
    together = loss(outputs, targets)
    if not isinstance(together, Tensor) or together.numel() != 1:
        found = tuple(together.shape) if isinstance(together, Tensor) else type(together).__name__
        raise ValueError(
            f"the loss is {found}, expected one number: the mean over the samples of a batch"
        )
    if not bool(torch.isfinite(together)):
        raise ValueError(f"the loss of the first network is {float(together)}")
    alone = float(_each(loss, outputs, targets).double().mean())
    near = max(1e-3, 4 * torch.finfo(together.dtype).eps)
    if not abs(alone - float(together)) <= near * max(abs(alone), abs(float(together)), 1e-12):
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
