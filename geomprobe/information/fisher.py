"""The exact Fisher information of a model, layer by layer where that can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples
from geomprobe.hooks import quiet
from geomprobe.information.factors import Rows
from geomprobe.information.gram import FisherGram
from geomprobe.information.layerwise import Layer, LayoutError, parts_of, record
from geomprobe.information.likelihoods import Likelihood
from geomprobe.information.setting import LARGEST_BATCH, Setting, setting_of
from geomprobe.jacobians import (
    Parameters,
    jacobian_products,
    not_finite,
    require_independence,
    row_bytes,
    row_epsilon,
)
from geomprobe.memory import allowed_bytes, require_memory

#: What the parameters of the model itself are said to belong to.
ROOT = "(root)"
_CHUNK_BYTES = 64 * 2**20
_BLOCK_ROWS = 512
# Inputs and gradients of layers that are held at a time.
_MOST_PASSING = 2**30


def fisher_gram(
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
    by_layer: bool = False,
) -> FisherGram:
    r"""Compute the exact Fisher information of a model over some inputs, in its dual form.

    .. math::
        F = \frac{1}{N} \sum_n J_n^T H_n J_n = B^T B, \qquad
        B_{(n, c)} = \frac{1}{\sqrt N} R_n[:, c]^T J_n, \qquad K = B B^T

    with J_n the Jacobian of the outputs of input n in the parameters and H_n = R_n R_n^T the Fisher
    information of the likelihood in its outputs. No label is sampled. With ``kind="mc"`` the rows
    are gradients at labels drawn from the model instead, an unbiased estimate for models with many
    outputs; for the empirical Fisher, the one row of input n is the gradient of its loss at its
    target.

    Parameters
    ----------
    model : torch.nn.Module
        With batch norm and dropout in evaluation mode, since samples mix or are random otherwise;
        left as it was. Parameters with ``requires_grad=False`` are constants; one that several
        modules own counts once.
    data : Samples
        Inputs, and targets for the empirical Fisher. Targets also tell where there is padding.
    kind : {"true", "mc", "empirical"}
        Over all of the model's own labels, over some drawn from it, or at the labels of the data.
    likelihood : Likelihood, optional
        What the outputs mean; by default what ``loss`` says: :func:`likelihood_of`.
    loss : callable, optional
        ``loss(outputs, targets)``. For the empirical Fisher it may be any function: one that stands
        for no known likelihood is called on each sample as a batch of one.
    draws, seed : int
        How many labels to draw of each input, and the seed of them, for ``kind="mc"``.
    batch_size : int, optional
        Samples to work on at a time; by default at most 64.
    dtype : torch.dtype
        Of the products, and of the matrix. float32 takes half the time and memory, and raises the
        noise floor of the spectrum.
    memory_share : float
        Largest fraction of the available memory to take.
    by_layer : bool
        Keep the part of each layer too, in :attr:`FisherGram.layers`: M^2 numbers each.

    Returns
    -------
    FisherGram

    Raises
    ------
    ValueError, TypeError
        Before any gradient: batch norm or dropout in training mode, no trainable parameter, no
        samples, outputs that are no finite floating-point tensor with the samples first or that the
        likelihood does not take, no likelihood, targets that are missing or do not fit. After:
        gradients that are not finite, or outputs of a sample that depend on the other samples or on
        chance.
    MemoryEstimateError
        The rows would not fit in memory.

    Notes
    -----
    K is a sum over layers, and the part of a layer follows from its inputs and from the gradients
    at its outputs: for a linear layer ``(A A^T) * (G G^T)``, without any gradient of a weight. With
    T positions (sequences, patches of a convolution) the part is taken from inner products of
    positions or from gradients of that layer alone, whichever costs less. No layer's gradients
    outlive it. There are rules for Linear, Conv and ConvTranspose in one to three dimensions,
    Embedding, and Layer, RMS, Group, Batch and InstanceNorm. Each is first tried on three samples
    against what PyTorch gives, and a layer where it fails (tied or functional weights, samples that
    are not told apart) is left to per-sample gradients by ``torch.func.vmap``, or sample by sample
    where that cannot follow the model; so are all other parameters. The result's ``route`` names
    them.

    M = N (C - 1) rows for softmax (N T (C - 1) with T positions), N C for the other likelihoods,
    N draws for drawn labels, N for the empirical Fisher. As many backward passes as rows a sample
    to the layers' outputs; O(M^2) memory beside the inputs and gradients of some layers at a time,
    about 1 GiB. Those of a layer with d inputs and e outputs cost M^2 (d + e) without positions, at
    most M^2 d e with; per-sample gradients of p parameters M^2 p, and M p memory.

    References
    ----------
    Martens, J. (2020). New insights and perspectives on the natural gradient method. JMLR 21(146),
    sections 5 and 9. For the difference of the two kinds: Kunstner, F., Hennig, P. and Balles, L.
    (2019). Limitations of the empirical Fisher approximation. arXiv:1905.12558. Gram matrices
    without gradients, for their diagonal: Goodfellow, I. (2015). Efficient per-example gradient
    computations. arXiv:1510.01799. The choice of the route: Bu, Z., Mao, J. and Xu, S. (2022).
    Scalable and efficient training of large convolutional neural networks with differential
    privacy. NeurIPS.
    """
    setting = setting_of(
        model,
        data,
        kind=kind,
        likelihood=likelihood,
        loss=loss,
        draws=draws,
        seed=seed,
        batch_size=batch_size,
        memory_share=memory_share,
    )
    made = products_of(setting, batch_size, dtype, memory_share, by_layer)
    parameters, n_samples = setting.parameters, len(setting.data)

    def found(names: list[str], gram: Tensor, layers: Mapping[str, FisherGram]) -> FisherGram:
        return FisherGram(
            gram=gram.div_(n_samples).cpu().numpy(),
            n_samples=n_samples,
            n_parameters=sum(parameters[name].numel() for name in names),
            kind=kind,
            route=made.route,
            rows_per_sample=setting.cotangents.shape[1],
            row_epsilon=row_epsilon(parameters),
            gram_epsilon=torch.finfo(dtype).eps,
            rows=setting.rows(names, made.chunk),
            layers=layers,
        )

    of_layers = {
        owner: found([name for name in parameters if _owner(name) == owner], part, {})
        for owner, part in made.by_layer.items()
    }
    return found(list(parameters), made.gram, of_layers)


@dataclass(frozen=True)
class Products:
    """Products of all rows, summed over parameters.

    Parameters
    ----------
    gram : Tensor of shape (M, M)
    by_layer : dict of str to Tensor
        Its parts, where they were asked for.
    route : str
        As of a :class:`FisherGram`.
    chunk : int
        Samples of a pass.
    """

    gram: Tensor
    by_layer: dict[str, Tensor]
    route: str
    chunk: int


def products_of(
    setting: Setting,
    batch_size: int | None,
    dtype: torch.dtype,
    memory_share: float,
    by_layer: bool = False,
) -> Products:
    """Return the products of all rows, not yet averaged over samples.

    Raises
    ------
    MemoryEstimateError
        They would not fit in memory.
    ValueError
        Gradients that are not finite, or outputs of a sample that depend on others.
    """
    parameters, cotangents = setting.parameters, setting.cotangents
    n_samples, per_sample = cotangents.shape[:2]
    owners = {name: _owner(name) for name in parameters}
    kept = len(set(owners.values())) if by_layer else 0
    room = Room(n_samples, per_sample, dtype, batch_size, memory_share, kept)
    with quiet(setting.model):
        layers = setting.layers
        room.require(layers, setting.left(layers))
        zeros = torch.zeros(room.n_rows, room.n_rows, dtype=dtype, device=_device(cotangents))
        parts = {
            one: zeros.clone() if by_layer else zeros for one in dict.fromkeys(owners.values())
        }
        try:
            for group in room.groups(layers):
                _add_layers(parts, setting, group, room.chunk_of(layers))
        except LayoutError:
            for part in parts.values():
                part.zero_()
            layers = {}
            room.require(layers, parameters)
        left = setting.left(layers)
        routes = ["layer by layer"] if layers else []
        if left:
            chunk = room.chunk_of_rows(left)
            rows, route = jacobian_products(
                setting.model, left, setting.data, setting.outputs, cotangents, chunk
            )
            by_sample = rows.view(n_samples, per_sample, -1)
            sizes = [parameter.numel() for parameter in left.values()]
            columns = torch.split(by_sample, sizes, dim=2) if by_layer else [by_sample]
            for name, own in zip(left, columns, strict=by_layer):
                Rows(own).add_to(parts[owners[name]])
            routes.append(f"{route}: {', '.join(left)}" if layers else route)
    gram = sum(parts.values(), start=zeros) if by_layer else zeros
    finite = torch.isfinite(gram.diagonal().view(n_samples, per_sample)).all(dim=1)
    if not bool(finite.all()):
        raise ValueError(not_finite("gradients", finite))
    return Products(
        _mirrored(gram),
        {owner: _mirrored(part) for owner, part in (parts if by_layer else {}).items()},
        "; ".join(routes),
        room.chunk_of(layers),
    )


def _owner(parameter: str) -> str:
    """Return the module that a parameter belongs to."""
    return parameter.rpartition(".")[0] or ROOT


def _add_layers(
    parts: Mapping[str, Tensor], setting: Setting, layers: Mapping[str, Layer], chunk: int
) -> None:
    recorded, alone = record(setting.model, layers, setting.data, setting.cotangents, chunk)
    require_independence(alone, setting.outputs, row_epsilon(setting.parameters))
    for name, layer in layers.items():
        owner = _owner(next(iter(layer.names.values())))
        for factor, _ in parts_of(layer, recorded.pop(name)):
            factor.add_to(parts[owner])


@dataclass(frozen=True)
class Room:
    """How much may be held at a time."""

    n_samples: int
    per_sample: int
    dtype: torch.dtype
    batch_size: int | None
    share: float
    kept: int = 0  # Layers whose matrices are kept.

    @property
    def n_rows(self) -> int:
        """Rows in all."""
        return self.n_samples * self.per_sample

    def chunk_of(self, layers: Mapping[str, Layer]) -> int:
        """Return how many samples to pass at a time.

        Not as many as for the outputs, since these must not depend on it.
        """
        numbers = sum(layer.n_inputs + layer.n_outputs for layer in layers.values())
        fitting = _CHUNK_BYTES // (self.dtype.itemsize * numbers) if layers else LARGEST_BATCH
        size = min(self.n_samples, self.batch_size or max(1, fitting))
        before = min(self.n_samples, self.batch_size or LARGEST_BATCH)
        return max(1, 2 * size // 3) if size == before else size

    def chunk_of_rows(self, parameters: Parameters) -> int:
        """Return the number of samples whose gradients to form at a time."""
        fitting = max(1, _CHUNK_BYTES // (self.per_sample * row_bytes(parameters)))
        return min(self.n_samples, self.batch_size or min(fitting, LARGEST_BATCH))

    def require(self, layers: Mapping[str, Layer], left: Parameters) -> None:
        """Raise MemoryEstimateError unless the rows, the products and the largest layer fit."""
        one_row = row_bytes(left)
        gradients = self.n_rows * one_row
        if left:
            gradients += 2 * self.chunk_of_rows(left) * self.per_sample * one_row
        passing = max((self._bytes(layer) for layer in layers.values()), default=0)
        gram = (3 + 2 * self.kept) * self.dtype.itemsize * self.n_rows**2
        largest = max(one_row, passing // self.n_rows)
        require_memory(
            gram + _CHUNK_BYTES + max(gradients, passing),
            f"a Fisher Gram matrix of {self.n_rows} rows ({self.n_samples} samples, "
            f"{self.per_sample} a sample)",
            f"Use fewer samples: one takes about {self.per_sample * largest / 2**20:.1f} MiB.",
            share=self.share,
        )

    def groups(self, layers: Mapping[str, Layer]) -> Iterator[dict[str, Layer]]:
        """Yield layers that fit at once; each group takes passes of its own."""
        allowed = allowed_bytes(share=self.share) or _MOST_PASSING
        budget = min(_MOST_PASSING, allowed // 2)
        group: dict[str, Layer] = {}
        taken = 0
        for name, layer in layers.items():
            if group and taken + self._bytes(layer) > budget:
                yield group
                group, taken = {}, 0
            group[name] = layer
            taken += self._bytes(layer)
        if group:
            yield group

    def _bytes(self, layer: Layer) -> int:
        numbers = layer.n_inputs + self.per_sample * layer.n_outputs
        return self.dtype.itemsize * self.n_samples * numbers


def _device(cotangents: Tensor) -> torch.device:
    """Return where to sum products: mps has no float64."""
    return torch.device("cpu") if cotangents.device.type == "mps" else cotangents.device


def _mirrored(gram: Tensor) -> Tensor:
    """Complete a matrix, in place, from what is on and below its diagonal."""
    for start in range(0, len(gram), _BLOCK_ROWS):
        here = slice(start, start + _BLOCK_ROWS)
        gram[:start, here] = gram[here, :start].T
        lower = gram[here, here].tril()
        gram[here, here] = lower + lower.tril(-1).T
    return gram
