"""Effective degree: of what degree a polynomial must be to follow a model between two inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.algebraic.slice_polynomial import slice_polynomial
from geomprobe.evidence import Samples
from geomprobe.findings import Estimate
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class DegreeProfile(ByValue):
    """How polynomials follow a model along segments; made by :func:`effective_degree`.

    Parameters
    ----------
    degree : Estimate
        The smallest degree whose error is within the tolerance.
    nonlinearity : Estimate
        Error of the best straight line, over the variation: 0 where the model is affine.
    errors : array of shape (max_degree + 1,)
        Root mean square error over all segments by degree, over the root mean variation.
    segment_degrees : array of shape (segments,)
        The smallest degree on each segment; inf where none is large enough.
    tolerance : float
    """

    degree: Estimate
    nonlinearity: Estimate
    errors: Array
    segment_degrees: Array
    tolerance: float

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the error over the degree, and the tolerance."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        axes.semilogy(np.arange(len(self.errors)), self.errors, ".-")
        axes.axhline(self.tolerance, color="tab:gray", lw=1, ls=":")
        axes.set(xlabel="degree", ylabel="error, over the variation")
        return axes


def effective_degree(
    model: nn.Module,
    data: Samples,
    *,
    tolerance: float = 0.01,
    segments: int = 64,
    max_degree: int = 64,
    seed: int = 0,
) -> DegreeProfile:
    """Return the degree of the polynomials that follow a model along segments between data.

    Parameters
    ----------
    model : torch.nn.Module
        Looked at in evaluation mode, and left as it was.
    data : Samples
        At least two inputs, one tensor of real numbers.
    tolerance : float
        Error to allow, over the variation along the segments, both as root mean squares.
    segments : int
        How many pairs of inputs are drawn.
    max_degree : int
        Largest degree that is tried.
    seed : int
        Seed of the pairs.

    Returns
    -------
    DegreeProfile
        The degree is undefined where the largest does not reach the tolerance, or nothing varies.

    Raises
    ------
    ValueError
        Fewer than two inputs, inputs of another kind, a tolerance not in (0, 1), fewer than four
        segments, or what :func:`slice_polynomial` refuses.

    Notes
    -----
    Errors are those of :func:`slice_polynomial`, pooled over segments: each counts with its
    variation. Standard errors are over segments, by the delete-half jackknife. 4 (max_degree + 1)
    inputs pass through the model for each segment.
    """
    if not 0 < tolerance < 1 or segments < 4:
        raise ValueError(
            f"tolerance must be in (0, 1), and segments at least 4; got {tolerance} and {segments}"
        )
    inputs = data.inputs
    if not isinstance(inputs, Tensor) or len(inputs) < 2:
        raise ValueError(
            "data must hold at least two inputs as one tensor of real numbers, so that there are "
            f"segments between them; got {len(data)} as {type(inputs).__name__}"
        )
    device = next((parameter.device for parameter in model.parameters()), inputs.device)
    rng = np.random.default_rng(seed)
    fits = []
    for _ in range(segments):
        pair = torch.from_numpy(rng.choice(len(inputs), 2, replace=False))
        corners = inputs[pair.to(inputs.device)].to(device)
        fits.append(slice_polynomial(model, corners, max_degree=max_degree))
    variations = np.array([fit.variation for fit in fits])
    squares = np.array([np.square(fit.errors) * fit.variation for fit in fits])
    found = np.array([fit.degree(tolerance) for fit in fits])
    method = f"Chebyshev series on {segments} segments; delete-half jackknife over segments"
    if not variations.any():
        none = Estimate.undefined("the outputs do not vary along any segment", n=segments)
        return DegreeProfile(none, none, np.zeros(max_degree + 1), found, tolerance)

    def pooled(some: Array) -> Array:
        whole = variations[some].sum()
        errors: Array = np.sqrt(squares[some].sum(axis=0) / (whole or 1.0))
        return errors

    def numbers(some: Array) -> Array:
        errors = pooled(some)
        within = errors <= tolerance
        return np.array([within.argmax() if within.any() else np.nan, errors[1]])

    degree, nonlinearity = numbers(np.arange(segments))
    spread = delete_half_stderr(numbers, segments, seed=seed)
    if np.isnan(degree):
        reason = (
            f"polynomials of degree {max_degree} leave more than {tolerance:g} of the variation"
        )
        answer = Estimate.undefined(reason, n=segments, method=method)
    else:
        answer = Estimate(degree, spread[0], segments, method=method)
    return DegreeProfile(
        answer,
        Estimate(nonlinearity, spread[1], segments, method=method),
        pooled(np.arange(segments)),
        found,
        tolerance,
    )
