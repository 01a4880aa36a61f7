"""The trace of a symmetric matrix that is known by its products."""

from __future__ import annotations

import torch

from geomprobe.findings import Estimate
from geomprobe.information.eigenpairs import SymmetricOperator


def stochastic_trace(operator: SymmetricOperator, products: int = 60, *, seed: int = 0) -> Estimate:
    r"""Estimate a trace by Hutch++.

    Parameters
    ----------
    operator : SymmetricOperator
        Such as :class:`~geomprobe.information.Curvature`, or a tensor of shape (p, p).
    products : int
        How many vectors to multiply: a third span the large eigenvalues, a third measure these, and
        a third sample what is left.
    seed : int
        Seed of the random vectors.

    Returns
    -------
    Estimate
        Unbiased; the standard error is that of the sampled part. Exact for p of up to a third of
        the products.

    Raises
    ------
    ValueError
        Fewer than 6 products.

    Notes
    -----
    For a positive semi-definite matrix the relative error falls with the number of products, where
    that of plain random vectors (Hutchinson) falls with its root. O(p * products) memory.

    References
    ----------
    Meyer, R. A., Musco, C., Musco, C. and Woodruff, D. P. (2021). Hutch++: optimal stochastic trace
    estimation. SOSA, algorithm 1.
    """
    if products < 6:
        raise ValueError(f"products must be at least 6, got {products}")
    p, third = operator.shape[0], products // 3
    generator = torch.Generator().manual_seed(seed)
    signs = 2.0 * torch.randint(2, (p, 2 * third), generator=generator, device="cpu") - 1
    signs = signs.to(operator.device, operator.dtype)
    wide, sampling = torch.split(signs, third, dim=1)
    spanned = p <= third
    basis = (
        torch.eye(p, dtype=operator.dtype, device=operator.device)
        if spanned
        else torch.linalg.qr(operator @ wide).Q
    )
    within = float((basis * (operator @ basis)).sum(dtype=torch.float64))
    if spanned:
        return Estimate(within, exact=True, n=p, method="the diagonal, by a product each")
    left = sampling - basis @ (basis.T @ sampling)
    each = (left * (operator @ left)).sum(dim=0, dtype=torch.float64)
    return Estimate(
        within + float(each.mean()),
        float(each.std() / third**0.5),
        3 * third,
        method=f"Hutch++ with {3 * third} products; standard error over {third} random vectors",
    )
