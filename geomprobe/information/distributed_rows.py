"""The rows of a Fisher information that many processes hold, as one linear map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from geomprobe.information.fisher_rows import FisherRows
from geomprobe.processes import backend_device, place, together


@dataclass(frozen=True, eq=False)
class DistributedRows(FisherRows):
    """The rows of all processes, each of which holds those of its samples.

    Every method but :meth:`parameters` is a collective.

    Parameters
    ----------
    places : tuple of int64 Tensor
        Which of all samples the processes hold, in their order; the other fields are of this one.
    """

    places: tuple[Tensor, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows of all processes, and of parameters."""
        return self._n_samples * self.cotangents.shape[1], super().shape[1]

    def into_rows(self, direction: Mapping[str, Tensor]) -> Tensor:
        """See :meth:`FisherRows.into_rows`: of the rows of all, in every process."""
        n, k = len(self.data), self.cotangents.shape[1]
        whole = torch.zeros(self._n_samples, k, dtype=torch.float64, device=backend_device())

        def own() -> None:
            if n:
                rows = super(DistributedRows, self).into_rows(direction)
                whole[self.places[place()[0]]] = (rows.view(n, k) * self._share).to(whole)

        together(own)
        dist.all_reduce(whole)
        return whole.flatten().to(self.cotangents.device)

    def _pulled_back(self, coefficients: Tensor) -> dict[str, Tensor]:
        """See :meth:`FisherRows.into_parameters`: from coefficients of the rows of all."""
        by_sample = torch.unflatten(coefficients.double(), 0, (self._n_samples, -1))
        own = by_sample[self.places[place()[0]]].flatten(0, 1)
        mapped = together(lambda: super(DistributedRows, self)._pulled_back(own * self._share))
        for name, part in mapped.items():
            summed = part.to(backend_device())
            dist.all_reduce(summed)
            mapped[name] = summed.to(part)
        return mapped

    def subset(self, samples: Tensor) -> DistributedRows:
        """Return the rows of some of all samples, for the average over these; no collective."""
        owner, position = torch.empty(2, self._n_samples, dtype=torch.long, device="cpu")
        for rank, held in enumerate(self.places):
            owner[held], position[held] = rank, torch.arange(len(held), device="cpu")
        places = tuple(
            torch.nonzero(owner[samples] == rank).ravel() for rank in range(len(self.places))
        )
        mine = position[samples[places[place()[0]]]]
        return replace(
            self, data=self.data.take(mine), cotangents=self.cotangents[mine], places=places
        )

    @property
    def _n_samples(self) -> int:
        return sum(map(len, self.places))

    @property
    def _share(self) -> float:
        """What brings averages over own samples to averages over all: of rows, the root."""
        return float((len(self.data) / self._n_samples) ** 0.5)
