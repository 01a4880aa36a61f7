"""What an initialization makes of a network: dead units, regions, Jacobians, tangent kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.findings import Estimate
from geomprobe.storage import Array
from geomprobe.tropical.boundary_distance import distances_on
from geomprobe.tropical.conditioning import (
    condition,
    doubled,
    input_singular_values,
    tangent_spectrum,
)
from geomprobe.tropical.local_complexity import DIRECTIONS, complexity_on, require_neighbourhood
from geomprobe.tropical.patterns import mean_estimate, patterns_on
from geomprobe.tropical.recording import record_on
from geomprobe.values import ByValue


@dataclass(frozen=True, eq=False)
class InitializationReport(ByValue):
    """What a network is like on data before it is trained; of :func:`initialization_report`.

    Parameters
    ----------
    scalars : dict of str to Estimate
        ``dead_units``, ``unit_entropy`` (bits), ``local_complexity``, ``boundary_distance``
        (median), ``largest_singular_value`` and ``smallest_singular_value`` of the Jacobian by the
        input (means over inputs), and ``ntk_condition``.
    dead : dict of str to float
        Share of dead units, by bend.
    singular_values : float64 array of shape (n, min(outputs, input dimensions))
        Of the Jacobian by the input.
    ntk_spectrum : float64 array of shape (n * outputs,)
        Eigenvalues of the tangent kernel, falling.
    """

    scalars: Mapping[str, Estimate]
    dead: Mapping[str, float]
    singular_values: Array
    ntk_spectrum: Array

    def __str__(self) -> str:
        return "\n".join(f"{name:24} {estimate}" for name, estimate in self.scalars.items())


def initialization_report(
    model: nn.Module,
    data: Samples,
    *,
    radius: float | None = None,
    directions: int = 128,
    seed: int = 0,
) -> InitializationReport:
    """Say what an initialization has made of a network, on some inputs.

    Parameters
    ----------
    model : torch.nn.Module
        As of :func:`~geomprobe.tropical.linear_pieces`; left as it was.
    data : Samples
        Some tens of inputs, scaled as in training; targets are not looked at.
    radius : float, optional
        As of :func:`~geomprobe.tropical.local_complexity`. Give the same for all that you compare.
    directions : int
        As of :func:`~geomprobe.tropical.boundary_distance`, which are then upper bounds where
        inputs have more dimensions.
    seed : int
        Of random directions.

    Returns
    -------
    InitializationReport
        Of one draw of the weights: to compare initializations, make several of each.

    Raises
    ------
    ValueError
        No inputs, no trainable parameters; what :func:`~geomprobe.tropical.linear_pieces` raises.
    MemoryEstimateError
        The Jacobian of all outputs by the parameters does not fit.

    Notes
    -----
    All in double precision. The tangent kernel takes O(n^2 c^2 P) for n inputs, c outputs and P
    parameters; its condition number grows with n, so that only those of as many inputs compare.

    References
    ----------
    Pennington, J., Schoenholz, S. and Ganguli, S. (2017). Resurrecting the sigmoid in deep learning
    through dynamical isometry. NeurIPS. Lu, L., Shin, Y., Su, Y. and Karniadakis, G. E. (2020).
    Dying ReLU and initialization. Communications in Computational Physics 28. Xiao, L.,
    Pennington, J. and Schoenholz, S. (2020). Disentangling trainability and generalization in deep
    neural networks. ICML (condition number of the tangent kernel).
    """
    require_neighbourhood(directions, radius)
    recorded = record_on(model, data)
    patterns = patterns_on(recorded)
    near = complexity_on(recorded, radius, DIRECTIONS, seed)
    walls = distances_on(recorded, directions, seed)
    precise = doubled(model, data)
    values = input_singular_values(*precise)
    spectrum = tangent_spectrum(*precise)
    method = "singular values of the Jacobian by the input"
    scalars = {
        "dead_units": patterns.dead_units,
        "unit_entropy": patterns.unit_entropy(),
        "local_complexity": near.total,
        "boundary_distance": walls.median(),
        "largest_singular_value": mean_estimate(values[:, 0], method),
        "smallest_singular_value": mean_estimate(values[:, -1], method),
        "ntk_condition": kernel_condition(spectrum, len(data)),
    }
    return InitializationReport(scalars, patterns.dead, values, spectrum)


def kernel_condition(spectrum: Array, n: int) -> Estimate:
    """Return the condition number of a tangent kernel on n inputs."""
    method = f"all {len(spectrum)} eigenvalues of the tangent kernel"
    value = condition(spectrum)
    note = "" if np.isfinite(value) else "the smallest eigenvalue is zero to rounding"
    return Estimate(value, n=n, exact=True, method=method, note=note)
