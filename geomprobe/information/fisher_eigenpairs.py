"""The largest eigenvalues of a Fisher information, and their directions in parameter space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from geomprobe.evidence import Loss, Samples, forward
from geomprobe.exceptions import MemoryEstimateError
from geomprobe.hooks import quiet
from geomprobe.information.eigenpairs import Eigenpairs, top_eigenpairs
from geomprobe.information.fisher import products_of
from geomprobe.information.fisher_rows import FisherRows
from geomprobe.information.gram import noise_floor
from geomprobe.information.krylov import leading_eigenpairs
from geomprobe.information.layerwise import parts_of, record
from geomprobe.information.likelihoods import Likelihood
from geomprobe.information.setting import LARGEST_BATCH, Setting, setting_of
from geomprobe.jacobians import row_dtype, row_epsilon
from geomprobe.memory import require_memory
from geomprobe.storage import Array

# Products that Lanczos takes for an eigenvalue, and forward passes that take as long as a product.
_PRODUCTS, _PASSES = 4, 9


def fisher_eigenpairs(
    model: nn.Module,
    data: Samples,
    k: int = 1,
    *,
    kind: str = "true",
    likelihood: Likelihood | None = None,
    loss: Loss | None = None,
    draws: int = 1,
    seed: int = 0,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float64,
    memory_share: float = 0.5,
) -> Eigenpairs:
    """Find the k largest eigenvalues of a Fisher information, and eigenvectors.

    Parameters
    ----------
    k : int
        How many: at most as many as there are rows, M.
    model, data, kind, likelihood, loss, draws, seed, batch_size, dtype, memory_share
        See :func:`~geomprobe.information.fisher_gram`, whose errors are raised.

    Returns
    -------
    Eigenpairs
        Vectors over the trainable parameters, one after another. The residuals are upper bounds.

    Raises
    ------
    ValueError
        Fewer than k eigenvalues differ from zero.

    Notes
    -----
    The nonzero eigenvalues are those of the Gram matrix K = B B^T. Where this takes fewer
    operations and fits in memory, K is computed and multiplied with; else each product with it is
    two forward passes and their backward passes through the model, and nothing is larger than
    max(2k + 1, 20) vectors of M numbers and k of all parameters. ``route`` says which. An
    eigenvector u of K gives B^T u, by a backward pass each.
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
    n_rows = setting.cotangents.shape[:2].numel()
    if not 1 <= k <= n_rows:
        raise ValueError(f"k must be from 1 to {n_rows}, the number of rows; got {k}")
    p = sum(parameter.numel() for parameter in setting.parameters.values())
    require_memory(
        12 * p * k, f"{k} eigenvectors of {p} parameters", "Ask for fewer.", share=memory_share
    )
    if _gram_takes_less(setting, k):
        try:
            made = products_of(setting, batch_size, dtype, memory_share)
        except MemoryEstimateError:
            pass
        else:
            gram = made.gram.div_(len(data))
            values, vectors = leading_eigenpairs(gram, k)
            residuals = (gram @ vectors - vectors * values).norm(dim=0)
            dual = Eigenpairs(
                _array(values), _array(vectors), _array(residuals), f"Gram matrix, {made.route}"
            )
            floor = noise_floor(
                dual.values[0],
                float(gram.trace()),
                n_rows,
                torch.finfo(dtype).eps,
                row_epsilon(setting.parameters),
            )
            return _primal(setting.rows(setting.parameters, made.chunk), dual, floor)
    rows = setting.rows(setting.parameters, batch_size or LARGEST_BATCH)
    products = _Products(rows, row_dtype(setting.parameters))
    dual = top_eigenpairs(products, k, seed=seed, memory_share=memory_share)
    return _primal(rows, dual, n_rows * torch.finfo(products.dtype).eps * dual.values[0])


@dataclass(frozen=True)
class _Products:
    """The Gram matrix K = B B^T, by passes through the model."""

    rows: FisherRows
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.shape[0], self.rows.shape[0]

    @property
    def device(self) -> torch.device:
        return self.rows.cotangents.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        columns = [self.rows.into_rows(self.rows.into_parameters(u)) for u in vectors.T]
        return torch.stack(columns, dim=1)


def _array(numbers: Tensor) -> Array:
    found: Array = numbers.double().cpu().numpy()
    return found


def _primal(rows: FisherRows, dual: Eigenpairs, floor: float) -> Eigenpairs:
    """Return eigenpairs of F = B^T B from those of K = B B^T: v = B^T u / sqrt(value)."""
    if not dual.values[-1] > floor:
        found = int((dual.values > floor).sum())
        raise ValueError(f"only {found} eigenvalues differ from zero; ask for no more of them")
    mapped = rows.into_parameters(torch.from_numpy(dual.vectors))
    vectors: Array = np.concatenate(
        [part.flatten(1).T.double().cpu().numpy() for part in mapped.values()]
    )
    vectors /= np.sqrt(dual.values)
    # F v - value v = B^T (K u - value u) / sqrt(value), and |B^T|^2 is the largest eigenvalue.
    residuals = dual.residuals * np.sqrt(dual.values[0] / dual.values)
    return Eigenpairs(dual.values, vectors, residuals, dual.route)


def _gram_takes_less(setting: Setting, k: int) -> bool:
    """Whether the Gram matrix takes fewer operations than products with it."""
    n, per_sample = setting.cotangents.shape[:2]
    few = setting.data.take(slice(2))
    with quiet(setting.model):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            forward(setting.model, few.inputs)
        one_pass = counter.get_total_flops() / len(few)
        layers = setting.layers
        recorded, _ = record(setting.model, layers, few, setting.cotangents[:2], len(few))
    left = sum(parameter.numel() for parameter in setting.left(layers).values())
    a_pair = per_sample**2 * left + sum(
        factor.work(n)
        for name, layer in layers.items()
        for factor, _ in parts_of(layer, recorded[name])
    )
    gram = n**2 * a_pair + n * per_sample * one_pass
    return bool(gram < _PRODUCTS * k * _PASSES * n * one_pass)
