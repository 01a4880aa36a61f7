"""The exact Fisher information of a model, from its per-sample gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples, forward
from geomprobe.hooks import quiet
from geomprobe.information.gram import FisherGram
from geomprobe.information.jacobians import (
    jacobian_products,
    not_finite,
    row_dtype,
    row_epsilon,
    trainable_parameters,
)
from geomprobe.information.likelihoods import Likelihood, likelihood_of
from geomprobe.memory import require_memory
from geomprobe.storage import Array

KINDS = ("true", "empirical")

_CHUNK_BYTES = 64 * 2**20
_LARGEST_CHUNK = 64


def fisher_gram(
    model: nn.Module,
    data: Samples,
    *,
    kind: str = "true",
    likelihood: Likelihood | None = None,
    loss: Loss | None = None,
    batch_size: int | None = None,
    memory_share: float = 0.5,
) -> FisherGram:
    r"""Compute the exact Fisher information of a model over some inputs, in its dual form.

    .. math::
        F = \frac{1}{N} \sum_n J_n^T H_n J_n = B^T B, \qquad
        B_{(n, c)} = \frac{1}{\sqrt N} R_n[:, c]^T J_n, \qquad K = B B^T

    with J_n the Jacobian of the outputs of input n in the parameters and H_n = R_n R_n^T the Fisher
    information of the likelihood in its outputs. No label is sampled. For the empirical Fisher, the
    one row of input n is the gradient of its loss at its target.

    Parameters
    ----------
    model : torch.nn.Module
        Looked at in evaluation mode (dropout off, batch norm by its running statistics, so that
        samples do not mix) and left as it was. Parameters with ``requires_grad=False`` are
        constants; one that several modules own counts once.
    data : Samples
        Inputs, and targets for the empirical Fisher.
    kind : {"true", "empirical"}
        Over the model's own labels, or at the labels of the data.
    likelihood : Likelihood, optional
        What the outputs mean; by default what ``loss`` says: :func:`likelihood_of`.
    loss : callable, optional
        ``loss(outputs, targets)``. For the empirical Fisher it may be any function: one that stands
        for no known likelihood is called on each sample as a batch of one.
    batch_size : int, optional
        Samples to work on at a time; by default as many as keep their rows under 64 MiB.
    memory_share : float
        Largest fraction of the available memory to take.

    Returns
    -------
    FisherGram

    Raises
    ------
    ValueError, TypeError
        Before any gradient: no trainable parameter, no samples, outputs that are no finite
        floating-point tensor of shape (N, C) (a shape of (N,) is read as (N, 1)), no likelihood,
        targets that are missing or do not fit. After: gradients that are not finite, or outputs of
        a sample that depend on the other samples or on chance.
    MemoryEstimateError
        The rows would not fit in memory.

    Notes
    -----
    Time O(M P) for the gradients and O(M^2 P) for the products, memory O(M P + M^2), with M rows
    and P parameters: M = N (C - 1) for softmax, N C for the other likelihoods, N for the empirical
    Fisher. Rows are kept in the parameters' precision, products are summed in float64. Where
    ``torch.func.vmap`` cannot follow the model, gradients are taken sample by sample, and the
    result's ``route`` says so.

    References
    ----------
    Martens, J. (2020). New insights and perspectives on the natural gradient method. JMLR 21(146),
    sections 5 and 9. For the difference of the two kinds: Kunstner, F., Hennig, P. and Balles, L.
    (2019). Limitations of the empirical Fisher approximation. arXiv:1905.12558.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if len(data) == 0:
        raise ValueError("data holds no samples")
    likelihood = _resolve(kind, likelihood, loss)
    if kind == "empirical" and data.targets is None:
        raise ValueError(
            "the empirical Fisher needs the targets of the data, and there are none; give "
            'Samples(inputs, targets), or ask for kind="true"'
        )
    parameters = trainable_parameters(model)
    n_parameters = sum(parameter.numel() for parameter in parameters.values())
    row_bytes = n_parameters * row_dtype(parameters).itemsize
    data = data.to(next(iter(parameters.values())).device)
    with quiet(model):
        outputs = _outputs(model, data, batch_size or _LARGEST_CHUNK)
        if likelihood is None:
            cotangents = _loss_gradients(loss, outputs, data.targets)
        else:
            cotangents = _likelihood_rows(kind, likelihood, outputs, data.targets, memory_share)
        n_samples, per_sample = cotangents.shape[:2]
        fitting = max(1, _CHUNK_BYTES // (per_sample * row_bytes))
        chunk = min(n_samples, batch_size or min(fitting, _LARGEST_CHUNK))
        _require_room(n_samples, per_sample, row_bytes, chunk, memory_share)
        rows, route = jacobian_products(model, data, outputs, cotangents, chunk)
    return FisherGram(
        gram=_gram(rows) / n_samples,
        n_samples=n_samples,
        n_parameters=n_parameters,
        kind=kind,
        route=route,
        rows_per_sample=per_sample,
        row_epsilon=row_epsilon(parameters),
    )


def _resolve(kind: str, likelihood: Likelihood | None, loss: Loss | None) -> Likelihood | None:
    """Return the likelihood to use; None where a loss that stands for none will do."""
    if likelihood is not None:
        if isinstance(likelihood, type) or not isinstance(likelihood, Likelihood):
            raise TypeError(f"likelihood must be one such as Softmax(), got {likelihood!r}")
        return likelihood
    if loss is None:
        raise ValueError(
            "nothing says what the outputs mean: pass likelihood=Softmax(), Gaussian(variance) or "
            "Bernoulli(), or the loss the model was trained with"
        )
    try:
        return likelihood_of(loss)
    except ValueError:
        if kind == "empirical":
            return None
        raise


def _outputs(model: nn.Module, data: Samples, batch_size: int) -> Tensor:
    """Return the model's outputs on all samples, or refuse them."""
    parts = []
    with torch.no_grad():
        for batch in data.batches(batch_size):
            part = forward(model, batch.inputs)
            if not isinstance(part, Tensor):
                raise TypeError(
                    f"outputs are a {type(part).__name__}, expected one tensor; wrap the model in "
                    "a module that returns its logits alone"
                )
            if not part.is_floating_point():
                raise ValueError(
                    f"outputs are {str(part.dtype).removeprefix('torch.')}, expected real numbers; "
                    "give the model that returns logits, not class numbers"
                )
            if part.ndim == 0 or len(part) != len(batch):
                raise ValueError(
                    f"outputs of {len(batch)} samples have shape {tuple(part.shape)}; "
                    "the first axis must be the samples"
                )
            parts.append(part.to(torch.promote_types(part.dtype, torch.float32)))
    outputs = torch.cat(parts)
    finite = torch.isfinite(outputs.flatten(1) if outputs.ndim > 1 else outputs[:, None]).all(1)
    if not bool(finite.all()):
        raise ValueError(not_finite("outputs", finite))
    return outputs


def _likelihood_rows(
    kind: str, likelihood: Likelihood, outputs: Tensor, targets: Tensor | None, share: float
) -> Tensor:
    """Return what is to be pulled back through the model, of shape (N, rows, *outputs of one)."""
    if outputs.ndim not in (1, 2):
        raise ValueError(
            f"outputs have shape {tuple(outputs.shape)}, expected (N, C): one vector a sample. "
            "Wrap the model so that it pools or flattens the other axes"
        )
    matrix = outputs.reshape(len(outputs), -1)
    if kind == "true":
        n_samples, n_outputs = matrix.shape
        require_memory(
            4 * matrix.element_size() * n_samples * n_outputs**2,
            f"the true Fisher of {n_samples} samples with {n_outputs} outputs each",
            "It takes a row of gradients an output: use fewer samples, or the empirical Fisher.",
            share=share,
        )
        pulled = likelihood.factor(matrix).transpose(1, 2)
    else:
        matrix = matrix.detach().requires_grad_()
        with torch.enable_grad():
            losses = likelihood.negative_log_likelihood(matrix, targets)  # type: ignore[arg-type]
        pulled = torch.autograd.grad(losses.sum(), matrix)[0][:, None]
    return pulled.reshape(*pulled.shape[:2], *outputs.shape[1:])


def _loss_gradients(loss: Any, outputs: Tensor, targets: Tensor | None) -> Tensor:
    """Return the gradient of any loss of each sample in its outputs, shaped as _likelihood_rows."""
    assert targets is not None
    if len(targets) != len(outputs):
        raise ValueError(f"there are {len(outputs)} samples, but {len(targets)} targets")
    gradients = []
    for output, target in zip(torch.split(outputs, 1), torch.split(targets, 1), strict=True):
        output = output.detach().requires_grad_()
        with torch.enable_grad():
            value = loss(output, target)
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise ValueError(
                "the loss of one sample must be one differentiable number, got "
                f"{type(value).__name__} of shape {tuple(getattr(value, 'shape', ()))}"
            )
        gradients.append(torch.autograd.grad(value.sum(), output)[0])
    return torch.stack(gradients)


def _require_room(
    n_samples: int, per_sample: int, row_bytes: int, chunk: int, share: float
) -> None:
    n_rows = n_samples * per_sample
    gradients = 2 * chunk * per_sample * row_bytes
    gram = 3 * 8 * n_rows**2
    require_memory(
        n_rows * row_bytes + max(gradients, gram + _CHUNK_BYTES),
        f"a Fisher Gram matrix of {n_rows} rows ({n_samples} samples, {per_sample} a sample)",
        f"Use fewer samples: one takes about {per_sample * row_bytes / 2**20:.1f} MiB.",
        share=share,
    )


def _gram(rows: Tensor) -> Array:
    """Return rows times their transpose, summed in float64 over blocks of columns."""
    device = "cpu" if rows.device.type == "mps" else rows.device  # which has no float64
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=device)
    for block in torch.split(rows, max(1, _CHUNK_BYTES // (8 * len(rows))), dim=1):
        columns = block.to(device, torch.float64)
        gram.addmm_(columns, columns.T)
    product: Array = gram.cpu().numpy()
    return product
