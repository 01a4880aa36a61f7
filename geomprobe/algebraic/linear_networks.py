"""Critical points of deep linear networks, classified by theorems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from geomprobe.algebraic.bent_loss import bent_loss
from geomprobe.algebraic.determinantal import are_distinct, inversions
from geomprobe.evidence import Samples
from geomprobe.findings import Estimate
from geomprobe.storage import Array
from geomprobe.values import ByValue

#: Parameters up to which the index is taken from the Hessian itself.
_LARGEST_HESSIAN = 1500


@dataclass(frozen=True, eq=False)
class LinearCriticalPoint(ByValue):
    """What the weights of a linear network are; made by :func:`classify_linear_critical_point`.

    Parameters
    ----------
    kind : str
        ``"not critical"``, ``"global minimum"``, ``"strict saddle"`` (some second derivative is
        negative), ``"non-strict saddle"``, or ``"undetermined"`` where the theorem does not apply.
    pure : bool
        Whether the product of the weights is a critical point among all matrices that the widths
        allow, rather than one that only the parameters make (spurious).
    kept : tuple of int
        Which singular directions of the target the product fits, from 0 for the strongest.
    largest_rank : int
        How many the widths allow.
    morse_index : Estimate
        Number of negative eigenvalues of the Hessian.
    loss, least_loss : float
        Half the mean squared error, and its global minimum at these widths.
    relative_gradient : float
        Gradient norm over what the sizes of its factors would allow.
    notes : tuple of str
    """

    kind: str
    pure: bool
    kept: tuple[int, ...]
    largest_rank: int
    morse_index: Estimate
    loss: float
    least_loss: float
    relative_gradient: float
    notes: tuple[str, ...] = ()


def classify_linear_critical_point(
    weights: Sequence[Any], inputs: Any, targets: Any, *, tolerance: float = 1e-6
) -> LinearCriticalPoint:
    r"""Tell what kind of critical point of the square loss the weights of a linear network are.

    Parameters
    ----------
    weights : sequence of arrays or tensors of shape (width, width below)
        From the first layer to the last; no biases.
    inputs : array or tensor of shape (n, d)
    targets : array or tensor of shape (n, e)
    tolerance : float
        Relative size up to which gradients, singular values and misfits count as zero.

    Returns
    -------
    LinearCriticalPoint

    Raises
    ------
    ValueError
        Shapes that do not fit, numbers that are not finite, a tolerance not in (0, 1).

    Notes
    -----
    With whitened inputs the loss is :math:`\tfrac12 \|W_H \cdots W_1 - M\|^2` and a constant, with
    :math:`M = \sum_i \sigma_i u_i v_i^T`. At a critical point the product is
    :math:`\sum_{i \in S} \sigma_i u_i v_i^T` for a set S (Baldi and Hornik). It is a global minimum
    where S holds the largest singular values, as many as the widths allow; a strict saddle where S
    skips a larger one; and otherwise, by Achour et al., a saddle that is not strict if for each two
    layers i > j one of :math:`W_H \cdots W_{i+1}`, :math:`W_{i-1} \cdots W_{j+1}` and
    :math:`W_{j-1} \cdots W_1` has no more rank than the product, else a strict one. This supposes
    that singular values differ and none is zero.

    It is pure (Trager et al.) if the rank is the largest the widths allow, or M itself is attained.

    With two layers of the product's rank k, hidden width h and :math:`m = \min(d, e)`, the index is
    the inversions of S plus (h - k)(m - k): at zero hidden units the loss is the bilinear form of
    the residual, of rank m - k, for each of them. Otherwise it is counted in the Hessian, up to
    1,500 parameters.

    References
    ----------
    Baldi, P. and Hornik, K. (1989). Neural networks and principal component analysis. Neural
    Networks 2. Trager, M., Kohn, K. and Bruna, J. (2020). Pure and spurious critical points: a
    geometric study of linear networks. ICLR. Achour, E. M., Malgouyres, F. and Gerchinovitz, S.
    (2024). The loss landscape of deep linear neural networks: a second-order analysis. JMLR 25.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be between 0 and 1, got {tolerance}")
    factors, x, y = _checked(weights, inputs, targets)
    n = len(x)
    scores, spread, axes = np.linalg.svd(x, full_matrices=False)
    seen = spread > max(x.shape) * np.finfo(float).eps * spread[:1].sum()
    factors[0] = factors[0] @ (axes[seen].T * spread[seen]) / np.sqrt(n)
    target = y.T @ scores[:, seen] / np.sqrt(n)
    unreachable = max(0.0, float(np.square(y).sum() / n - np.square(target).sum())) / 2

    left, values, right = np.linalg.svd(target, full_matrices=False)
    size = float(values[:1].sum())
    most = min(target.shape[1], *(len(factor) for factor in factors))
    product = _product(factors, target.shape[1])
    residual = product - target
    kept = np.flatnonzero(np.diag(left.T @ product @ right.T) > values / 2)
    fitted = (left[:, kept] * values[kept]) @ right[kept]
    slope = _relative_gradient(factors, residual, size)
    least = float(np.square(values[most:]).sum()) / 2
    loss = float(np.square(residual).sum()) / 2
    notes = []
    if not seen.all():
        notes.append("The inputs do not span their space; directions without data are left out.")

    rank, missed = len(kept), np.delete(values, kept)
    if slope > tolerance or np.linalg.norm(product - fitted) > np.sqrt(tolerance) * size:
        kind = "not critical"
    elif kept.tolist() == list(range(most)) or loss - least <= (tolerance * size) ** 2:
        kind = "global minimum"
    elif not size or not are_distinct(values):
        kind = "undetermined"
        notes.append("Singular values of the target coincide or vanish: the theorem is silent.")
    elif kept.tolist() != list(range(rank)) or rank == most:
        kind = "strict saddle"
    else:
        tight = _is_tightened(_Blocks(factors, size, tolerance), rank)
        kind = "non-strict saddle" if tight else "strict saddle"
    attained = bool((missed <= tolerance * size).all())
    return LinearCriticalPoint(
        kind=kind,
        pure=kind != "not critical" and (rank == most or attained),
        kept=tuple(kept.tolist()),
        largest_rank=most,
        morse_index=_index(factors, target, kind, kept, values, tolerance),
        loss=unreachable + loss,
        least_loss=unreachable + least,
        relative_gradient=slope,
        notes=tuple(notes),
    )


def _checked(weights: Sequence[Any], inputs: Any, targets: Any) -> tuple[list[Array], Array, Array]:
    factors, (x, y) = [_array(weight) for weight in weights], (_array(inputs), _array(targets))
    shapes = [factor.shape for factor in factors]
    if not factors or any(len(shape) != 2 for shape in shapes) or x.ndim != 2 or y.ndim != 2:
        raise ValueError(
            "weights must be matrices, and inputs and targets of shape (samples, size); got "
            f"{shapes}, {x.shape} and {y.shape}"
        )
    if any(below[0] != above[1] for below, above in pairwise(shapes)):
        raise ValueError(f"each weight must be of shape (width, width below), got {shapes}")
    if (x.shape[1], y.shape[1]) != (shapes[0][1], shapes[-1][0]) or len(x) != len(y) or not len(x):
        raise ValueError(
            f"inputs of shape {x.shape} and targets of shape {y.shape} do not fit weights of "
            f"shapes {shapes}, from the first layer to the last"
        )
    if not all(np.isfinite(array).all() for array in (*factors, x, y)) or not x.any():
        raise ValueError("weights, inputs and targets must be finite, and inputs not all zero")
    return factors, x, y


def _array(values: Any) -> Array:
    array: Array = torch.as_tensor(values).detach().cpu().double().numpy()
    return array


def _product(factors: Sequence[Array], size: int) -> Array:
    """Multiply factors, the first last; none are the identity of a size."""
    return reduce(lambda below, factor: factor @ below, factors, np.eye(size))


def _relative_gradient(factors: list[Array], residual: Array, size: float) -> float:
    """Return the norm of all gradients over that of the sizes of their factors."""
    squares = scales = 0.0
    for layer in range(len(factors)):
        above = _product(factors[layer + 1 :], len(factors[layer]))
        below = _product(factors[:layer], residual.shape[1])
        squares += float(np.square(above.T @ residual @ below.T).sum())
        scales += (size * float(np.linalg.norm(above, 2) * np.linalg.norm(below, 2))) ** 2
    return float(np.sqrt(squares / scales)) if scales else float(squares > 0)


@dataclass(frozen=True)
class _Blocks:
    """Products of consecutive layers, and their ranks."""

    factors: list[Array]
    size: float
    tolerance: float

    def rank(self, start: int, stop: int) -> int:
        """Of the layers from start to before stop; of none, the width there."""
        width = self.factors[start].shape[1] if start < len(self.factors) else len(self.factors[-1])
        block = _product(self.factors[start:stop], width)
        values = np.linalg.svd(block, compute_uv=False)
        scale = max(values[0], self.size ** ((stop - start) / len(self.factors)))
        return int((values > self.tolerance * scale).sum())


def _is_tightened(blocks: _Blocks, rank: int) -> bool:
    """Tell whether, for each two layers, a block beside or between them has no more rank."""
    depth = len(blocks.factors)
    return all(
        rank in (blocks.rank(i + 1, depth), blocks.rank(j + 1, i), blocks.rank(0, j))
        for i in range(depth)
        for j in range(i)
    )


def _layer(factor: Array) -> nn.Linear:
    """Return a layer of such weights, without a draw of others before."""
    layer = nn.Linear(len(factor.T), len(factor), bias=False, device="meta")
    layer.weight = nn.Parameter(torch.from_numpy(factor))
    return layer


def _index(
    factors: list[Array], target: Array, kind: str, kept: Array, values: Array, tolerance: float
) -> Estimate:
    """Return the number of negative eigenvalues, by the closed form or from the Hessian."""
    if kind == "not critical":
        return Estimate.undefined("the weights are no critical point")
    rank, blocks = len(kept), _Blocks(factors, values[0], tolerance)
    if (
        len(factors) == 2
        and are_distinct(values)
        and blocks.rank(0, 1) == blocks.rank(1, 2) == rank
    ):
        spare = (len(factors[0]) - rank) * (len(values) - rank)
        return Estimate(inversions(kept) + spare, exact=True, method="closed form of two layers")
    if sum(factor.size for factor in factors) > _LARGEST_HESSIAN:
        reason = f"more than {_LARGEST_HESSIAN} parameters, and no closed form at such weights"
        return Estimate.undefined(reason)
    model = nn.Sequential(*map(_layer, factors))
    data = Samples(
        torch.eye(target.shape[1], dtype=torch.float64, device="cpu"), torch.from_numpy(target.T)
    )
    here = bent_loss(model, data, nn.MSELoss(reduction="sum"))
    return Estimate(
        here.index, exact=True, n=here.gradient.size, method="eigenvalues of the Hessian"
    )
