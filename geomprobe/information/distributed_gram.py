"""The Fisher information of samples that many processes hold, each its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples
from geomprobe.hooks import quiet
from geomprobe.information.distributed_rows import DistributedRows
from geomprobe.information.factors import Factor, Rows
from geomprobe.information.fisher import Room, fisher_gram
from geomprobe.information.gram import FisherGram
from geomprobe.information.gram_blocks import GramBlocks
from geomprobe.information.layerwise import (
    Layer,
    Layout,
    LayoutError,
    Recorded,
    holder,
    parts_of,
    record,
)
from geomprobe.information.likelihoods import Gaussian, Likelihood
from geomprobe.information.setting import LARGEST_BATCH, Setting, setting_of
from geomprobe.jacobians import (
    jacobian_products,
    require_independence,
    row_epsilon,
)
from geomprobe.memory import require_memory
from geomprobe.processes import from_first, place, to_all, together


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
    names. Each of P processes makes about 1/P of the products. It holds the layers of its own
    samples (about 1 GiB at a time), one layer of another's, and, as every process gets the whole,
    the M^2 numbers of the Gram matrix, which are summed over processes once. It sends the inputs
    and gradients of its layers to P/2 others.

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
    device = setting.cotangents.device
    with quiet(model):
        layers = _layers(setting, counts)
        together(lambda: _require_memory(counts, here, layers, setting.left(layers)))
        blocks = GramBlocks.zeros(counts, per_sample, dtype, device)
        try:
            for names in from_first([list(group) for group in most.groups(layers)]):
                group = {name: layers[name] for name in names}
                _add_layers(blocks, setting, group, here.chunk_of(group))
        except LayoutError:
            layers = {}
            together(lambda: _require_memory(counts, here, layers, setting.parameters))
            blocks = GramBlocks.zeros(counts, per_sample, dtype, device)
        routes = ["layer by layer"] if layers else []
        if left := setting.left(layers):
            route = _add_gradients(blocks, setting, here.chunk_of_rows(left), left)
            routes.append(f"{route}: {', '.join(left)}" if layers else route)
    together(blocks.require_finite)
    n_samples = sum(counts)
    places = torch.split(torch.arange(n_samples, device="cpu"), counts)
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
        found = setting.layers if place()[0] == trying else {}
        return {
            name: [dict(layer.names), [[at.axis, at.size] for at in layer.layouts],
                   layer.n_inputs, layer.n_outputs, layer.shared]
            for name, layer in found.items()
        }  # fmt: skip

    return {
        name: Layer(
            holder(setting.model, name),
            names,
            tuple(Layout(*at) for at in layouts),
            *others,
        )
        for name, (names, layouts, *others) in to_all(together(tried))[trying].items()
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


def _add_layers(
    blocks: GramBlocks, setting: Setting, layers: Mapping[str, Layer], chunk: int
) -> None:
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


def _add_gradients(
    blocks: GramBlocks, setting: Setting, chunk: int, left: dict[str, Tensor]
) -> str:
    """Add what the other parameters make, and return the route."""
    data, cotangents = setting.data, setting.cotangents
    rows, route = together(
        lambda: jacobian_products(setting.model, left, data, setting.outputs, cotangents, chunk)
    )
    blocks.add([rows.view(*cotangents.shape[:2], -1)], lambda tensors: [Rows(tensors[0])])
    return " and ".join(dict.fromkeys(to_all(route)))
