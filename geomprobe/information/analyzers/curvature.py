"""The analyzer of curvature: the Hessian's extreme eigenvalues, trace, density and index."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from geomprobe.evidence import Evidence, Samples, require_counts
from geomprobe.findings import Estimate, Finding
from geomprobe.hooks import quiet
from geomprobe.information.analyzers.shared_gram import drawn_from
from geomprobe.information.curvature import Curvature, curvature
from geomprobe.information.eigenpairs import Eigenpairs, top_eigenpairs
from geomprobe.information.morse_index import morse_index
from geomprobe.information.spectra import effective_parameters
from geomprobe.information.spectral_density import SpectralDensity, spectral_density
from geomprobe.information.stochastic_trace import stochastic_trace
from geomprobe.information.takeuchi import tic
from geomprobe.storage import Array

_NO_LOSS = "there is no loss to bend: pass loss=, the one the model was trained with, as a mean"
_ACCURACY = 1e-4  # Of eigenvalues, relative to the largest.
_GRID_POINTS = 301
_MOST_EXACT = 1500  # Parameters up to which both matrices are formed.
_TAKEUCHI = ("c_over_f", "c_over_h", "penalty")


@dataclass(frozen=True)
class LossCurvature:
    """Eigenvalues, trace, spectral density and index of the Hessian of the mean loss.

    Parameters
    ----------
    k : int
        How many of the largest eigenvalues to find.
    max_samples : int, optional
        Of more samples, this many are drawn at random; by default all that the evidence holds.
    z : float, optional
        Regularisation at which effective parameters are counted, in units of the eigenvalues; by
        default one over the number of training samples, which is that of a normal prior of variance
        1 on every parameter.
    damping : float, optional
        Of Takeuchi's criterion; by default a hundredth of the largest eigenvalue.
    draws, steps : int
        Of the :func:`~geomprobe.information.spectral_density`.

    Notes
    -----
    Arrays: ``hessian_largest``, the k largest eigenvalues; ``hessian_grid`` and
    ``hessian_density``; ``z``, ``effective_parameters_curve`` and ``..._stderr``. Effective
    parameters are counted in the Gauss-Newton matrix, of whose small eigenvalues products tell
    more, since none is negative: from all eigenvalues up to 1,500 parameters, beyond by quadrature.
    As many products with either matrix as there are parameters, up to 1,500, and it is formed;
    beyond, about ``draws * steps`` + 200 with the Hessian, and ``draws * steps`` with the
    Gauss-Newton matrix. One with the Hessian takes two backward passes over the samples, one with
    the Gauss-Newton matrix three.
    """

    k: int = 10
    max_samples: int | None = None
    z: float | None = None
    damping: float | None = None
    draws: int = 4
    steps: int = 50

    name: ClassVar[str] = "curvature"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "Whether the minimum generalizes: rescaling layers changes most of these numbers, and "
        "not the function."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "largest_eigenvalue": (
            "Sharpness: gradient descent with steps above 2 over it is unstable there; rescaling "
            "layers changes it and leaves the function as it is."
        ),
        "smallest_eigenvalue": (
            "Curvature along the direction that bends down most: below zero away from a minimum; "
            "one of less than a ten-thousandth of the largest is not told from zero."
        ),
        "trace": "The summed curvature; it changes with the scale of the parameters.",
        "index": (
            "How many directions bend down by more than the tolerance in its note: zero at a "
            "minimum."
        ),
        "negative_share": (
            "Which part of the summed size of all curvatures is negative: it fades as training "
            "ends, and is one half where directions bend either way alike."
        ),
        "effective_parameters": (
            "How many directions bend more than the regularisation z, a count of determined "
            "parameters that depends on z: compare at equal z."
        ),
        "c_over_f": (
            "Trace of the empirical over that of the true Fisher information: 1 for a well "
            "specified model at its optimum, below it where the model is surer than its errors are."
        ),
        "c_over_h": (
            "Trace of the empirical Fisher information over that of the Hessian: the coarsest "
            "stand-in for Takeuchi's penalty per parameter."
        ),
        "penalty": (
            "Takeuchi's penalty, damped: over the number of training samples, the predicted gap of "
            "test and training loss at a minimum; about the number of parameters of a well "
            "specified model."
        ),
    }

    def __post_init__(self) -> None:
        require_counts(1, k=self.k, max_samples=self.max_samples)
        require_counts(2, draws=self.draws, steps=self.steps)
        for name in ("z", "damping"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        if evidence.loss is None:
            yield Finding(self.name, "model", failed=_NO_LOSS)
            return
        assert evidence.model is not None
        seed, data = evidence.seed, evidence.at_most(self.max_samples)[0]
        hessian = curvature(evidence.model, data, loss=evidence.loss)
        n, p = len(data), hessian.shape[0]
        # Formed once where it is small: then its products cost next to nothing.
        matrix = hessian.dense() if p <= _MOST_EXACT else None
        operator = hessian if matrix is None else matrix
        largest = top_eigenpairs(operator, min(self.k, p), tol=_ACCURACY, seed=seed)
        smallest = top_eigenpairs(operator, which="smallest", tol=_ACCURACY, seed=seed)
        density = spectral_density(operator, draws=self.draws, steps=self.steps, seed=seed)
        z, origin = self._z(evidence)
        scalars = {
            "largest_eigenvalue": _first(hessian, largest, seed),
            "smallest_eigenvalue": _first(hessian, smallest, seed),
            "trace": stochastic_trace(operator, 60 if matrix is None else max(6, 3 * p), seed=seed),
            "index": morse_index(operator, density=density, seed=seed),
            "negative_share": density.negative_share(),
        }
        counts, arrays = self._counts(evidence, data, z, f"at z = {z:.4g}, {origin}")
        scalars["effective_parameters"] = counts
        damping = self.damping or max(float(largest.values[0]) / 100, np.finfo(float).tiny)
        scalars |= _takeuchi(evidence, data, damping, matrix)
        note = (
            f"Hessian of the mean loss over N = {n} inputs{drawn_from(evidence, n)}, in {p} "
            "trainable parameters. Standard errors of eigenvalues are over inputs, those of the "
            "trace, the index, the shares and the counts over random vectors, at these inputs."
        )
        arrays |= {"hessian_largest": largest.values, **_density(density)}
        yield Finding(self.name, "model", scalars, arrays, (note,))

    def _z(self, evidence: Evidence) -> tuple[float, str]:
        if self.z is not None:
            return self.z, "as asked for"
        assert evidence.data is not None
        if evidence.n_train is not None:
            return 1 / evidence.n_train, "one over the number of training samples"
        return 1 / len(evidence.data), "one over the samples kept: give n_train"

    def _counts(
        self, evidence: Evidence, data: Samples, z: float, note: str
    ) -> tuple[Estimate, dict[str, Array]]:
        """Return the effective parameters at z, and around it."""
        assert evidence.model is not None
        assert evidence.loss is not None
        try:
            matrix = curvature(evidence.model, data, loss=evidence.loss, kind="ggn")
            count = _counter(matrix, self.draws, self.steps, evidence.seed)
        except TypeError as error:  # Outputs that are no tensor.
            return Estimate.undefined(str(error), n=len(data)), {}
        found = count(z)
        grid = z * np.logspace(-3, 3, 25)
        around = [count(one) for one in grid]
        return replace(found, note="; ".join(filter(None, (note, found.note)))), {
            "z": grid,
            "effective_parameters_curve": np.array([one.value for one in around]),
            "effective_parameters_stderr": np.array([one.stderr for one in around]),
        }


def _counter(matrix: Curvature, draws: int, steps: int, seed: int) -> Callable[[float], Estimate]:
    """Return what counts the effective parameters at any z."""
    p = matrix.shape[0]
    if p > _MOST_EXACT:
        return spectral_density(matrix, draws=draws, steps=steps, seed=seed).effective_parameters
    values = torch.linalg.eigvalsh(matrix.dense().double()).cpu().numpy()
    noise = float(torch.finfo(matrix.dtype).eps) * np.abs(values).max()
    above = values[values > noise]

    def count(z: float) -> Estimate:
        lost = (p - len(above)) * noise / (noise + z)
        method = "all eigenvalues of the Gauss-Newton matrix; standard error of their rounding"
        return Estimate(effective_parameters(above, z), lost, p, method=method)

    return count


def _first(hessian: Curvature, found: Eigenpairs, seed: int) -> Estimate:
    """Return the first eigenvalue with its error over inputs, to first order."""
    stderr = hessian.error_along(torch.from_numpy(found.vectors[:, 0]), seed=seed)
    method = "Lanczos; standard error from the curvature of groups of inputs along the eigenvector"
    return Estimate(found.values[0], stderr, len(hessian.objective.data), method=method)


def _takeuchi(
    evidence: Evidence, data: Samples, damping: float, hessian: Tensor | None
) -> dict[str, Estimate]:
    assert evidence.model is not None
    assert evidence.loss is not None
    try:
        with quiet(evidence.model) as model:
            found = tic(
                model,
                data,
                loss=evidence.loss,
                damping=damping,
                seed=evidence.seed,
                hessian=hessian,
            )
    except ValueError as error:
        return {name: Estimate.undefined(str(error)) for name in _TAKEUCHI}
    note = found.penalty.note or f"at a damping of {damping:.3g}"
    penalty = replace(found.penalty, note=note)
    return {"c_over_f": found.c_over_f, "c_over_h": found.c_over_h, "penalty": penalty}


def _density(density: SpectralDensity) -> dict[str, Array]:
    low, high = density.extent
    margin = 0.05 * (high - low) or 1.0
    grid = np.linspace(low - margin, high + margin, _GRID_POINTS)
    return {"hessian_grid": grid, "hessian_density": density.density(grid)}
