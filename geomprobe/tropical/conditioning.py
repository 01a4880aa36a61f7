"""How evenly outputs react: to the parameters (the tangent kernel), and to the inputs."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from geomprobe.evidence import Samples, forward
from geomprobe.hooks import quiet
from geomprobe.hooks.selection import unwrap
from geomprobe.jacobians import every_output, jacobian_products, trainable_parameters
from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.tropical.inputs import flattened, moves

#: Entries of the Jacobian to work out at a time.
_AT_ONCE = 2**24


def doubled(model: nn.Module, data: Samples) -> tuple[nn.Module, Samples]:
    """Return a copy of a model in double precision and evaluation mode, and its inputs."""
    model = unwrap(model)
    with quiet(model):
        own = copy.deepcopy(model).double().eval()
    inputs = pytree.tree_map(lambda leaf: leaf.double() if moves(leaf) else leaf, data.inputs)
    return own, Samples(inputs)


def tangent_spectrum(model: nn.Module, data: Samples) -> Array:
    """Return the eigenvalues of the tangent kernel J J^T of all outputs, falling.

    Parameters
    ----------
    model, data
        As of :func:`doubled`.

    Raises
    ------
    MemoryEstimateError
        The Jacobian does not fit.
    """
    parameters = trainable_parameters(model)
    p = sum(parameter.numel() for parameter in parameters.values())
    with quiet(model), torch.no_grad():
        outputs = forward(model, data.take(slice(None)).inputs)
    n, c = len(outputs), outputs[0].numel()
    require_memory(
        16 * n * c * p,
        f"the Jacobian of {n * c} outputs by {p} parameters",
        "Give fewer inputs.",
    )
    vectors = every_output(outputs)
    with quiet(model):
        chunk = max(1, _AT_ONCE // (c * p))
        rows, _ = jacobian_products(model, parameters, data, outputs, vectors, chunk)
    spectrum: Array = np.linalg.eigvalsh((rows @ rows.T).cpu().numpy())[::-1]
    return spectrum


def condition(spectrum: Array) -> float:
    """Return the largest over the smallest eigenvalue; infinite where that is rounding."""
    floor = len(spectrum) * np.finfo(float).eps * spectrum[0]
    return float(spectrum[0] / spectrum[-1]) if spectrum[-1] > floor else math.inf


def input_singular_values(model: nn.Module, data: Samples) -> Array:
    """Return the singular values of the Jacobian by the input, falling, at each of some inputs.

    Parameters
    ----------
    model, data
        As of :func:`doubled`.

    Returns
    -------
    float64 array of shape (n, min(outputs, input dimensions))
    """
    leaves, spec = pytree.tree_flatten(data.inputs)
    given = [leaf.detach().requires_grad_() if moves(leaf) else leaf for leaf in leaves]
    moving: list[Any] = [leaf for leaf in given if moves(leaf)]
    with quiet(model), torch.enable_grad():
        # A model may work in place on what it is given, and not on a leaf of the graph.
        fed = [leaf.clone() if moves(leaf) else leaf for leaf in given]
        outputs: Tensor = forward(model, pytree.tree_unflatten(fed, spec)).flatten(1)
        gradients = [
            torch.autograd.grad(
                column.sum(), moving, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for column in outputs.T
        ]
    jacobians = torch.stack([flattened(parts) for parts in gradients], 1)
    values: Array = torch.linalg.svdvals(jacobians).cpu().numpy()
    return values
