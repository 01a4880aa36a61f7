"""Seeded sparse random projections: distances kept, no large matrix in memory."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import pad

#: Coordinates that are folded together: a cache line or more, so that whole rows are added.
_UNIT = 64
#: Coordinates that are folded at a time.
_SLICE = 1 << 20


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
        One (a count sketch) is enough where vectors are spread over many coordinates. Where few
        coordinates make up a vector, two that fall on one output spoil its length: for two equal
        ones that happens with probability 1/k, and the squared length is then 0 or doubled. With
        more nonzeros an accident is likelier and as much milder: its error is 1/nonzeros.

    Notes
    -----
    The squared length of an image is unbiased, ``E|Sx|^2 = |x|^2``, with variance at most
    ``(2/k)|x|^4``, as that of a dense Gaussian map. For n points and k of the order of log(n)/eps^2
    all pairwise distances are kept within a factor 1 +- eps with high probability; see
    :meth:`distortion`.

    Input of more than C = 64 R coordinates, with R = max(8 k, 4096), is first folded into C cells:
    each run of 64 coordinates is added, with a random sign, to one of R rows of 64 cells. A
    coordinate then has the outputs of its cell, the matrix is as sparse as before, and what
    must be remembered of it is 8 bytes a run instead of 8 bytes a nonzero. The variance grows to
    at most ``(2/k + 2/R + 4/(kR))|x|^4``, and to that only for vectors that repeat one pattern in
    every run. Two coordinates at the same place of their runs share a cell, and so all their
    outputs, with probability 1/R.

    Time is O(nonzeros min(dim, C) + dim) a row. Memory is 8 nonzeros min(dim, C) bytes, and dim/8
    more where rows are folded; as much again on every other device that rows come from. Working
    memory is a float32 copy of rows in half precision, and 12 C bytes where rows are folded. On
    the CPU the same rows give the same bits, on any number of threads and whatever rows stand
    beside them; on other devices, and for a vector in pieces, sums may differ in their last bits.

    References
    ----------
    Kane, D. M. and Nelson, J. (2014). Sparser Johnson-Lindenstrauss transforms. J. ACM 61(1).

    Charikar, M., Chen, K. and Farach-Colton, M. (2002). Finding frequent items in data streams.
    ICALP. (The count sketch.)
    """

    def __init__(self, dim: int, k: int, *, seed: int = 0, nonzeros: int = 4) -> None:
        if dim < 1 or k < 1 or nonzeros < 1 or k % nonzeros:
            raise ValueError(
                f"k must be a positive multiple of nonzeros={nonzeros} and dim positive, "
                f"got dim={dim}, k={k}"
            )
        self.dim, self.k, self.seed, self.nonzeros = dim, k, seed, nonzeros
        self._block = k // nonzeros
        self._rows = max(8 * k, 4096)
        self._folds = dim > self._rows * _UNIT
        generator = torch.Generator().manual_seed(seed)

        def draw(below: int, *shape: int) -> torch.Tensor:
            return torch.randint(below, shape, generator=generator, device="cpu")

        # Where to add: each block, and the rows, stand twice there. The second is subtracted.
        width = self._rows * _UNIT if self._folds else dim
        buckets = draw(2 * self._block, nonzeros, width)
        buckets += 2 * self._block * torch.arange(nonzeros, device="cpu")[:, None]
        runs = draw(2 * self._rows, -(-dim // _UNIT) if self._folds else 0)
        self._tables = {torch.device("cpu"): (buckets, runs)}

    def __call__(self, rows: torch.Tensor, start: int = 0) -> torch.Tensor:
        """Project rows of shape (m, width): coordinates ``start`` to ``start + width`` of R^dim.

        The map is linear, so that a long vector may come in pieces whose images are added.

        Returns
        -------
        Tensor of shape (m, k), on the device of the rows and of their dtype (float32 for half
        precision).
        """
        stop = start + rows.shape[1]
        if start < 0 or stop > self.dim:
            raise ValueError(f"coordinates {start} to {stop} are not within R^{self.dim}")
        rows = rows.to(rows.dtype if rows.dtype == torch.float64 else torch.float32)
        buckets, runs = self._tables_on(rows.device)
        if not self._folds:
            return self._spread(rows, buckets[:, start:stop])
        image = rows.new_zeros(len(rows), self.k)
        for i, row in enumerate(rows):
            image[i] = self._spread(self._fold(row, start, runs)[None], buckets)[0]
        return image

    def distortion(self, n: int) -> float:
        """Relative error eps that pairwise distances of n points are expected to keep.

        sqrt(8 ln(n) / k), the Gaussian Johnson-Lindenstrauss rule; a guide, not a certificate.
        """
        return math.sqrt(8 * math.log(max(n, 2)) / self.k)

    def _tables_on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        if device not in self._tables:
            buckets, runs = self._tables[torch.device("cpu")]
            self._tables[device] = buckets.to(device), runs.to(device)
        return self._tables[device]

    def _spread(self, rows: torch.Tensor, buckets: torch.Tensor) -> torch.Tensor:
        sums = rows.new_zeros(len(rows), 2 * self.k)
        for block in buckets:
            sums.index_add_(1, block, rows)
        signed = sums.view(len(rows), self.nonzeros, 2, self._block)
        difference = signed[:, :, 0] - signed[:, :, 1]
        return difference.reshape(len(rows), self.k) / math.sqrt(self.nonzeros)

    def _fold(self, row: torch.Tensor, start: int, runs: torch.Tensor) -> torch.Tensor:
        cells = row.new_zeros(2 * self._rows, _UNIT)
        for begin in range(start - start % _UNIT, start + len(row), _SLICE):
            piece = row[max(begin - start, 0) : begin + _SLICE - start]
            before = max(start - begin, 0)
            after = -(before + len(piece)) % _UNIT
            if before or after:
                piece = pad(piece, (before, after))
            units = piece.reshape(-1, _UNIT)
            first = begin // _UNIT
            cells.index_add_(0, runs[first : first + len(units)], units)
        return (cells[: self._rows] - cells[self._rows :]).reshape(-1)
