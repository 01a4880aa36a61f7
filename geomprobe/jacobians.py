"""Products of per-sample Jacobians: from vectors at the outputs to rows over the parameters."""

from __future__ import annotations

from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from geomprobe.evidence import Samples, forward

Parameters = dict[str, Tensor]


def trainable_parameters(model: nn.Module) -> Parameters:
    """Return the parameters that require gradients, detached, each once and under one name.

    Raises
    ------
    ValueError
        There are none, or one is not real.
    """
    everything = dict(model.named_parameters())
    trainable = {name: p.detach() for name, p in everything.items() if p.requires_grad}
    if not everything:
        raise ValueError("the model has no parameters, so that nothing can be differentiated")
    if not trainable:
        raise ValueError(
            f"all {len(everything)} parameters of the model have requires_grad=False; "
            "unfreeze those whose information you ask for"
        )
    for name, parameter in trainable.items():
        if not parameter.is_floating_point():
            raise ValueError(f"parameter {name!r} is {parameter.dtype}, expected real numbers")
    return trainable


def split(vector: Tensor, like: Parameters) -> Parameters:
    """Return a flat vector as parameters by name."""
    parts = torch.split(vector, [value.numel() for value in like.values()])
    pairs = zip(like.items(), parts, strict=True)
    return {name: part.reshape(value.shape).to(value) for (name, value), part in pairs}


def flat(values: Parameters) -> Tensor:
    """Return parameters as one vector."""
    return torch.cat([value.reshape(-1) for value in values.values()])


def row_dtype(parameters: Parameters) -> torch.dtype:
    """Return the precision rows are kept in: the parameters' own, and float32 at least."""
    dtype = torch.float32
    for parameter in parameters.values():
        dtype = torch.promote_types(dtype, parameter.dtype)
    return dtype


def row_bytes(parameters: Parameters) -> int:
    """Return the size of one row."""
    numbers = sum(parameter.numel() for parameter in parameters.values())
    return numbers * row_dtype(parameters).itemsize


def row_epsilon(parameters: Parameters) -> float:
    """Return the machine precision of the coarsest parameter, and so of the rows."""
    return max(torch.finfo(parameter.dtype).eps for parameter in parameters.values())


def every_output(outputs: Tensor) -> Tensor:
    """Return vectors that pick each single output, (n, k, ...), for outputs of shape (n, ...).

    By :func:`jacobian_products` they give whole Jacobians.
    """
    k = outputs[0].numel()
    basis = torch.eye(k, dtype=outputs.dtype, device=outputs.device)
    return basis.view(1, k, *outputs.shape[1:]).expand(len(outputs), k, *outputs.shape[1:])


def jacobian_products(
    model: nn.Module,
    parameters: Parameters,
    data: Samples,
    outputs: Tensor,
    cotangents: Tensor,
    chunk: int,
) -> tuple[Tensor, str]:
    """Multiply vectors at each sample's outputs into that sample's Jacobian.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    parameters : dict
        Those to differentiate by, detached, by name.
    data : Samples
        N inputs, on the model's device.
    outputs : Tensor of shape (N, ...)
        What the model says of all of them, against which each sample on its own is held.
    cotangents : Tensor of shape (N, K, ...)
        K vectors a sample, each of the shape of its outputs.
    chunk : int
        Samples to work on at a time.

    Returns
    -------
    rows : Tensor of shape (N * K, P)
        Over the parameters, one after another.
    route : str
        ``"vmap"``; or ``"loop"``, and why, where ``torch.func`` cannot follow the model.

    Raises
    ------
    ValueError
        Rows that are not finite, or outputs of a sample that depend on the other samples or on
        chance.
    """
    n_parameters = sum(parameter.numel() for parameter in parameters.values())
    n_samples, per_sample = cotangents.shape[:2]
    shape = (n_samples, per_sample, n_parameters)
    rows = torch.empty(shape, dtype=row_dtype(parameters), device=cotangents.device)
    alone = torch.empty_like(outputs)
    route = "vmap"
    for start in range(0, n_samples, chunk):
        here = slice(start, start + chunk)
        part = data.take(here), cotangents[here], rows[here]
        if route == "vmap":
            try:
                alone[here] = _vmapped(model, parameters, *part)
                continue
            except (MemoryError, torch.cuda.OutOfMemoryError):
                raise
            except Exception as error:
                reason = shorten(str(error), 80, placeholder=" ...")
                route = f"loop (vmap cannot follow the model: {type(error).__name__}: {reason})"
        alone[here] = _looped(model, parameters, *part)
    require_independence(alone, outputs, row_epsilon(parameters))
    finite = torch.stack([torch.isfinite(row).all() for row in rows])
    if not bool(finite.all()):
        raise ValueError(not_finite("gradients", finite))
    return rows.flatten(0, 1), route


def not_finite(what: str, finite: Tensor) -> str:
    """Say which samples are not finite, for an error message."""
    bad = torch.nonzero(~finite).ravel().tolist()
    return (
        f"{what} are not finite for {len(bad)} of {len(finite)} samples, the first of them "
        f"sample {bad[0]}; leave such samples out, or mend the model"
    )


def _vmapped(
    model: nn.Module, parameters: Parameters, data: Samples, cotangents: Tensor, rows: Tensor
) -> Tensor:
    def axis(leaf: Any) -> int | None:
        return 0 if isinstance(leaf, Tensor) and leaf.ndim else None

    def one(inputs: Any, cotangent: Tensor) -> tuple[Tensor, Parameters]:
        def outputs(values: Parameters) -> Tensor:
            def call(*args: Any, **kwargs: Any) -> Any:
                return functional_call(model, values, args, kwargs)

            batch = pytree.tree_map(lambda leaf, a: leaf if a is None else leaf[None], inputs, axes)
            answer: Tensor = forward(call, batch)[0]
            return answer

        value, pull_back = vjp(outputs, parameters)  # type: ignore[misc]
        (gradients,) = vmap(pull_back)(cotangent.to(value.dtype))
        return value, gradients

    axes = pytree.tree_map(axis, data.inputs)
    # Without gradients by the parameters that are constants here; vjp has its own.
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
    ):  # the fused kernels of attention have no batching rule
        values, gradients = vmap(one, in_dims=(axes, 0))(data.inputs, cotangents)
    for columns, gradient in zip(_columns(rows, parameters), gradients.values(), strict=True):
        columns.copy_(gradient.reshape(columns.shape))
    return values.detach()


def _looped(
    model: nn.Module, parameters: Parameters, data: Samples, cotangents: Tensor, rows: Tensor
) -> Tensor:
    owned = [model.get_parameter(name) for name in parameters]
    values = []
    for sample, vectors, block in zip(data.batches(1), cotangents, rows, strict=True):
        with torch.enable_grad():
            value = forward(model, sample.inputs)[0]
        values.append(value.detach())
        for vector, row in zip(vectors, block, strict=True):
            row.zero_()
            if not value.requires_grad:
                continue
            gradients = torch.autograd.grad(
                value, owned, vector.to(value.dtype), retain_graph=True, allow_unused=True
            )
            for columns, gradient in zip(_columns(row, parameters), gradients, strict=True):
                if gradient is not None:
                    columns.copy_(gradient.reshape(columns.shape))
    return torch.stack(values)


def _columns(rows: Tensor, parameters: Parameters) -> tuple[Tensor, ...]:
    """Return the columns of each parameter, as views."""
    sizes = [parameter.numel() for parameter in parameters.values()]
    return torch.split(rows, sizes, dim=-1)


def require_independence(alone: Tensor, together: Tensor, epsilon: float) -> None:
    """Raise ValueError if outputs change with the samples that are in the same batch."""
    difference = float((alone - together).abs().max())
    if difference > 10 * epsilon**0.5 * (1 + float(together.abs().max())):
        raise ValueError(
            f"the outputs of a sample differ by up to {difference:.3g} between a pass of its own "
            "or with some others and one with more, although the model is in evaluation mode: they "
            "depend on the other samples or on chance, and there is no per-sample gradient. Freeze "
            "statistics of the batch and switch off what is random"
        )
