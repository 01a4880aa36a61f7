"""Seeded sparse random projections: distances kept, no large matrix in memory."""

from __future__ import annotations

import math

import torch


class SparseProjection:
    """A sparse Johnson-Lindenstrauss map from R^dim to R^k.

    Every input coordinate is added, with random signs, to ``nonzeros`` of the k outputs, one in
    each of as many equal blocks, and divided by sqrt(nonzeros).

    Parameters
    ----------
    dim : int
        Input dimension.
    k : int
        Output dimension, a multiple of ``nonzeros``.
    seed : int
        The map depends on (dim, k, seed, nonzeros) alone; the global random stream is not touched.
    nonzeros : int
        More keep distances of sparse differences better, at proportional cost.

    Notes
    -----
    O(nonzeros * dim) time a row, and 9 bytes of memory a nonzero. For n points and k of the order
    of log(n)/eps^2 all pairwise distances are kept within a factor 1 +- eps with high probability;
    see :meth:`distortion`.

    References
    ----------
    Kane, D. M. and Nelson, J. (2014). Sparser Johnson-Lindenstrauss transforms. J. ACM 61(1).
    """

    def __init__(self, dim: int, k: int, *, seed: int = 0, nonzeros: int = 4) -> None:
        if dim < 1 or k < 1 or k % nonzeros:
            raise ValueError(
                f"k must be a positive multiple of nonzeros={nonzeros} and dim positive, "
                f"got dim={dim}, k={k}"
            )
        generator = torch.Generator().manual_seed(seed)
        block = k // nonzeros
        bucket = torch.randint(block, (nonzeros, dim), generator=generator)
        self._bucket = bucket + block * torch.arange(nonzeros)[:, None]
        self._sign = torch.randint(2, (nonzeros, dim), generator=generator, dtype=torch.int8)
        self._sign.mul_(2).sub_(1)
        self.dim, self.k, self.seed, self.nonzeros = dim, k, seed, nonzeros

    def __call__(self, rows: torch.Tensor, start: int = 0) -> torch.Tensor:
        """Project rows of shape (m, width): coordinates ``start`` to ``start + width`` of R^dim.

        The map is linear, so that a long vector may come in pieces whose images are added.

        Returns
        -------
        Tensor of shape (m, k), of the rows' dtype (float32 for half precision).
        """
        stop = start + rows.shape[1]
        if start < 0 or stop > self.dim:
            raise ValueError(f"coordinates {start} to {stop} are not within R^{self.dim}")
        dtype = rows.dtype if rows.dtype in (torch.float32, torch.float64) else torch.float32
        rows = rows.to(dtype)
        image = torch.zeros(rows.shape[0], self.k, dtype=dtype, device=rows.device)
        for bucket, sign in zip(self._bucket, self._sign, strict=True):
            signed = rows * sign[start:stop].to(rows.device, dtype)
            image.index_add_(1, bucket[start:stop].to(rows.device), signed)
        return image / math.sqrt(self.nonzeros)

    def distortion(self, n: int) -> float:
        """Relative error eps that pairwise distances of n points are expected to keep.

        sqrt(8 ln(n) / k), the Gaussian Johnson-Lindenstrauss rule; a guide, not a certificate.
        """
        return math.sqrt(8 * math.log(max(n, 2)) / self.k)
