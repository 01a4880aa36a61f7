"""How complex the labels are for a kernel: what it costs the kernel to fit them."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.findings import Estimate


def kernel_complexity(kernel: Any, classes: Any, *, damping: float = 1e-3) -> Estimate:
    r"""Return the norm of the labels under the inverse of a kernel, free of its scale.

    .. math::
        \frac1n \operatorname{tr} Y^T (K + \delta I)^{-1} Y

    Parameters
    ----------
    kernel : array of shape (n, n)
        Symmetric and positive semi-definite, such as ``ntk(...).by_sample``. It is divided by the
        mean of its diagonal, so that its scale does not matter.
    classes : int array of shape (n,)
        Y are their indicators, less the mean of each.
    damping : float
        The positive :math:`\delta`, without which rounding decides where the kernel is all but
        singular.

    Returns
    -------
    Estimate
        Small where labels lie along the leading eigenvectors. NaN for a kernel of zeros.

    Raises
    ------
    ValueError
        No square matrix, classes that are not one a row, or a damping that is not positive.

    References
    ----------
    Arora, S., Du, S. S., Hu, W., Li, Z. and Wang, R. (2019). Fine-grained analysis of optimization
    and generalization for overparameterized two-layer neural networks. ICML, equation 12, for the
    kernel of infinite width, without damping.
    """
    matrix, which = np.asarray(kernel, dtype=np.float64), np.asarray(classes)
    n = len(matrix)
    if matrix.shape != (n, n) or which.shape != (n,):
        raise ValueError(
            f"expected a kernel of shape (n, n) and n classes, got {matrix.shape}, {which.shape}"
        )
    if not damping > 0:
        raise ValueError(f"damping must be positive, got {damping}")
    scale = float(np.diag(matrix).mean())
    if not scale > 0:
        return Estimate.undefined("the kernel is zero", n=n)
    y = (which[:, None] == np.unique(which)).astype(np.float64)
    y -= y.mean(axis=0)
    fitted = np.linalg.solve(matrix / scale + damping * np.eye(n), y)
    return Estimate(float((y * fitted).sum()) / n, n=n, method=f"damping {damping:g}")
