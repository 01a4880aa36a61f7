"""What each of many processes makes of one Gram matrix, and how that becomes the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from geomprobe.information.cross_products import add_cross_products
from geomprobe.information.factors import Factor
from geomprobe.jacobians import not_finite
from geomprobe.processes import backend_device, place, to_all
from geomprobe.storage import Array


@dataclass
class GramBlocks:
    """What this process makes of the Gram matrix: products of its rows.

    Parameters
    ----------
    counts : list of int
        Samples of each process.
    per_sample : int
    own : Tensor
        With each other, on and below the diagonal.
    across : dict of int to Tensor
        With those of other processes; such a block is the sum of what both have.
    added : int
        How many times something was added.
    """

    counts: list[int]
    per_sample: int
    own: Tensor
    across: dict[int, Tensor]
    added: int = 0

    @classmethod
    def zeros(
        cls, counts: list[int], per_sample: int, dtype: torch.dtype, device: torch.device
    ) -> GramBlocks:
        """Return those to which nothing has been added."""
        rank, processes = place()

        def block(samples: int) -> Tensor:
            shape = counts[rank] * per_sample, samples * per_sample
            return torch.zeros(shape, dtype=dtype, device=device)

        sources = [(rank - distance) % processes for distance in range(1, processes // 2 + 1)]
        across = {source: block(counts[source]) for source in sources}
        return cls(counts, per_sample, block(counts[rank]), across)

    def add(self, tensors: list[Tensor], factors: Callable[[list[Tensor]], list[Factor]]) -> None:
        """Add the products of some parameters.

        Parameters
        ----------
        tensors : list of Tensor
            What another process needs of this one's samples.
        factors : callable
            Makes factors of them.
        """
        shapes = to_all([list(tensor.shape) for tensor in tensors])
        mine = factors(tensors)
        for factor in mine:
            factor.add_to(self.own)
        rank, processes = place()
        for distance in range(1, processes // 2 + 1):
            to, source = (rank + distance) % processes, (rank - distance) % processes
            opposite = 2 * distance == processes  # Two that meet twice take turns.
            sends = not opposite or (self.added + (to < rank)) % 2 == 0
            meets = not opposite or (self.added + (rank < source)) % 2 == 0
            theirs = _exchange(
                tensors, to if sends else None, shapes[source], source if meets else None
            )
            for left, right in zip(mine, factors(theirs), strict=True) if meets else ():
                add_cross_products(self.across[source], left, right)
        self.added += 1

    def require_finite(self) -> None:
        """Raise ValueError if a gradient of this process is not finite."""
        finite = torch.isfinite(self.own.diagonal().view(-1, self.per_sample)).all(dim=1)
        if not bool(finite.all()):
            raise ValueError(not_finite("gradients", finite))

    def whole(self) -> Array:
        """Return the matrix of all processes. A collective."""
        ends = np.cumsum(self.counts) * self.per_sample
        spans = [
            slice(end - n * self.per_sample, end) for end, n in zip(ends, self.counts, strict=True)
        ]
        mine = spans[place()[0]]
        whole = torch.zeros(ends[-1], ends[-1], dtype=self.own.dtype, device=backend_device())
        whole[mine, mine] = (self.own.tril() + self.own.tril(-1).T).to(whole)
        for source, block in self.across.items():
            whole[mine, spans[source]] = block.to(whole)
            whole[spans[source], mine] = block.T.to(whole)
        dist.all_reduce(whole)
        gram: Array = whole.double().cpu().numpy()
        return gram


def _exchange(
    tensors: list[Tensor], to: int | None, shapes: list[list[int]], source: int | None
) -> list[Tensor]:
    """Send tensors to one process, and receive those of another, of the given shapes."""
    device, operations, received = backend_device(), [], []
    for tag, (tensor, shape) in enumerate(zip(tensors, shapes, strict=True)):
        if to is not None:
            sent = tensor.to(device).contiguous()
            operations.append(dist.P2POp(dist.isend, sent, to, tag=tag))
        if source is not None:
            received.append(torch.empty(shape, dtype=tensor.dtype, device=device))
            operations.append(dist.P2POp(dist.irecv, received[-1], source, tag=tag))
    for work in dist.batch_isend_irecv(operations) if operations else ():
        work.wait()
    return [one.to(tensors[0].device) for one in received]
