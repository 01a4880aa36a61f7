"""Quantities that gradient flow conserves, as functions of parameters and of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from torch import Tensor

from geomprobe.dynamics.conservation_count import n_conserved

#: Parameters, or their gradients, by name; a ``state_dict`` will do.
Tensors = Mapping[str, Tensor]

#: Forms: how the rows of the weights become a quantity.
MATRIX, DIAGONAL, SUM = "matrix", "diagonal", "sum"


@dataclass(frozen=True)
class Weights:
    """A parameter as a matrix with one row a unit: the weights into it, or those out of it.

    Parameters
    ----------
    parameter : str
        Its name in the model.
    units : int
    incoming : bool
        Whether the units are rows of the parameter, rather than columns (or blocks of columns, or
        input channels).
    sign : int
        With which it enters the quantity.
    groups : int
        Of a convolution whose input channels the units are.
    part : tuple of int, optional
        Start and length of the rows or columns that count.
    """

    parameter: str
    units: int
    incoming: bool = True
    sign: int = 1
    groups: int = 1
    part: tuple[int, int] | None = None

    def rows(self, tensors: Tensors) -> Tensor:
        """Return the matrix, of shape (units, ...), in double precision on the CPU."""
        tensor = tensors[self.parameter].detach().cpu().double()
        if self.part is not None:
            tensor = tensor.narrow(0 if self.incoming else 1, *self.part)
        if self.incoming:
            return tensor.reshape(self.units, -1)
        outputs, inputs = len(tensor) // self.groups, self.units // self.groups
        blocks = tensor.reshape(self.groups, outputs, inputs, -1)
        return blocks.transpose(1, 2).reshape(self.units, -1)


@dataclass(frozen=True)
class ConservedQuantity:
    r"""A function of the parameters that gradient flow leaves as it is.

    Parameters
    ----------
    name : str
        The layers it belongs to.
    kind : {"balance", "rescaling", "attention", "scale", "translation"}
        The symmetry it comes from; see :func:`~geomprobe.dynamics.conserved_quantities`.
    form : {"matrix", "diagonal", "sum"}
        With A the rows of each of the weights: :math:`\sum \pm A A^T`, the diagonal of it, or
        the sum of the rows.
    weights : tuple of Weights
    norm : str
        The normalisation because of whose eps it is conserved approximately only; else empty.
    """

    name: str
    kind: str
    form: str
    weights: tuple[Weights, ...]
    norm: str = ""

    @property
    def degree(self) -> int:
        """Of the quantity, as a polynomial in the parameters."""
        return 1 if self.form == SUM else 2

    def count(self, tensors: Tensors) -> int:
        """Return how many independent numbers it has; of a matrix, as :func:`n_conserved` says."""
        units = self.weights[0].units
        if self.form == MATRIX:
            widths = [one.rows(tensors).shape[1] for one in self.weights]
            return n_conserved(widths[0], sum(widths[1:]), units)
        return self.evaluate(tensors).numel()

    def evaluate(self, tensors: Tensors) -> Tensor:
        """Return the quantity: a matrix of shape (units, units), or a vector.

        At gradients in the place of the parameters a quantity of degree 2 is what one step of
        gradient descent adds to it, over the squared learning rate.
        """
        if self.form == SUM:
            return reduce(add, (one.rows(tensors).sum(dim=0) for one in self.weights))
        return self.paired(tensors, tensors)

    def paired(self, tensors: Tensors, others: Tensors) -> Tensor:
        """Return the symmetric bilinear form whose diagonal a quantity of degree 2 is."""

        def term(one: Weights) -> Tensor:
            a, b = one.rows(tensors), one.rows(others)
            if self.form == DIAGONAL:
                return one.sign * (a * b).sum(dim=1)
            product = a @ b.T
            return one.sign * (product + product.T) / 2

        return reduce(add, map(term, self.weights))

    def identity(self, tensors: Tensors, gradients: Tensors) -> Tensor:
        r"""Return what the symmetry makes zero, :math:`\langle \nabla L, \xi \rangle`.

        With A and G the rows of weights and of their gradients: :math:`G_1 A_1^T - A_2 G_2^T`, of
        shape (units, units), for a matrix; by unit the sum of :math:`\pm \langle A, G \rangle` for
        a diagonal; the sum of the rows of G for a sum.
        """
        if self.form == SUM:
            return self.evaluate(gradients)
        if self.form == DIAGONAL:
            return self.paired(tensors, gradients)

        def term(one: Weights) -> Tensor:
            product = one.rows(gradients) @ one.rows(tensors).T
            return product if one.sign > 0 else -product.T

        return reduce(add, map(term, self.weights))

    def size(self, tensors: Tensors) -> float:
        """Return what a change of it is held against: the norms of its terms, added up."""
        if self.form == SUM:
            return sum(float(w.rows(tensors).norm()) * math.sqrt(w.units) for w in self.weights)
        return sum(float(w.rows(tensors).square().sum(dim=1).norm()) for w in self.weights)

    def identity_size(self, tensors: Tensors, gradients: Tensors) -> float:
        """Return what a residual of the identity is held against: norms of its terms, added up."""
        if self.form == SUM and all(one.units == 1 for one in self.weights):
            # Nothing cancels in a sum over one row: the gradient itself is zero, beside the others.
            return math.hypot(*(float(one.double().norm()) for one in gradients.values()))
        if self.form == SUM:
            return self.size(gradients)
        return sum(
            float((w.rows(tensors).norm(dim=1) * w.rows(gradients).norm(dim=1)).norm())
            for w in self.weights
        )


@dataclass(frozen=True)
class ConservedQuantities:
    """What a model conserves; made by :func:`~geomprobe.dynamics.conserved_quantities`.

    Parameters
    ----------
    quantities : tuple of ConservedQuantity
        Which iterating goes through.
    left_out : dict of str to str
        By layer, why no quantity starts there.
    """

    quantities: tuple[ConservedQuantity, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.quantities)

    def __iter__(self) -> Iterator[ConservedQuantity]:
        return iter(self.quantities)

    def __getitem__(self, name: str) -> ConservedQuantity:
        for one in self.quantities:
            if one.name == name:
                return one
        raise KeyError(f"no quantity {name!r}; there are {[one.name for one in self.quantities]}")
