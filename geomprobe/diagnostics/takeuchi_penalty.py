"""Takeuchi's penalty of a classifier from its tangent kernel: what its noise costs it."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.findings import Estimate


def takeuchi_penalty(kernel: Any, outputs: Any, classes: Any, *, damping: float) -> Estimate:
    r"""Return the penalty of Takeuchi's criterion, with the Fisher information for the Hessian.

    .. math::
        \operatorname{tr}\left((F + \delta I)^{-1} C\right) = \frac1n \operatorname{tr}\left(
        B K \left(\tfrac1n A K + \delta I\right)^{-1}\right)

    for the tangent kernel :math:`K = J J^T`, where :math:`F = \frac1n J^T A J` has the blocks
    :math:`\operatorname{diag}(p_i) - p_i p_i^T` of predicted probabilities in A, and the second
    moment of the gradients :math:`C = \frac1n J^T B J` has :math:`r_i r_i^T` in B,
    :math:`r_i = p_i - y_i`.

    Parameters
    ----------
    kernel : array of shape (n c, n c)
        The outputs of one input stand together, as in ``ntk(...).matrix``.
    outputs : array of shape (n, c)
        Logits.
    classes : int array of shape (n,)
    damping : float
        The positive :math:`\delta`.

    Returns
    -------
    Estimate
        Over n, the difference of test and training cross-entropy that the criterion predicts.

    Raises
    ------
    ValueError
        Shapes that do not fit, classes outside the outputs, or a damping that is not positive.

    Notes
    -----
    O((n c)^3). Unlike that of :func:`~geomprobe.information.tic` it is defined away from a
    minimum, since F has no negative eigenvalues.

    References
    ----------
    Thomas, V. et al. (2020). On the interplay between noise and curvature and its effect on
    optimization and generalization. AISTATS, for this form of Takeuchi's (1976) criterion.
    """
    matrix, logits = np.asarray(kernel, dtype=np.float64), np.asarray(outputs, dtype=np.float64)
    which = np.asarray(classes)
    n, c = logits.shape if logits.ndim == 2 else (0, 0)
    if not n or matrix.shape != (n * c, n * c) or which.shape != (n,):
        raise ValueError(
            "expected a kernel of shape (n c, n c), outputs of shape (n, c) and n classes, got "
            f"{matrix.shape}, {logits.shape} and {which.shape}"
        )
    if which.min() < 0 or which.max() >= c:
        raise ValueError(f"classes must lie in 0 to {c - 1}, got {which.min()} to {which.max()}")
    if not damping > 0:
        raise ValueError(f"damping must be positive, got {damping}")
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    r = p.copy()
    r[np.arange(n), which] -= 1
    blocks = matrix.reshape(n, c, n * c)
    weighted = p[:, :, None] * (blocks - np.einsum("nc,ncm->nm", p, blocks)[:, None])
    system = weighted.reshape(n * c, n * c) / n + damping * np.eye(n * c)
    # By row i of R = rows r_i, block by block: tr(B K S^-1) = sum_i r_i^T (K S^-1)_ii r_i.
    pulled = np.linalg.solve(system.T, np.einsum("nc,ncm->nm", r, blocks).T).T
    own = pulled.reshape(n, n, c)[np.arange(n), np.arange(n)]
    return Estimate(float((own * r).sum()) / n, n=n, method=f"damping {damping:g}")
