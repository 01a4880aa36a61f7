"""Neurovarieties: what networks with a power as activation express, and in how many ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from geomprobe.algebraic.prime_field import PRIMES, CertifiedRank, PrimeField, certified_rank
from geomprobe.storage import Array


@dataclass(frozen=True)
class Neurovariety:
    """The set of functions of a polynomial network; made by :func:`neurovariety_dimension`.

    Parameters
    ----------
    widths : tuple of int
        Inputs, hidden layers, outputs.
    degree : int
        The activation is x to this power.
    bias : bool
        Whether layers have biases.
    n_parameters : int
    ambient : int
        Dimension of the space of all tuples of polynomials of that degree.
    certificate : CertifiedRank
        The rank of the Jacobian, and what it is worth.
    """

    widths: tuple[int, ...]
    degree: int
    bias: bool
    n_parameters: int
    ambient: int
    certificate: CertifiedRank

    @property
    def dimension(self) -> int:
        """Of the variety, as an affine cone: how many parameters the functions really have."""
        return self.certificate.rank

    @property
    def expected(self) -> int:
        """Parameters less one scaling for each hidden unit, and no more than the ambient space."""
        return self.certificate.bound

    @property
    def defect(self) -> int:
        """By how much the dimension is below what is expected."""
        return self.expected - self.dimension

    @property
    def fibre_dimension(self) -> int:
        """Dimension of the set of parameters that give one and the same generic function."""
        return self.n_parameters - self.dimension

    @property
    def filling(self) -> bool:
        """Whether the functions have the dimension of the ambient space.

        They are then dense in it over the complex numbers, and contain an open set over the real.
        """
        return self.dimension == self.ambient


def neurovariety_dimension(
    widths: Sequence[int], degree: int, *, bias: bool = False, seed: int = 0
) -> Neurovariety:
    r"""Return the dimension of the set of functions of a network with activation x to a power.

    The network is :math:`f(x) = W_L \sigma(W_{L-1} \sigma(\cdots \sigma(W_1 x)))` with
    :math:`\sigma(z) = z^{\mathrm{degree}}` after every layer but the last. Its outputs are forms
    of degree :math:`\mathrm{degree}^{L-1}`; the closure of the set of all of them is the
    neurovariety.

    Parameters
    ----------
    widths : sequence of int
        Inputs, hidden layers, outputs: ``(3, 2, 1)`` has two layers of weights.
    degree : int
        Power of the activation; 1 is a linear network.
    bias : bool
        Whether each layer has a bias; the outputs are then polynomials, not forms.
    seed : int
        Seed of the random parameters and inputs.

    Returns
    -------
    Neurovariety

    Raises
    ------
    ValueError
        Fewer than two widths, a width or degree below one, or outputs of a degree beyond the
        primes.
    MemoryEstimateError
        The Jacobian would take too much memory.

    Notes
    -----
    The dimension is the generic rank of the Jacobian of the outputs by the parameters, taken
    exactly at random points modulo two primes: a lower bound that is wrong with the
    ``error_probability`` of its certificate, and proven where it is as expected.
    O(P^3) time and O(P^2) memory for P parameters.

    References
    ----------
    Kileel, J., Trager, M. and Bruna, J. (2019). On the expressive power of deep polynomial neural
    networks. NeurIPS.
    Finkel, B., Rodriguez, J. I., Wu, C. and Yahl, T. (2024). Activation degree thresholds and
    expressiveness of polynomial neural networks. arXiv:2408.04569.
    """
    widths = tuple(int(width) for width in widths)
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(
            "widths must be those of inputs, hidden layers and outputs, at least two numbers of at "
            f"least 1, got {widths}"
        )
    if degree < 1:
        raise ValueError(f"degree must be at least 1, got {degree}")
    layers = len(widths) - 1
    total = degree ** (layers - 1)
    if total >= min(PRIMES):
        raise ValueError(
            f"the outputs have degree {degree}^{layers - 1}, beyond the primes that are "
            "calculated with; take fewer layers or a smaller degree"
        )
    fan_in = [width + bias for width in widths[:-1]]
    n_parameters = sum(a * b for a, b in zip(fan_in, widths[1:], strict=True))
    monomials = comb(widths[0] + total, total) if bias else comb(widths[0] - 1 + total, total)
    ambient = widths[-1] * monomials

    def values(field: PrimeField, rng: np.random.Generator, n: int) -> Array:
        weights = [field.draw(rng, b, a) for a, b in zip(fan_in, widths[1:], strict=True)]
        return _jacobian(field, weights, degree, field.draw(rng, n, widths[0]), bias)

    certificate = certified_rank(
        values,
        rows=n_parameters,
        bound=min(n_parameters - sum(widths[1:-1]), ambient),
        per_point=widths[-1],
        degree=sum(degree**layer for layer in range(layers)) - 1 + total,
        seed=seed,
        what=f"the Jacobian of a network of widths {widths}",
    )
    return Neurovariety(widths, degree, bias, n_parameters, ambient, certificate)


def _jacobian(
    field: PrimeField, weights: list[Array], degree: int, inputs: Array, bias: bool
) -> Array:
    """Return the derivatives of all outputs by all weights, of shape (P, n * outputs).

    Without the factor ``degree`` of each activation's slope, which does not change the rank.
    """
    n, outputs = len(inputs), len(weights[-1])
    below, slopes = [], []
    for weight in weights:
        if bias:
            inputs = np.concatenate([inputs, np.ones((n, 1))], axis=1)
        below.append(inputs)
        sums = field.product(inputs, weight.T)
        slopes.append(field.power(sums, degree - 1))
        inputs = field.power(sums, degree)
    back = np.broadcast_to(np.eye(outputs), (n, outputs, outputs))
    blocks: list[Array] = []
    for weight, inputs, slope in zip(
        weights[::-1], below[::-1], [None, *slopes[-2::-1]], strict=True
    ):
        if slope is not None:
            back = field.times(back, slope[:, None])
        block = field.times(back.transpose(2, 0, 1)[:, None], inputs.T[None, :, :, None])
        blocks.append(block.reshape(weight.size, n * outputs))
        back = field.product(back, weight[:, : weight.shape[1] - bias])
    return np.concatenate(blocks)
