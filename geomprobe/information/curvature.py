"""The Hessian and the Gauss-Newton matrix of a loss, as products that never form them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from geomprobe.evidence import Loss, Samples
from geomprobe.hooks import quiet
from geomprobe.information.objective import Objective, objective_of

_GROUPS = 16  # Of samples, for standard errors.

# From tensors like the parameters to those, or None for zeros.
Product = Callable[[list[Tensor]], list[Tensor | None]]


def curvature(
    model: nn.Module,
    data: Samples,
    *,
    loss: Loss,
    kind: str = "hessian",
    batch_size: int | None = None,
) -> Curvature:
    r"""Return the curvature of a model's mean loss at its present parameters.

    .. math::
        H = \frac{1}{N} \sum_n \nabla^2_\theta\, \ell(f_\theta(x_n), y_n), \qquad
        G = \frac{1}{N} \sum_n J_n^T\, \nabla^2_f\, \ell(f, y_n)\, J_n

    Parameters
    ----------
    model : torch.nn.Module
        Looked at in evaluation mode, and left as it was. Parameters with ``requires_grad=False``
        are constants; one that several modules own counts once.
    data : Samples
        Inputs and targets.
    loss : callable
        ``loss(outputs, targets)``, the mean over the samples of a batch.
    kind : {"hessian", "ggn"}
        H, or the generalised Gauss-Newton matrix G: positive semi-definite where the loss is convex
        in the outputs, equal to H where the model is linear in its parameters, and to the true
        Fisher information where the loss is the negative log-likelihood of an exponential family.
    batch_size : int, optional
        Samples of a pass; by default at most 256.

    Returns
    -------
    Curvature
        The parameters are copied: later training does not move it.

    Raises
    ------
    ValueError
        Another kind; no samples, targets or trainable parameters; a loss that is not one finite
        number, or is a sum over samples.

    Notes
    -----
    A loss without a second derivative, such as the absolute error, has curvature zero. Where all
    data fit into one batch, the pass is made once and its graph kept: a product with H then costs
    two backward passes, with G three; otherwise a forward pass more for each batch.

    References
    ----------
    Pearlmutter, B. A. (1994). Fast exact multiplication by the Hessian. Neural Computation 6.
    Schraudolph, N. N. (2002). Fast curvature matrix-vector products for second-order gradient
    descent. Neural Computation 14.
    """
    if kind not in _LINEARIZED:
        raise ValueError(f"kind must be one of {tuple(_LINEARIZED)}, got {kind!r}")
    return Curvature(objective_of(model, data, loss, batch_size=batch_size), kind)


@dataclass(frozen=True, eq=False)
class Curvature:
    """A symmetric matrix of shape (p, p) that is known by its products.

    It works wherever a matrix does that is only multiplied: see
    :func:`~geomprobe.information.top_eigenpairs`, :func:`~geomprobe.information.spectral_density`,
    :func:`~geomprobe.information.stochastic_trace`.

    Parameters
    ----------
    objective : Objective
        The mean loss as a function of the parameters.
    kind : {"hessian", "ggn"}
    """

    objective: Objective
    kind: str

    @property
    def shape(self) -> tuple[int, int]:
        """(p, p), with p the number of trainable parameters."""
        return self.objective.dimension, self.objective.dimension

    @property
    def dtype(self) -> torch.dtype:
        """Of vectors."""
        return self.objective.dtype

    @property
    def device(self) -> torch.device:
        """Where vectors must be."""
        return next(iter(self.objective.parameters.values())).device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Multiply a vector of shape (p,), or the columns of a matrix of shape (p, k)."""
        p = self.shape[1]
        if vectors.ndim not in (1, 2) or len(vectors) != p:
            raise ValueError(f"expected shape ({p},) or ({p}, k), got {tuple(vectors.shape)}")
        columns = vectors.to(self.device, self.dtype).view(p, -1).T
        totals = torch.zeros_like(columns)
        with quiet(self.objective.model), sdpa_kernel(SDPBackend.MATH):
            for share, product in self._products():
                for total, column in zip(totals, columns, strict=True):
                    moved = product(self.objective.split(column))
                    total.add_(self.objective.flat(moved), alpha=share)
        return totals.T.reshape(vectors.shape)

    def error_along(self, vector: Tensor, *, seed: int = 0) -> float:
        """Return the standard error, over samples, of the curvature along a vector of shape (p,).

        From random groups of samples. To first order it is also that of a simple eigenvalue whose
        eigenvector this is, the infinitesimal jackknife; NaN for one sample.
        """
        data = self.objective.data
        rows = np.random.default_rng(seed).permutation(len(data))
        groups = np.array_split(rows, min(len(data), _GROUPS))
        along = vector.to(self.device, self.dtype)
        values = []
        for group in groups:
            some = data.take(torch.from_numpy(np.sort(group)))
            part = Curvature(replace(self.objective, data=some), self.kind)
            values.append(float(along @ (part @ along)))
        return float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else np.nan

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Return a vector of shape (p,) by parameter."""
        return dict(zip(self.objective.parameters, self.objective.split(vector), strict=True))

    def dense(self) -> Tensor:
        """Return the matrix itself, by p products."""
        return self @ torch.eye(self.shape[0], dtype=self.dtype, device=self.device)

    def to_scipy(self) -> Any:
        """Return a ``scipy.sparse.linalg.LinearOperator`` in float64."""
        from scipy.sparse.linalg import LinearOperator

        def product(vectors: Any) -> Any:
            return (self @ torch.from_numpy(vectors)).double().cpu().numpy()

        return LinearOperator(self.shape, product, matmat=product, rmatvec=product, dtype=float)

    def _products(self) -> Iterator[tuple[float, Product]]:
        objective = self.objective
        if objective.batch_size >= len(objective.data):
            yield 1.0, self._whole
            return
        for share, batch in objective.batches():
            yield share, _LINEARIZED[self.kind](objective, batch)

    @cached_property
    def _whole(self) -> Product:
        return _LINEARIZED[self.kind](self.objective, self.objective.data)


def _hessian(objective: Objective, batch: Samples) -> Product:
    leaves = _leaves(objective)
    with torch.enable_grad():
        gradients = _gradients(objective.value(leaves, batch), leaves)

    def product(vectors: list[Tensor]) -> list[Tensor | None]:
        return _pulled(gradients, vectors, leaves)

    return product


def _gauss_newton(objective: Objective, batch: Samples) -> Product:
    leaves = _leaves(objective)
    with torch.enable_grad():
        outputs = objective.outputs(leaves, batch)
        if not isinstance(outputs, Tensor):
            raise TypeError(
                f"outputs are a {type(outputs).__name__}, expected one tensor; wrap the model in a "
                "module that returns its logits alone"
            )
        # The gradient is linear in the vector that is pulled back: its own gradient is J.
        probe = torch.zeros_like(outputs, requires_grad=True)
        pulled = _gradients(outputs, leaves, probe)
        leaf = outputs.detach().requires_grad_()
        (slope,) = _gradients(objective.loss(leaf, batch.targets), [leaf])

    def product(vectors: list[Tensor]) -> list[Tensor | None]:
        (moved,) = _pulled(pulled, vectors, [probe])
        (curved,) = (None,) if moved is None else _pulled([slope], [moved], [leaf])
        return [None] * len(leaves) if curved is None else _pulled([outputs], [curved], leaves)

    return product


_LINEARIZED = {"hessian": _hessian, "ggn": _gauss_newton}


def _leaves(objective: Objective) -> list[Tensor]:
    return [value.clone().requires_grad_() for value in objective.parameters.values()]


def _gradients(
    output: Tensor, leaves: list[Tensor], vector: Tensor | None = None
) -> list[Tensor | None]:
    """Return gradients that can themselves be differentiated."""
    if not output.requires_grad:
        return [None] * len(leaves)
    return list(torch.autograd.grad(output, leaves, vector, create_graph=True, allow_unused=True))


def _pulled(
    outputs: Sequence[Tensor | None], vectors: Sequence[Tensor], leaves: list[Tensor]
) -> list[Tensor | None]:
    """Pull vectors back through what is not constant."""
    pairs = zip(outputs, vectors, strict=True)
    moving = [(o, v.to(o)) for o, v in pairs if o is not None and o.requires_grad]
    if not moving:
        return [None] * len(leaves)
    return list(
        torch.autograd.grad(
            [output for output, _ in moving],
            leaves,
            [vector for _, vector in moving],
            retain_graph=True,
            allow_unused=True,
        )
    )
