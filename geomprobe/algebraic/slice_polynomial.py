"""The best polynomial for a model along a segment or on a plane of inputs, by Chebyshev series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import forward
from geomprobe.hooks import quiet
from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Nodes along each axis for each degree that is asked for, lest higher degrees pass for lower ones.
_NODES = 4


@dataclass(frozen=True, eq=False)
class SlicePolynomial(ByValue):
    """Polynomials of every degree that fit a model on a slice; made by :func:`slice_polynomial`.

    Parameters
    ----------
    coefficients : array of shape (max_degree + 1,) * q + (outputs,)
        Of the products of Chebyshev polynomials of the coordinates; those of a total degree above
        the largest are zero.
    variation : float
        Mean square of the outputs about their mean, in the Chebyshev measure, summed over outputs.
    errors : array of shape (max_degree + 1,)
        Root mean square error of the best polynomial of each total degree, over the root of the
        variation; 0 where there is none.
    """

    coefficients: Array
    variation: float
    errors: Array

    def degree(self, tolerance: float) -> float:
        """Return the smallest degree whose error is within the tolerance; inf where none is."""
        within = np.flatnonzero(self.errors <= tolerance)
        return float(within[0]) if len(within) else np.inf

    def __call__(self, coordinates: Any, degree: int | None = None) -> Array:
        """Evaluate the polynomial of a degree.

        Parameters
        ----------
        coordinates : array of shape (n, q), or (n,) along a segment
            From 0, at the first corner, to 1 at each of the others.
        degree : int, optional
            By default the largest.

        Returns
        -------
        array of shape (n, outputs)
        """
        most = len(self.errors) - 1
        t = np.asarray(coordinates, dtype=np.float64)
        t = t[:, None] if t.ndim == 1 else t
        values = self.coefficients
        if degree is not None and degree < most:
            values = np.where((_total_degree(values.shape[:-1]) <= degree)[..., None], values, 0.0)
        basis = [np.polynomial.chebyshev.chebvander(2 * along - 1, most) for along in t.T]
        values = np.tensordot(basis[0], values, axes=1)
        for along in basis[1:]:
            values = np.einsum("nk,nk...->n...", along, values)
        result: Array = values
        return result

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the error over the degree."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        axes.semilogy(np.arange(len(self.errors)), self.errors, ".-")
        axes.set(xlabel="degree", ylabel="error, over the variation")
        return axes


def slice_polynomial(
    model: nn.Module, corners: Tensor, *, max_degree: int = 64, batch_size: int = 4096
) -> SlicePolynomial:
    r"""Fit polynomials to a model's outputs on a segment, or on a plane through three inputs.

    .. math::
        f\Bigl(x_0 + \sum_i \tfrac{1 + s_i}{2} (x_i - x_0)\Bigr)
        \approx \sum_{|k| \le d} c_k \prod_i T_{k_i}(s_i), \qquad s \in [-1, 1]^q

    Parameters
    ----------
    model : torch.nn.Module
        Looked at in evaluation mode, and left as it was.
    corners : tensor of shape (q + 1, ...)
        Inputs: two ends of a segment, or three corners of a parallelogram.
    max_degree : int
        Largest total degree.
    batch_size : int
        Inputs of a pass.

    Returns
    -------
    SlicePolynomial

    Raises
    ------
    ValueError
        Corners that are not two or three inputs of finite real numbers, a degree or batch size
        below one, or outputs that are not one finite real tensor.
    MemoryEstimateError
        Too large a degree.

    Notes
    -----
    Interpolation at four Chebyshev nodes a degree along each axis, and a cosine transform. Cut off
    at a degree, the series is the best polynomial in the mean square of the Chebyshev measure,
    which weighs the ends of a segment more; in the largest error it is worse than the best by a
    factor of about the logarithm of the degree. (4 d + 4)^q inputs pass through the model.

    References
    ----------
    Trefethen, L. N. (2019). Approximation theory and approximation practice, chapters 3 to 5.
    """
    if not isinstance(corners, Tensor) or not corners.is_floating_point() or corners.ndim < 2:
        shape = tuple(corners.shape) if isinstance(corners, Tensor) else type(corners).__name__
        raise ValueError(
            "corners must be a tensor of real numbers with the inputs along its first axis, got "
            f"{shape}; of tokens there is no straight line: give a model of their embeddings"
        )
    if len(corners) not in (2, 3) or not bool(torch.isfinite(corners).all()):
        raise ValueError(f"corners must be two or three finite inputs, got {len(corners)}")
    if max_degree < 1 or batch_size < 1:
        raise ValueError(
            f"max_degree and batch_size must be at least 1, got {max_degree} and {batch_size}"
        )
    axes = len(corners) - 1
    nodes = _NODES * (max_degree + 1)
    values = _at_nodes(model, corners, nodes, batch_size)
    return _fitted(values, axes, max_degree)


def _at_nodes(model: nn.Module, corners: Tensor, nodes: int, batch_size: int) -> Array:
    """Return the outputs at all products of Chebyshev nodes, of shape (nodes,) * q + (outputs,)."""
    axes = len(corners) - 1
    along = (1 + np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)) / 2
    grid = np.stack(np.meshgrid(*[along] * axes, indexing="ij"), axis=-1).reshape(-1, axes)
    start, edges = corners[0].double(), (corners[1:] - corners[0]).double()
    parts = []
    with quiet(model), torch.no_grad():
        for first in range(0, len(grid), batch_size):
            t = torch.from_numpy(grid[first : first + batch_size]).to(start.device)
            inputs = start + torch.tensordot(t, edges, dims=1)
            outputs = forward(model, inputs.to(corners.dtype))
            if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
                raise ValueError("outputs must be one tensor of real numbers; wrap the model")
            if not first:
                size = outputs[0].numel()
                require_memory(
                    32 * len(grid) * size,
                    f"{len(grid)} outputs of size {size}",
                    "Take a smaller max_degree.",
                )
            parts.append(outputs.flatten(1).double().cpu().numpy())
    values = np.concatenate(parts)
    if not np.isfinite(values).all():
        raise ValueError("outputs on the slice are not finite")
    return values.reshape(*[nodes] * axes, -1)


def _fitted(values: Array, axes: int, max_degree: int) -> SlicePolynomial:
    from scipy.fft import dctn

    nodes = len(values)
    # Orthonormal, so that the squares of the coefficients sum to those of the values.
    transformed = dctn(values, type=2, axes=tuple(range(axes)), norm="ortho")
    transformed /= np.sqrt(nodes) ** axes
    total = _total_degree(transformed.shape[:-1])
    squares = np.square(transformed).sum(axis=-1)
    by_degree = np.bincount(total.ravel(), weights=squares.ravel())
    beyond = np.cumsum(by_degree[::-1])[::-1]
    variation = float(beyond[1])
    # What is below the rounding of the values is no error of a fit.
    rounding = (np.finfo(float).eps * np.abs(values).max()) ** 2 * len(beyond)
    left = beyond[1 : max_degree + 2]
    left = np.where(left > rounding, left, 0.0)
    low = transformed[(slice(max_degree + 1),) * axes]
    low = np.where((_total_degree(low.shape[:-1]) <= max_degree)[..., None], low, 0.0)
    for axis in range(axes):
        scale = np.full(max_degree + 1, np.sqrt(2))
        scale[0] = 1
        low = low * np.expand_dims(scale, [i for i in range(low.ndim) if i != axis])
    errors = np.sqrt(left / variation) if variation > rounding else np.zeros(max_degree + 1)
    return SlicePolynomial(low, variation if variation > rounding else 0.0, errors)


def _total_degree(shape: tuple[int, ...]) -> Array:
    degrees: Array = np.indices(shape).sum(axis=0)
    return degrees
