"""Takeuchi's information criterion, and the traces that stand for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples
from geomprobe.findings import Estimate
from geomprobe.hooks import quiet
from geomprobe.information.curvature import Curvature, curvature
from geomprobe.information.eigenpairs import top_eigenpairs
from geomprobe.information.fisher_rows import FisherRows
from geomprobe.information.fisher_trace import mean_over_inputs, sample_traces
from geomprobe.information.setting import LARGEST_BATCH, Setting, setting_of
from geomprobe.information.stochastic_trace import stochastic_trace
from geomprobe.jacobians import jacobian_products
from geomprobe.storage import Array
from geomprobe.values import ByValue

# Up to how many parameters the Hessian is formed.
_MOST_EXACT = 1500


@dataclass(frozen=True, eq=False)
class TakeuchiCriterion(ByValue):
    """What a fit is predicted to have gained from noise; made by :func:`tic`.

    Parameters
    ----------
    trace_c, trace_f, trace_h : Estimate
        Of the uncentred second moment C of the gradients at the labels (the empirical Fisher), of
        the true Fisher information F, and of the Hessian H of the mean loss.
    c_over_f : Estimate
        Tr C / Tr F: 1 for a well specified model at its optimum.
    c_over_h : Estimate
        Tr C / Tr H, the coarsest stand-in for the penalty.
    penalty : Estimate
        Tr(H^-1 C), damped: over N, the predicted difference of test and training loss. The number
        of parameters, where the model is well specified and at its optimum.
    damping : float
    """

    trace_c: Estimate
    trace_f: Estimate
    trace_h: Estimate
    c_over_f: Estimate
    c_over_h: Estimate
    penalty: Estimate
    damping: float


def tic(
    model: nn.Module,
    data: Samples,
    *,
    loss: Loss,
    damping: float,
    probes: int = 16,
    seed: int = 0,
    batch_size: int | None = None,
    hessian: Tensor | None = None,
) -> TakeuchiCriterion:
    r"""Compute Takeuchi's information criterion and its stand-ins.

    .. math::
        \text{TIC} = \frac{1}{N} \operatorname{tr}\left( (H + \delta I)^{-1} C \right), \qquad
        C = \frac{1}{N} \sum_n g_n g_n^T

    Parameters
    ----------
    model : torch.nn.Module
        With batch norm and dropout in evaluation mode, and left as it was.
    data : Samples
        The N training inputs and targets.
    loss : callable
        The negative log-likelihood, as a mean over samples: cross-entropy for instance.
    damping : float
        The positive :math:`\delta`. Below the noise of the spectrum it lets null directions, which
        any large network has, decide.
    probes : int
        Random vectors for the penalty, beyond 1,500 parameters.
    seed : int
        Of the random vectors.
    batch_size : int, optional
        Samples of a pass.
    hessian : Tensor of shape (p, p), optional
        H, where it is at hand as a matrix.

    Returns
    -------
    TakeuchiCriterion
        The penalty is NaN with a reason where H has an eigenvalue below minus the damping, or where
        the solution does not converge: the model is not at a minimum.

    Raises
    ------
    ValueError
        A damping that is not positive, fewer than two probes, a Hessian of another shape, and what
        :func:`~geomprobe.information.fisher_trace` and
        :func:`~geomprobe.information.curvature` refuse.

    Notes
    -----
    Up to 1,500 parameters by all eigenvalues of H; beyond, a random sign for each sample makes one
    vector whose square is C in expectation, and MINRES solves for it by products.

    References
    ----------
    Takeuchi, K. (1976). Distribution of information statistics and a criterion of model fitting.
    Thomas, V., Pedregosa, F., van Merriënboer, B., Mangazol, P.-A., Bengio, Y. and Le Roux, N.
    (2020). On the interplay between noise and curvature and its effect on optimization and
    generalization. AISTATS.
    """
    if not damping > 0:
        raise ValueError(f"damping must be positive, got {damping}")
    if probes < 2:
        raise ValueError(f"probes must be at least 2, got {probes}")
    products = curvature(model, data, loss=loss, batch_size=batch_size)
    p = products.shape[0]
    if hessian is None and p <= _MOST_EXACT:
        hessian = products.dense()
    elif hessian is not None and hessian.shape != (p, p):
        raise ValueError(f"the Hessian has shape ({p}, {p}), got {tuple(hessian.shape)}")
    setting, true = (
        setting_of(
            model,
            data,
            kind=kind,
            likelihood=None,
            loss=loss,
            draws=1,
            seed=seed,
            batch_size=batch_size,
            memory_share=0.5,
        )
        for kind in ("empirical", "true")
    )
    if hessian is None:
        penalty = _by_products(products, setting, damping, probes, seed)
        trace_h = stochastic_trace(products, seed=seed)
    else:
        penalty = _by_eigenvalues(hessian, setting, damping)
        trace_h = stochastic_trace(hessian, max(6, 3 * p), seed=seed)
    of_c, of_f = (sample_traces(one, batch_size).cpu().numpy() for one in (setting, true))
    trace_c, trace_f = mean_over_inputs(of_c), mean_over_inputs(of_f)
    return TakeuchiCriterion(
        trace_c,
        trace_f,
        trace_h,
        paired_ratio(of_c, of_f),
        _ratio(trace_c, trace_h),
        penalty,
        damping,
    )


def _by_eigenvalues(hessian: Tensor, setting: Setting, damping: float) -> Estimate:
    values, vectors = torch.linalg.eigh((hessian + hessian.T).double() / 2)
    n = len(setting.data)
    method = "all eigenvalues; standard error from the spread over samples"
    if float(values[0]) <= -damping:
        return _not_a_minimum(float(values[0]), damping, n, method)
    with quiet(setting.model):
        gradients, _ = jacobian_products(
            setting.model,
            setting.parameters,
            setting.data,
            setting.outputs,
            setting.cotangents,
            LARGEST_BATCH,
        )
    projected = gradients.double() @ vectors
    each = (projected**2 / (values + damping)).sum(dim=1)
    stderr = float(each.std() / math.sqrt(n)) if n > 1 else math.nan
    return Estimate(float(each.mean()), stderr, n, method=method)


def _by_products(
    hessian: Curvature, setting: Setting, damping: float, probes: int, seed: int
) -> Estimate:
    from scipy.sparse.linalg import minres

    method = f"MINRES on {probes} random combinations of gradients; standard error over them"
    least = top_eigenpairs(hessian, which="smallest", tol=1e-2, seed=seed).values[0]
    if least <= -damping:
        return _not_a_minimum(least, damping, probes, method)
    rows = FisherRows(
        setting.model,
        tuple(setting.parameters),
        setting.data,
        setting.cotangents,
        hessian.objective.batch_size,
    )
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(probes):
        # With random signs of the samples, the square of one vector is C in expectation.
        signs = 2.0 * torch.randint(2, (len(setting.data),), generator=generator, device="cpu") - 1
        combined = list(rows.into_parameters(signs).values())
        vector = hessian.objective.flat(combined).double().cpu().numpy()
        solution, failed = minres(hessian.to_scipy(), vector, shift=-damping)
        if failed:
            return Estimate.undefined("MINRES does not converge: raise the damping", method=method)
        found.append(float(vector @ solution))
    stderr = float(np.std(found, ddof=1)) / math.sqrt(probes)
    return Estimate(float(np.mean(found)), stderr, probes, method=method)


def _not_a_minimum(least: float, damping: float, n: int, method: str) -> Estimate:
    return Estimate.undefined(
        f"not at a minimum: the Hessian has an eigenvalue of {least:.3g}, below minus the damping "
        f"of {damping:.3g}; train further, or raise the damping",
        n=n,
        method=method,
    )


def paired_ratio(above: Array, below: Array) -> Estimate:
    """Return the ratio of two means over the same inputs, whose errors go together."""
    n, method = len(above), "standard error from the spread over inputs"
    if not below.mean() > 0:
        return Estimate.undefined("the Fisher information is zero", n=n, method=method)
    ratio = above.mean() / below.mean()
    spread = math.nan if n < 2 else float(np.std(above - ratio * below, ddof=1))
    return Estimate(ratio, spread / below.mean() / math.sqrt(n), n, method=method)


def _ratio(above: Estimate, below: Estimate) -> Estimate:
    method = "standard errors of both traces, as if independent"
    if not below.value > 0:
        return Estimate.undefined(
            f"the Hessian has a trace of {below.value:.3g}: not at a minimum", method=method
        )
    ratio = above.value / below.value
    relative = math.hypot(above.stderr / above.value, below.stderr / below.value)
    return Estimate(ratio, ratio * relative, above.n, method=method)
