"""The affine maps that a network continues: every bend held on the branch that it is on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomprobe.tropical.tape import Kink, Still

#: Stands for infinity, so that between two infinite thresholds there is a number.
FAR = 1e300


class Branches(Still):
    """Base inputs, each with some others at which the network is its affine map at the base.

    Rows are the bases, then each base's first companion, then each base's second, and so on. The
    differences of the outputs are those of the affine maps, to rounding, however small the region.

    Parameters
    ----------
    bases : int
    """

    def __init__(self, bases: int) -> None:
        self._bases = bases

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Apply an operation as it is at the bases."""
        if kink.bend.windows is None:
            return self._continued(kink, rows[0])
        candidates = kink.bend.windows(*rows)
        n = self._bases
        winner = candidates[:n].argmax(-1, keepdim=True)
        winner = winner.repeat(len(candidates) // n, 1, 1)
        return kink.bend.sign * candidates.gather(-1, winner).reshape(-1, *kink.shape)

    def _continued(self, kink: Kink, rows: Tensor) -> Tensor:
        n = self._bases
        values, slopes = slopes_at(kink, rows[:n])
        out = torch.empty_like(rows)
        out[:n] = values
        for start in range(n, len(rows), n):
            part = slice(start, start + n)
            out[part] = out[:n] + slopes * (rows[part] - rows[:n])
        return out


def slopes_at(kink: Kink, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Return values and slopes of an operation on each entry; at a threshold, PyTorch's."""
    with torch.enable_grad():
        base = entries.detach().requires_grad_()
        values = kink.function(base)
        (slopes,) = torch.autograd.grad(values.sum(), base)
    return values.detach(), slopes


def hinges(kink: Kink, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return where an operation on each entry bends, ascending, and its slopes between.

    Returns
    -------
    thresholds : Tensor of shape (k, units)
        Of the dtype and on the device of ``like``.
    slopes : Tensor of shape (k + 1, units)
        Below the first, between it and the second, and so on.
    """
    zero = like.new_zeros(1, *kink.shape)
    wide = [(zero + threshold).clamp(-FAR, FAR) for threshold in kink.bend.thresholds]
    thresholds = torch.cat(wide or [zero[:0]]).sort(dim=0).values
    first, last = (thresholds[:1], thresholds[-1:]) if wide else (zero, zero)
    points = torch.cat([first - 1 - first.abs(), thresholds, last + 1 + last.abs()])
    gaps = points.diff(dim=0)
    # By differences: some derivatives of PyTorch's are exact to single precision only.
    slopes = torch.where(gaps > 0, kink.function(points).diff(dim=0) / gaps, 0.0)
    return thresholds.flatten(1), slopes.flatten(1)
