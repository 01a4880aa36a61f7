"""The affine maps that a network continues: every bend held on the branch that it is on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from geomprobe.tropical.tape import Kink


class Branches:
    """Base inputs, each with some others at which the network is its affine map at the base.

    Rows are the bases, then each base's first companion, then each base's second, and so on. The
    differences of the outputs are those of the affine maps, to rounding, however small the region.

    Parameters
    ----------
    bases : int
    spread : callable, optional
        Makes these rows from the few that are known until the first bend.
    """

    def __init__(self, bases: int, spread: Callable[[Tensor], Tensor] | None = None) -> None:
        self.version = 0
        self._bases = bases
        self._spread = spread

    def lift(self, rows: Tensor, version: int) -> Tensor:
        """Return rows of the bases and companions."""
        assert self._spread is not None
        return self._spread(rows)

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Apply an operation as it is at the bases."""
        if self.version == 0 and self._spread is not None:
            rows = [self.lift(part, 0) for part in rows]
            self.version = 1
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
