"""Networks with one hidden layer of powers, and the symmetric tensors that they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import factorial
from typing import Any

import numpy as np

from geomprobe.algebraic.cp_decomposition import jennrich
from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.values import ByValue


@dataclass(frozen=True, eq=False)
class ShallowPolynomial(ByValue):
    r"""A network :math:`f_k(x) = \sum_i c_{ki} (w_i \cdot x)^d`, without biases.

    Parameters
    ----------
    inner : array of shape (width, inputs)
        The weight of the first layer.
    outer : array of shape (outputs, width)
        The weight of the second.
    degree : int
        d, at least 1.

    Raises
    ------
    ValueError
        Shapes that do not fit, numbers that are not finite, or a degree below one.
    """

    inner: Array
    outer: Array
    degree: int

    def __post_init__(self) -> None:
        inner, outer = (np.asarray(part, dtype=np.float64) for part in (self.inner, self.outer))
        if inner.ndim != 2 or outer.ndim != 2 or outer.shape[1] != len(inner) or not len(inner):
            raise ValueError(
                "inner must be of shape (width, inputs) and outer of shape (outputs, width), got "
                f"{inner.shape} and {outer.shape}"
            )
        if not np.isfinite(inner).all() or not np.isfinite(outer).all() or self.degree < 1:
            raise ValueError(f"weights must be finite and degree at least 1, got {self.degree}")
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "outer", outer)

    def __call__(self, x: Any) -> Array:
        """Evaluate the network on inputs of shape (n, inputs); returns (n, outputs)."""
        hidden = (np.asarray(x, dtype=np.float64) @ self.inner.T) ** self.degree
        values: Array = hidden @ self.outer.T
        return values

    def tensor(self) -> Array:
        r"""Return the symmetric tensors :math:`\sum_i c_{ki} w_i^{\otimes d}`.

        Returns
        -------
        array of shape (outputs, inputs, ..., inputs)
            Applied to d copies of x they give the outputs.

        Raises
        ------
        MemoryEstimateError
            Too many entries.
        """
        n, d = self.inner.shape[1], self.degree
        require_memory(
            16 * (len(self.outer) + len(self.inner)) * n**d,
            f"a tensor of {d} modes of size {n}",
            "Take a smaller degree or fewer inputs.",
        )
        powers = self.inner
        for _ in range(d - 1):
            powers = (powers[:, :, None] * self.inner[:, None]).reshape(len(self.inner), -1)
        result: Array = (self.outer @ powers).reshape(len(self.outer), *[n] * d)
        return result


@dataclass(frozen=True, eq=False)
class SymmetricDecomposition(ByValue):
    """A network for symmetric tensors; made by :func:`polynomial_network`.

    Parameters
    ----------
    network : ShallowPolynomial
        With first weights of norm one.
    relative_error : float
        Frobenius norm of what its tensor misses, over that of what was given.
    """

    network: ShallowPolynomial
    relative_error: float


def polynomial_network(
    tensor: Any, width: int, *, starts: int = 16, seed: int = 0
) -> SymmetricDecomposition:
    """Return the network of one hidden layer whose tensor is nearest to a given one.

    Parameters
    ----------
    tensor : array of shape (outputs, n, ..., n)
        One symmetric tensor of d modes for each output.
    width : int
        Hidden units: terms of the symmetric CP (Waring) decomposition.
    starts : int
        Starting points: that of simultaneous diagonalisation where ``width`` is at most n, and
        random ones.
    seed : int
        Seed of the starting points.

    Returns
    -------
    SymmetricDecomposition
        The best of all starts, each refined by the method of Levenberg and Marquardt. It need not
        be the best there is; an error of zero says that there is such a network.

    Raises
    ------
    ValueError
        No symmetric tensors of finite numbers, or all zero; a width or number of starts below one.
    MemoryEstimateError
        Too many entries.

    Notes
    -----
    Distances are taken over the different entries, each as often as it occurs. With M of them and
    P = width * (n + outputs), O(M P^2) time for each step.

    References
    ----------
    Comon, P., Golub, G., Lim, L.-H. and Mourrain, B. (2008). Symmetric tensors and symmetric tensor
    rank. SIAM Journal on Matrix Analysis and Applications 30.
    """
    from scipy.optimize import least_squares

    given = _checked(tensor, width, starts)
    outputs, n, degree = len(given), given.shape[1], given.ndim - 1
    entries = np.array(list(combinations_with_replacement(range(n), degree)))
    counts = np.array([_orderings(entry, n) for entry in entries])
    scale = np.sqrt(counts)
    norm = float(np.linalg.norm(given))
    wanted = np.moveaxis(given, 0, -1)[tuple(entries.T)].T * scale / norm
    size = width * (n + outputs)
    require_memory(
        16 * (wanted.size + size) * size,
        f"a decomposition of {wanted.size} entries into {width} terms",
        "Take a smaller tensor.",
    )

    def split(x: Array) -> tuple[Array, Array]:
        return x[: width * n].reshape(width, n), x[width * n :].reshape(outputs, width)

    def powers(inner: Array) -> Array:
        values: Array = np.prod(inner[:, entries], axis=2) * scale
        return values

    def residuals(x: Array) -> Array:
        inner, outer = split(x)
        return _padded((outer @ powers(inner) - wanted).ravel(), size)

    def jacobian(x: Array) -> Array:
        inner, outer = split(x)
        slopes = np.zeros((width, n, len(entries)))
        for mode in range(degree):
            others = np.prod(inner[:, np.delete(entries, mode, axis=1)], axis=2) * scale
            slopes += others[:, None] * np.eye(n)[:, entries[:, mode]]
        by_inner = np.einsum("kw,wim->kmwi", outer, slopes).reshape(-1, width * n)
        by_outer = np.einsum("kl,wm->kmlw", np.eye(outputs), powers(inner))
        whole = np.concatenate([by_inner, by_outer.reshape(-1, outputs * width)], axis=1)
        return _padded(whole, size)

    best, least = np.zeros(size), np.inf
    for inner in _starts(given / norm, width, starts, np.random.default_rng(seed)):
        outer = np.linalg.lstsq(powers(inner).T, wanted.T, rcond=None)[0].T
        start = np.concatenate([inner.ravel(), outer.ravel()])
        found = least_squares(
            residuals, start, jacobian, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        if found.cost < least:
            best, least = found.x, float(found.cost)
        if least < 1e-28:
            break
    inner, outer = split(best)
    lengths = np.linalg.norm(inner, axis=1)
    units = inner / np.where(lengths, lengths, 1.0)[:, None]
    network = ShallowPolynomial(units, norm * outer * lengths**degree, degree)
    return SymmetricDecomposition(network, float(np.sqrt(2 * least)))


def symmetric_tensor(polynomial: Callable[[Array], Any], inputs: int, degree: int) -> Array:
    """Return the symmetric tensors of a function that is a form of some degree in each output.

    Parameters
    ----------
    polynomial : callable
        From inputs of shape (n, inputs) to outputs of shape (n, outputs).
    inputs : int
    degree : int

    Returns
    -------
    array of shape (outputs, inputs, ..., inputs)

    Raises
    ------
    ValueError
        The function is no such form: it misses its own values at further points.
    MemoryEstimateError
        Too many entries.

    Notes
    -----
    Interpolation in the monomials, at random points of several lengths: on one sphere, forms of
    lower degree could pass for such.
    """
    entries = np.array(list(combinations_with_replacement(range(inputs), degree)))
    require_memory(
        8 * (3 * len(entries)) ** 2 + 16 * inputs**degree,
        f"a form of degree {degree} in {inputs} variables",
        "Take a smaller degree or fewer inputs.",
    )
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2 * len(entries) + 2, inputs))
    lengths = rng.uniform(0.5, 1, (len(points), 1))
    points *= lengths / np.linalg.norm(points, axis=1, keepdims=True)
    values = np.asarray(polynomial(points), dtype=np.float64)
    if values.ndim != 2 or len(values) != len(points):
        raise ValueError(f"outputs of {len(points)} inputs have shape {values.shape}")
    monomials = np.prod(points[:, entries], axis=2)
    fitted = np.linalg.lstsq(monomials, values, rcond=None)[0]
    misfit = np.abs(monomials @ fitted - values).max()
    if not misfit <= 1e-6 * np.abs(values).max():
        raise ValueError(
            f"the function is no form of degree {degree}: the best one misses it by {misfit:.2g} "
            f"of {np.abs(values).max():.2g}"
        )
    counts = np.array([_orderings(entry, inputs) for entry in entries])
    tensor = np.zeros((*[inputs] * degree, values.shape[1]))
    every = np.indices((inputs,) * degree).reshape(degree, -1)
    place = {tuple(entry): number for number, entry in enumerate(entries.tolist())}
    which = np.array([place[tuple(sorted(entry))] for entry in every.T.tolist()])
    tensor[tuple(every)] = (fitted / counts[:, None])[which]
    return np.moveaxis(tensor, -1, 0)


def _checked(tensor: Any, width: int, starts: int) -> Array:
    given = np.asarray(tensor, dtype=np.float64)
    if given.ndim < 2 or len(set(given.shape[1:])) != 1 or not given.any():
        raise ValueError(
            "tensor must be of shape (outputs, n, ..., n) and not all zero, got shape "
            f"{given.shape}; one tensor is tensor[None]"
        )
    largest = np.abs(given).max()
    for mode in range(1, given.ndim - 1):
        # Also false of NaN.
        if not np.abs(given - given.swapaxes(mode, mode + 1)).max() <= 1e-9 * largest:
            raise ValueError(
                f"tensor is not symmetric in its modes {mode} and {mode + 1}, or not finite"
            )
    if width < 1 or starts < 1:
        raise ValueError(f"width and starts must be at least 1, got {width} and {starts}")
    return given


def _orderings(entry: Any, n: int) -> int:
    """Count the different orders of the indices of an entry."""
    number = factorial(len(entry))
    for times in np.bincount(entry, minlength=n):
        number //= factorial(int(times))
    return number


def _padded(residuals: Array, rows: int) -> Array:
    """Append zeros, since the solver wants no fewer residuals than variables."""
    missing = max(0, rows - len(residuals))
    return np.concatenate([residuals, np.zeros((missing, *residuals.shape[1:]))])


def _starts(tensor: Array, width: int, starts: int, rng: np.random.Generator) -> list[Array]:
    """Return first weights to start from."""
    n, degree = tensor.shape[1], tensor.ndim - 1
    points = []
    if degree == 2 and len(tensor) == 1:
        values, vectors = np.linalg.eigh(tensor[0])
        order = np.argsort(-np.abs(values))[:width]
        points.append(np.concatenate([vectors[:, order].T, rng.normal(size=(width, n))])[:width])
    elif degree >= 2:
        # The outputs are a further mode, in which there is nothing to see if there is one alone.
        modes = np.moveaxis(tensor, 0, -1)
        found = jennrich(modes[..., 0] if len(tensor) == 1 else modes, width, rng)
        if found is not None:
            points.append(found[0].T)
    while len(points) < starts:
        points.append(rng.normal(size=(width, n)) / np.sqrt(n))
    return points[:starts]
