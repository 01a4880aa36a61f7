"""Seeded sparse random projections: distances kept, no large matrix in memory."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import pad

#: Coordinates that are folded together: a cache line or more, so that whole rows are added.
_UNIT = 64
#: Coordinates that are folded at a time.
_SLICE = 1 << 20
#: Coordinates that are spread at a time on a device that is not the CPU.
_COLUMNS = 1 << 15
#: Most coordinates that are spread together: see :mod:`geomprobe.sampling.scatter`.
_LANES = 64


class SparseProjection:
    """A sparse Johnson-Lindenstrauss map from R^dim to R^k.

    Every input coordinate is added, with a random sign, to ``nonzeros`` of the k outputs, one in
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
    Coordinates are spread in runs of l = gcd(k / nonzeros, 64): in each block a run goes to a
    random run of outputs, turned by a random number of places, which takes whole vectors of the
    processor. Two coordinates of a run then never share an output, and any other two do with the
    same probability as if each were spread by itself.

    The squared length of an image is unbiased, ``E|Sx|^2 = |x|^2``, with variance at most
    ``(2/k) (1 + s(s-1)/k) |x|^4`` for s nonzeros; that of a dense Gaussian map is ``(2/k)|x|^4``.
    For n points and k of the order of log(n)/eps^2 all pairwise distances are kept within a factor
    1 +- eps with high probability; see :meth:`distortion`.

    Input of more than C = 64 R coordinates, with R = max(8 k, 4096), is first folded into C cells:
    each run of 64 coordinates is added, with a random sign, to one of R rows of 64 cells. A
    coordinate then has the outputs of its cell. With v = (1 + s(s-1)/k) / k the variance grows to
    at most ``(2v + 2/R + 4v/R)|x|^4``, and to that only for vectors that repeat one pattern in
    every run. Two coordinates at the same place of their runs share a cell, and so all their
    outputs, with probability 1/R.

    Time is O(nonzeros min(dim, C) + dim) a row. Memory is 4 (1 + nonzeros/l) min(dim, C) bytes, and
    dim/16 more where rows are folded; on every other device that rows come from, 4 (1 + nonzeros)
    min(dim, C) and dim/16. Working memory is a float32 copy of rows in half precision and of those
    whose length is no multiple of l, 12 C bytes where rows are folded, and on devices other than
    the CPU two copies of 2^15 coordinates of each row. On the CPU the same rows give the same bits,
    on any number of threads and whatever rows stand beside them; on other devices, and for a vector
    in pieces, sums may differ in their last bits.

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
        self._lanes = math.gcd(k // nonzeros, _LANES)
        self._rows = max(8 * k, 4096)
        self._folds = dim > self._rows * _UNIT
        generator = torch.Generator().manual_seed(seed)

        def draw(below: int, *shape: int) -> torch.Tensor:
            return torch.randint(below, shape, generator=generator, device="cpu").int()

        width = self._rows * _UNIT if self._folds else dim
        runs = -(-width // self._lanes)
        cells = k // nonzeros // self._lanes
        first = cells * torch.arange(nonzeros, dtype=torch.int32, device="cpu")[:, None]
        # Where a run goes: each run of outputs stands twice, and takes what is turned over it.
        self._places = 2 * self._lanes * (first + draw(cells, nonzeros, runs))
        self._places += draw(self._lanes, nonzeros, runs)
        self._signs = 2.0 * draw(2, runs * self._lanes).float() - 1
        # Where to fold: the rows stand twice there, and the second are subtracted.
        self._folded = {
            torch.device("cpu"): draw(2 * self._rows, -(-dim // _UNIT) if self._folds else 0)
        }
        self._outputs: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

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
        rows = rows.detach()
        rows = rows.to(rows.dtype if rows.dtype == torch.float64 else torch.float32)
        if not self._folds:
            return self._spread(rows, start)
        image = rows.new_zeros(len(rows), self.k)
        for i, row in enumerate(rows):
            image[i] = self._spread(self._fold(row, start)[None])[0]
        return image

    def distortion(self, n: int) -> float:
        """Relative error eps that pairwise distances of n points are expected to keep.

        sqrt(8 ln(n) / k), the Gaussian Johnson-Lindenstrauss rule; a guide, not a certificate.
        """
        return math.sqrt(8 * math.log(max(n, 2)) / self.k)

    def _spread(self, rows: torch.Tensor, start: int = 0) -> torch.Tensor:
        lanes = self._lanes
        before, after = start % lanes, -(start + rows.shape[1]) % lanes
        if before or after:
            rows = pad(rows, (before, after))
        here = slice((start - before) // lanes, (start - before + rows.shape[1]) // lanes)
        by_device = self._by_vector if rows.device.type == "cpu" else self._by_index
        return by_device(rows, here).div_(math.sqrt(self.nonzeros))

    def _by_vector(self, rows: torch.Tensor, here: slice) -> torch.Tensor:
        """Spread some runs, as they are."""
        from geomprobe.sampling.scatter import scatter_runs

        lanes = self._lanes
        sums = rows.new_zeros(len(rows), self.k // lanes, 2, lanes)
        signs = self._signs[here.start * lanes : here.stop * lanes].to(rows.dtype)
        scatter_runs(
            rows.contiguous().numpy(),
            signs.numpy(),
            self._places[:, here].numpy().view(np.uint32),
            sums.flatten(1).numpy(),
            lanes,
        )
        return (sums[:, :, 0] + sums[:, :, 1]).flatten(1)

    def _by_index(self, rows: torch.Tensor, here: slice) -> torch.Tensor:
        """Spread some runs, coordinate by coordinate; whole columns, which takes fewer steps."""
        outputs, signs = self._outputs_on(rows.device)
        image, first = rows.new_zeros(self.k, len(rows)), here.start * self._lanes
        for begin in range(0, rows.shape[1], _COLUMNS):
            part = rows[:, begin : begin + _COLUMNS]
            some = slice(first + begin, first + begin + part.shape[1])
            columns = (part * signs[some].to(rows.dtype)).t().contiguous()
            for block in outputs[:, some]:
                image.index_add_(0, block, columns)
        return image.t()

    def _outputs_on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the output of each coordinate in each block, and the signs, on a device."""
        if device not in self._outputs:
            lanes = self._lanes
            turned = self._places[:, :, None] % (2 * lanes) + torch.arange(lanes, device="cpu")
            outputs = self._places[:, :, None] // (2 * lanes) * lanes + turned % lanes
            self._outputs[device] = outputs.int().flatten(1).to(device), self._signs.to(device)
        return self._outputs[device]

    def _fold(self, row: torch.Tensor, start: int) -> torch.Tensor:
        if row.device not in self._folded:
            self._folded[row.device] = self._folded[torch.device("cpu")].to(row.device)
        runs = self._folded[row.device]
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
