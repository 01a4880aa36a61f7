"""The Fisher information of samples that many processes hold, each its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples
from geomprobe.hooks import quiet
from geomprobe.information.cross_products import add_cross_products
from geomprobe.information.factors import Factor, Rows
from geomprobe.information.fisher import Room, fisher_gram
from geomprobe.information.fisher_rows import FisherRows
from geomprobe.information.gram import FisherGram
from geomprobe.information.layerwise import (
    Layer,
    Layout,
    LayoutError,
    Recorded,
    parts_of,
    record,
)
from geomprobe.information.likelihoods import Gaussian, Likelihood
from geomprobe.information.setting import LARGEST_BATCH, Setting, setting_of
from geomprobe.jacobians import (
    jacobian_products,
    not_finite,
    require_independence,
    row_epsilon,
)
from geomprobe.memory import require_memory
from geomprobe.processes import backend_device, from_first, place, to_all, together


def distributed_fisher_gram(
    model: nn.Module,
    data: Samples,
    *,
    kind: str = "true",
    likelihood: Likelihood | None = None,
    loss: Loss | None = None,
    draws: int = 1,
    seed: int = 0,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float64,
    memory_share: float = 0.5,
) -> FisherGram:
    """Compute a Fisher information over the samples of all processes of ``torch.distributed``.

    A collective: every process calls it, with its own samples and the same model, and gets what
    :func:`~geomprobe.information.fisher_gram` would say of all samples, in the order of the
    processes. Where there is one process, it is that function.

    Parameters
    ----------
    data : Samples
        The samples of this process: at least one, and not as many in each.
    seed : int
        Seed of drawn labels, which differ from process to process.
    model, kind, likelihood, loss, draws, batch_size, dtype, memory_share
        See :func:`~geomprobe.information.fisher_gram`. The variance of a Gaussian must be given.

    Returns
    -------
    FisherGram
        The same in every process. What maps to parameters and back
        (:meth:`~FisherGram.eigenvectors`, :meth:`~FisherGram.natural_gradient`,
        :meth:`~FisherGram.norm`) is a collective too.

    Raises
    ------
    ValueError, TypeError, MemoryEstimateError
        As :func:`~geomprobe.information.fisher_gram`; a Gaussian whose variance is to be estimated;
        parameters, or rows a sample, that are not the same in all processes.
    RuntimeError
        Another process failed: with what it raised.

    Notes
    -----
    Samples of two processes meet once, layer by layer: one sends the layer's inputs and output
    gradients of its samples to the other, which multiplies them with its own. No gradient of a
    weight is sent but those of parameters that need per-sample gradients, which the ``route``
    names. Each pair of processes shares its work by layers or by direction, so that P processes
    take about 1/P of the time. A process holds the layers of its own samples (about 1 GiB at a
    time), one layer of another's, and, as every process gets the whole, the M^2 numbers of the
    Gram matrix, which are summed over processes once. It sends the inputs and gradients of its
    layers to P/2 others.

    The first process with three samples tries the rules of the layers for all.
    """
    rank, processes = place()
    if processes == 1:
        return fisher_gram(
            model,
            data,
            kind=kind,
            likelihood=likelihood,
            loss=loss,
            draws=draws,
            seed=seed,
            batch_size=batch_size,
            dtype=dtype,
            memory_share=memory_share,
        )
    if isinstance(likelihood, Gaussian) and likelihood.variance is None:
        raise ValueError(
            "no process sees all samples, to estimate the variance from; give it, as in "
            "Gaussian(0.3)"
        )
    setting = together(
        lambda: setting_of(
            model,
            data,
            kind=kind,
            likelihood=likelihood,
            loss=loss,
            draws=draws,
            seed=int(np.random.SeedSequence((seed, rank)).generate_state(1)[0]),
            batch_size=batch_size,
            memory_share=memory_share,
        )
    )
    counts, per_sample = _counts(setting), setting.cotangents.shape[1]
    here, most = (
        Room(n, per_sample, dtype, batch_size, memory_share) for n in (counts[rank], max(counts))
    )
    with quiet(model):
        layers = _layers(setting, counts)
        together(lambda: _require_memory(counts, here, layers, setting.left(layers)))
        blocks = _Blocks.of(counts, here, setting.cotangents.device)
        try:
            for names in from_first([list(group) for group in most.groups(layers)]):
                group = {name: layers[name] for name in names}
                _add_layers(blocks, setting, group, here.chunk_of(group))
        except LayoutError:
            layers = {}
            together(lambda: _require_memory(counts, here, layers, setting.parameters))
            blocks = _Blocks.of(counts, here, setting.cotangents.device)
        routes = ["layer by layer"] if layers else []
        if left := setting.left(layers):
            route = _add_gradients(blocks, setting, here.chunk_of_rows(left), left)
            routes.append(f"{route}: {', '.join(left)}" if layers else route)
    together(blocks.require_finite)
    n_samples = sum(counts)
    places = torch.split(torch.arange(n_samples), counts)
    return FisherGram(
        gram=blocks.whole() / n_samples,
        n_samples=n_samples,
        n_parameters=sum(parameter.numel() for parameter in setting.parameters.values()),
        kind=kind,
        route="; ".join([f"{processes} processes", *routes]),
        rows_per_sample=per_sample,
        row_epsilon=row_epsilon(setting.parameters),
        gram_epsilon=torch.finfo(dtype).eps,
        rows=DistributedRows(
            model,
            tuple(setting.parameters),
            setting.data,
            setting.cotangents,
            batch_size or LARGEST_BATCH,
            places,
        ),
    )


def _counts(setting: Setting) -> list[int]:
    """Return how many samples each process has, if they speak of the same rows."""
    digest = hashlib.blake2b()
    for name, parameter in setting.parameters.items():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        digest.update(parameter.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    facts = to_all([len(setting.data), setting.cotangents.shape[1], digest.hexdigest()])
    counts, per_sample, digests = ([fact[i] for fact in facts] for i in range(3))
    if len(set(digests)) > 1:
        raise ValueError("the processes hold different parameters; bring them to the same first")
    if len(set(per_sample)) > 1:
        raise ValueError(
            f"the processes have {per_sample} rows a sample; give all of them outputs of one "
            "shape, as by padding"
        )
    return counts


def _layers(setting: Setting, counts: Sequence[int]) -> dict[str, Layer]:
    """Return the layers whose rules hold for the samples of one process."""
    trying = next((rank for rank, n in enumerate(counts) if n > 2), int(np.argmax(counts)))

    def tried() -> dict[str, Any]:
        found = setting.layers() if place()[0] == trying else {}
        return {
            name: [dict(layer.names), [[at.axis, at.size] for at in layer.layouts],
                   layer.n_inputs, layer.n_outputs]
            for name, layer in found.items()
        }  # fmt: skip

    return {
        name: Layer(
            setting.model.get_submodule(name),
            names,
            tuple(Layout(*at) for at in layouts),
            n_inputs,
            n_outputs,
        )
        for name, (names, layouts, n_inputs, n_outputs) in to_all(together(tried))[trying].items()
    }


def _require_memory(
    counts: Sequence[int], here: Room, layers: Mapping[str, Layer], left: Mapping[str, Tensor]
) -> None:
    rows = sum(counts) * here.per_sample
    meeting = here.n_samples + max(counts)
    largest = max((layer.n_inputs + here.per_sample * layer.n_outputs for layer in layers.values()),
                  default=0)  # fmt: skip
    gradients = here.per_sample * sum(parameter.numel() for parameter in left.values())
    require_memory(
        8 * (3 * rows**2 + 2 * meeting * max(largest, gradients)),
        f"a Fisher Gram matrix of {rows} rows, {here.n_rows} of them in this process",
        "Use fewer samples.",
        share=here.share,
    )


def _add_layers(blocks: _Blocks, setting: Setting, layers: Mapping[str, Layer], chunk: int) -> None:
    """Add what some layers make, or raise LayoutError in all processes."""

    def recorded() -> dict[str, Recorded] | None:
        try:
            found, alone = record(setting.model, layers, setting.data, setting.cotangents, chunk)
        except LayoutError:
            return None
        require_independence(alone, setting.outputs, row_epsilon(setting.parameters))
        return found

    found = together(recorded)
    if not all(to_all(found is not None)) or found is None:
        raise LayoutError
    for name, layer in layers.items():
        one = found.pop(name)
        calls = len(one.inputs)

        def factors(
            tensors: list[Tensor], layer: Layer = layer, calls: int = calls
        ) -> list[Factor]:
            parts = parts_of(layer, Recorded(tensors[:calls], tensors[calls:]))
            return [factor for factor, _ in parts]

        blocks.add([*one.inputs, *one.grads], factors)


def _add_gradients(blocks: _Blocks, setting: Setting, chunk: int, left: dict[str, Tensor]) -> str:
    """Add what the other parameters make, and return the route."""
    data, cotangents = setting.data, setting.cotangents
    rows, route = together(
        lambda: jacobian_products(setting.model, left, data, setting.outputs, cotangents, chunk)
    )
    blocks.add([rows.view(*cotangents.shape[:2], -1)], lambda tensors: [Rows(tensors[0])])
    return " and ".join(dict.fromkeys(to_all(route)))


@dataclass
class _Blocks:
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
    def of(cls, counts: list[int], here: Room, device: torch.device) -> _Blocks:
        """Return zeros."""
        rank, processes = place()

        def zeros(samples: int) -> Tensor:
            shape = here.n_rows, samples * here.per_sample
            return torch.zeros(shape, dtype=here.dtype, device=device)

        sources = [(rank - distance) % processes for distance in range(1, processes // 2 + 1)]
        across = {source: zeros(counts[source]) for source in sources}
        return cls(counts, here.per_sample, zeros(here.n_samples), across)

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

    def whole(self) -> np.ndarray[Any, Any]:
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
        return whole.double().cpu().numpy()


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

    def into_parameters(self, coefficients: Tensor) -> dict[str, Tensor]:
        """See :meth:`FisherRows.into_parameters`: from coefficients of the rows of all."""
        if coefficients.shape != self.shape[:1]:
            raise ValueError(
                f"coefficients must have shape {self.shape[:1]}, got {tuple(coefficients.shape)}"
            )
        own = coefficients.double().view(self._n_samples, -1)[self.places[place()[0]]].flatten()
        mapped = together(lambda: super(DistributedRows, self).into_parameters(own * self._share))
        for name, part in mapped.items():
            summed = part.to(backend_device())
            dist.all_reduce(summed)
            mapped[name] = summed.to(part)
        return mapped

    def subset(self, samples: Tensor) -> DistributedRows:
        """Return the rows of some of all samples, for the average over these; no collective."""
        owner, position = torch.empty(2, self._n_samples, dtype=torch.long)
        for rank, held in enumerate(self.places):
            owner[held], position[held] = rank, torch.arange(len(held))
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
