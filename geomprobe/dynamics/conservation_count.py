"""How many quantities gradient flow conserves: by formula, and by the rank of a Lie algebra."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacrev, jvp, vmap

#: Relative size above which a vector adds a direction.
_TOLERANCE = 1e-8

#: From parameters of shape (D,) to vector fields as columns, of shape (D, k).
Fields = Callable[[Tensor], Tensor]


def n_conserved(n: int, m: int, r: int) -> int:
    r"""Return how many independent functions gradient flow on :math:`U V^T` conserves.

    Parameters
    ----------
    n, m, r : int
        U has shape (n, r) and V shape (m, r).

    Returns
    -------
    int
        :math:`r (r + 1) / 2` if :math:`n + m \ge r`, else :math:`(n + m) r - (n + m)(n + m - 1) /
        2`: the independent entries of :math:`U^T U - V^T V`. No loss of the product alone conserves
        more, of those that are conserved for all losses.

    Raises
    ------
    ValueError
        A size below 1.

    References
    ----------
    Marcotte, S., Gribonval, R. and Peyré, G. (2023). Abide by the law and follow the flow:
    conservation laws for gradient flows. NeurIPS, section 4 on linear networks.
    """
    if min(n, m, r) < 1:
        raise ValueError(f"n, m and r must be at least 1, got {n}, {m} and {r}")
    rows = n + m
    return r * (r + 1) // 2 if rows >= r else rows * r - rows * (rows - 1) // 2


@dataclass(frozen=True)
class ConservationCount:
    """How many quantities are conserved; made by :func:`count_conserved`.

    Parameters
    ----------
    conserved : int
        Independent functions of the parameters near the point.
    parameters : int
        D, their number.
    ranks : tuple of int
        Directions that gradients can move the parameters in, those of brackets with one more
        gradient, and so on: up to one that adds none.
    gap : float
        Smallest relative size of a direction that was counted over the largest of one that was not:
        near 1 the count is in doubt.
    """

    conserved: int
    parameters: int
    ranks: tuple[int, ...]
    gap: float


def count_conserved(
    reparametrization: Callable[[Tensor], Tensor], point: Tensor, *, depth: int = 6
) -> ConservationCount:
    r"""Count what gradient flow conserves for every loss of a reparametrization.

    Parameters
    ----------
    reparametrization : callable
        :math:`\phi` from parameters of shape (D,) to a tensor, through which alone the loss sees
        them; smooth, and written with torch. Of a two-layer linear network the product of its
        weights; of a neuron of a ReLU network the products of weights into and out of it.
    point : Tensor of shape (D,)
        A generic one, such as random numbers; at special points the count is another.
    depth : int
        Brackets within brackets, at most.

    Returns
    -------
    ConservationCount

    Raises
    ------
    ValueError
        A point of another shape or that is not real, or brackets that still add directions at this
        depth.

    Notes
    -----
    Gradient flow moves the parameters along the fields :math:`\nabla \phi_i`, and so, for all
    losses together, within an orbit whose tangent space is spanned by their iterated Lie brackets
    :math:`[X, Y] = DY\, X - DX\, Y`. By Frobenius' theorem D minus its dimension is the number of
    independent conserved functions. Brackets are formed by forward-mode products, exact to
    rounding; of each level only fields that are independent at the point are kept, which span the
    others near it by functions, so that their brackets suffice. Double precision; ranks by
    Gram-Schmidt with a relative tolerance of 1e-8. For up to some hundred parameters.

    References
    ----------
    Marcotte et al. (2023), section 3.
    """
    if point.ndim != 1 or not len(point) or not point.is_floating_point() or depth < 1:
        raise ValueError(
            f"point must be a real vector and depth at least 1, got shape {tuple(point.shape)}, "
            f"{point.dtype} and {depth}"
        )
    point = point.detach().double()

    def gradients(theta: Tensor) -> Tensor:
        slopes: Tensor = jacrev(reparametrization)(theta)
        return slopes.reshape(-1, len(theta)).T

    frame = _Frame(len(point))
    generators = newest = _chosen(gradients, frame.extend(gradients(point)))
    ranks = [frame.rank]
    for _ in range(depth):
        brackets = _brackets(generators, newest)
        newest = _chosen(brackets, frame.extend(brackets(point)))
        if frame.rank == ranks[-1]:
            return ConservationCount(len(point) - frame.rank, len(point), tuple(ranks), frame.gap)
        ranks.append(frame.rank)
    raise ValueError(
        f"brackets of {depth} levels still add directions, {ranks} by level; give a larger depth"
    )


class _Frame:
    """Directions found so far, orthonormal."""

    def __init__(self, dimension: int) -> None:
        self.basis = torch.zeros(0, dimension, dtype=torch.float64, device="cpu")
        self.least, self.most = 1.0, 0.0

    @property
    def rank(self) -> int:
        return len(self.basis)

    @property
    def gap(self) -> float:
        return self.least / max(self.most, 1e-16)

    def extend(self, fields: Tensor) -> list[int]:
        """Add what is new in some columns, largest first; return which columns that took."""
        columns = fields.T.clone()
        norms = columns.norm(dim=1)
        columns = columns[norms > 0] / norms[norms > 0, None]
        numbers = torch.nonzero(norms > 0).ravel()
        taken: list[int] = []
        while len(columns) and self.rank < self.basis.shape[1]:
            for _ in range(2):  # Once more, for what rounding has left.
                columns = columns - (columns @ self.basis.T) @ self.basis
            sizes = columns.norm(dim=1)
            best = int(sizes.argmax())
            size = float(sizes[best])
            if size <= _TOLERANCE:
                self.most = max(self.most, size)
                break
            self.least = min(self.least, size)
            self.basis = torch.cat([self.basis, columns[best : best + 1] / size])
            taken.append(int(numbers[best]))
        return taken


def _chosen(fields: Fields, columns: list[int]) -> Fields:
    return lambda theta: fields(theta)[:, columns]


def _brackets(one: Fields, other: Fields) -> Fields:
    """Return the brackets of each field of one with each of the other, as columns."""

    def brackets(theta: Tensor) -> Tensor:
        def along(fields: Fields, directions: Tensor) -> Tensor:
            """Differentiate fields along each direction: (directions, D, fields)."""
            moved: Tensor = vmap(lambda v: jvp(fields, (theta,), (v,))[1])(directions.T)
            return moved

        x, y = one(theta), other(theta)
        first = along(other, x)  # (k, D, l): of y_l along x_k.
        second = along(one, y)  # (l, D, k): of x_k along y_l.
        return (first.permute(1, 0, 2) - second.permute(1, 2, 0)).reshape(len(theta), -1)

    return brackets
