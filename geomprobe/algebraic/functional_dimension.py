"""Functional dimension: in how many directions parameters change what a model computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Samples, forward
from geomprobe.hooks import quiet
from geomprobe.hooks.names import canonical_name
from geomprobe.hooks.precise import in_double_precision
from geomprobe.jacobians import (
    Parameters,
    every_output,
    jacobian_products,
    row_epsilon,
    trainable_parameters,
)
from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cotangents = Callable[[Tensor, Tensor | None], Tensor]

#: A singular value this many times above the tolerance is none of rounding.
_CLEAR = 1e3


@dataclass(frozen=True, eq=False)
class JacobianRank(ByValue):
    """The numerical rank of a Jacobian; made by :func:`functional_dimension`.

    Parameters
    ----------
    rank : int
        The functional dimension on the data.
    rank_of_half : int
        The same on half of the samples: where it is lower, more samples may well give more.
    n_parameters, n_rows : int
        Shape of the Jacobian: trainable parameters, and outputs of all samples.
    singular_values : array of shape (min(n_rows, n_parameters),)
        In falling order.
    tolerance : float
        Below which they count as zero.
    redundancy : dict of str to array
        By parameter, of its shape: the share of each entry in the redundant directions, from 0 to
        1, where the entry changes nothing by itself. All of them sum to ``redundant``.
    silent : dict of str to int
        By parameter, how many entries change no output on the data.
    elsewhere : tuple of int
        Ranks at random parameters of the same size.
    notes : tuple of str
    """

    rank: int
    rank_of_half: int
    n_parameters: int
    n_rows: int
    singular_values: Array
    tolerance: float
    redundancy: Mapping[str, Array]
    silent: Mapping[str, int]
    elsewhere: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def redundant(self) -> int:
        """Directions of the parameters that change no output, to first order."""
        return self.n_parameters - self.rank

    @property
    def drop(self) -> int:
        """By how much the rank is below the largest at random parameters: above 0, singular."""
        return max([self.rank, *self.elsewhere]) - self.rank

    @property
    def gap(self) -> float:
        """Smallest singular value that counts over the largest that does not."""
        if not self.rank:
            return np.inf
        below = max([self.tolerance / _CLEAR, *self.singular_values[self.rank :]])
        return float(self.singular_values[self.rank - 1] / below)

    @property
    def doubtful(self) -> int:
        """How many of the singular values that count are near the tolerance: another might not."""
        return int((self.singular_values[: self.rank] < self.tolerance * _CLEAR).sum())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the singular values, and where they are cut."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        shown = np.maximum(self.singular_values, self.tolerance / _CLEAR**2)
        axes.semilogy(np.arange(1, len(shown) + 1), shown, ".", ms=3)
        axes.axhline(self.tolerance, color="tab:red", lw=1)
        axes.axvline(self.rank + 0.5, color="tab:red", lw=1, ls=":", label=f"rank {self.rank}")
        axes.set(xlabel="index", ylabel="singular value of the Jacobian")
        axes.legend()
        return axes


def functional_dimension(
    model: nn.Module,
    data: Samples,
    *,
    tolerance: float | None = None,
    draws: int = 1,
    seed: int = 0,
) -> JacobianRank:
    r"""Return the rank of the Jacobian of all outputs on data by the parameters.

    .. math::
        \dim_{\mathrm{fun}}(\theta) = \operatorname{rank} \bigl( \partial f_\theta(x_n) /
        \partial \theta \bigr)_{n = 1, \ldots, N}

    Parameters
    ----------
    model : torch.nn.Module
        Smooth or piecewise smooth; a copy in double precision and in evaluation mode is looked at.
        Parameters with ``requires_grad=False`` are constants.
    data : Samples
        Inputs. The rank is at most the number of their outputs.
    tolerance : float, optional
        Relative to the largest singular value; by default the larger side of the Jacobian times the
        machine precision.
    draws : int
        At how many random parameters to take the rank too. There every tensor is drawn from a
        normal distribution with the median size of its entries (all-zero ones with that of all).
    seed : int
        Seed of the draws.

    Returns
    -------
    JacobianRank

    Raises
    ------
    ValueError
        No samples or trainable parameters, outputs that are not one finite real tensor with the
        samples along its first axis, a model that cannot be copied, a tolerance that is not in
        (0, 1), or a negative number of draws.
    MemoryEstimateError
        Too many parameters.

    Notes
    -----
    At a kink the derivative is PyTorch's. A copy in double precision is needed since single
    precision leaves no gap between small and zero singular values; where the model cannot run in
    it, a note says so. With P parameters and R outputs, O(R P min(R, P)) time and
    O(P min(R, P)) memory for each draw, and one more for half of the samples.

    References
    ----------
    Grigsby, J. E., Lindsey, K., Meyerhoff, R. and Wu, C. (2022). Functional dimension of
    feedforward ReLU neural networks. arXiv:2209.04036, definition of the batch functional
    dimension.
    """
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be between 0 and 1, got {tolerance}")
    if draws < 0:
        raise ValueError(f"draws must not be negative, got {draws}")
    trainable_parameters(model)
    copied, data, note = in_double_precision(model, data)
    with quiet(copied):
        half, whole = jacobian_factors(copied, data, _whole)
        parameters = trainable_parameters(copied)
        relative = max(whole.shape) * row_epsilon(parameters) if tolerance is None else tolerance
        _, values, directions = np.linalg.svd(whole, full_matrices=False)
        rank = _rank(values, relative)
        used = 1 - np.square(directions[:rank]).sum(axis=0)
        redundancy = _by_parameter(np.clip(used, 0, 1), parameters)
        silent = _by_parameter(np.logical_not(whole.any(axis=0)), parameters)
        elsewhere = []
        for redrawn in _redrawn(parameters, draws, seed):
            with torch.no_grad():
                for name, value in redrawn.items():
                    copied.get_parameter(name).copy_(value)
            _, there = jacobian_factors(copied, data, _whole)
            elsewhere.append(numerical_rank(there, relative))
        with torch.no_grad():
            n_rows = len(data) * _outputs(copied, data.take(slice(0, 1))).numel()
    return JacobianRank(
        rank=rank,
        rank_of_half=numerical_rank(half, relative),
        n_parameters=whole.shape[1],
        n_rows=n_rows,
        singular_values=values,
        tolerance=float(relative * values[0]),
        redundancy=redundancy,
        silent={name: int(entries.sum()) for name, entries in silent.items()},
        elsewhere=tuple(elsewhere),
        notes=(note,) if note else (),
    )


def jacobian_factors(
    model: nn.Module, data: Samples, cotangents: Cotangents
) -> tuple[Array, Array]:
    """Return matrices with the row space and the singular values of a Jacobian on data.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    data : Samples
    cotangents : callable
        From some outputs, of shape (n, ...), and their targets to C vectors at each, of shape
        (n, C, ...), by which its Jacobian is multiplied.

    Returns
    -------
    half, whole : float64 arrays of shape (at most P, P)
        Of the first half of the samples, and of all.
    """
    parameters = trainable_parameters(model)
    p = sum(parameter.numel() for parameter in parameters.values())
    with torch.no_grad():
        size = _outputs(model, data.take(slice(0, 1))).numel()
    require_memory(
        48 * p * min(max(p, size), size * len(data)),
        f"the Jacobian of {p} parameters",
        "Freeze parameters, or give fewer samples than the model has parameters.",
    )
    batch = max(1, min(p // size, 64))
    middle = len(data) // 2
    whole: Array = np.empty((0, p))
    half = whole
    for start, stop in ((0, middle), (middle, len(data))):
        for some in data.take(slice(start, stop)).batches(batch):
            with torch.no_grad():
                outputs = _outputs(model, some)
            vectors = cotangents(outputs, some.targets)
            rows, _ = jacobian_products(model, parameters, some, outputs, vectors, len(some))
            whole = np.concatenate([whole, rows.double().numpy()])
            if len(whole) > 2 * p:
                whole = np.asarray(np.linalg.qr(whole, mode="r"))
        if len(whole) > p:
            whole = np.asarray(np.linalg.qr(whole, mode="r"))
        half = whole if stop == middle else half
    return half, whole


def numerical_rank(matrix: Array, relative: float) -> int:
    """Count the singular values above a tolerance relative to the largest."""
    return _rank(np.linalg.svd(matrix, compute_uv=False), relative)


def _rank(values: Array, relative: float) -> int:
    return int((values > relative * values[:1].sum()).sum())


def _whole(outputs: Tensor, targets: Tensor | None) -> Tensor:
    return every_output(outputs)


def _outputs(model: nn.Module, data: Samples) -> Tensor:
    outputs = forward(model, data.inputs)
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        kind = outputs.dtype if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(
            f"outputs are {kind}, expected one tensor of real numbers; wrap the model in a module "
            "that returns its logits alone"
        )
    if outputs.ndim == 0 or len(outputs) != len(data):
        raise ValueError(
            f"outputs of {len(data)} samples have shape {tuple(outputs.shape)}; the first axis "
            "must be the samples"
        )
    if not bool(torch.isfinite(outputs).all()):
        raise ValueError("outputs are not finite; leave such samples out, or mend the model")
    return outputs


def _by_parameter(entries: Array, parameters: Parameters) -> dict[str, Array]:
    sizes = np.cumsum([parameter.numel() for parameter in parameters.values()])
    parts = np.split(entries, sizes[:-1])
    return {
        canonical_name(name): part.reshape(parameter.shape)
        for (name, parameter), part in zip(parameters.items(), parts, strict=True)
    }


def _redrawn(parameters: Parameters, draws: int, seed: int) -> Iterator[Parameters]:
    """Yield random parameters of the size of the present ones, tensor by tensor."""
    generator = torch.Generator().manual_seed(seed)
    everything = torch.cat([value.ravel() for value in parameters.values()]).abs()
    overall = float(everything.median()) or 1.0
    sizes = {name: float(value.abs().median()) or overall for name, value in parameters.items()}

    def drawn(value: Tensor) -> Tensor:
        noise = torch.randn(value.shape, generator=generator, dtype=value.dtype, device="cpu")
        return noise.to(value.device)

    for _ in range(draws):
        yield {name: sizes[name] * drawn(value) for name, value in parameters.items()}
