"""What each symmetry of a model makes zero of its gradient, checked on data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from geomprobe.dynamics.quantities import ConservedQuantities, Tensors
from geomprobe.evidence import Loss, Samples, forward, require_samples
from geomprobe.hooks import quiet
from geomprobe.hooks.selection import unwrap
from geomprobe.jacobians import trainable_parameters


@dataclass(frozen=True)
class GradientIdentity:
    """How well an identity holds; made by :func:`gradient_identities`.

    Parameters
    ----------
    residual : float
        Norm of what should be zero, over the norms of its terms: rounding, about 1e-7 in single
        precision, where the symmetry holds. Of a scale before batch norm, with the term of eps. Of
        a bias before batch norm, whose gradient is itself zero, over the norm of all gradients.
    without_eps : float
        The same without that term; equal where there is none.
    """

    residual: float
    without_eps: float


def gradient_identities(
    model: nn.Module, data: Samples, loss: Loss, quantities: ConservedQuantities
) -> dict[str, GradientIdentity]:
    r"""Check on data that the gradient of a loss is orthogonal to each symmetry.

    .. math::
        \langle \nabla L, \xi \rangle = 0

    where :math:`\xi` is the direction in which the symmetry moves the parameters.

    Parameters
    ----------
    model : torch.nn.Module
        Looked at without dropout, and with batch norm as in training; left as it was.
    data : Samples
        Inputs and targets, at least two, in one pass.
    loss : callable
        ``loss(outputs, targets)``.
    quantities : ConservedQuantities
        Of the model.

    Returns
    -------
    dict of str to GradientIdentity
        By the name of the quantity. A residual well above rounding says that the model does not
        have this symmetry, whatever its layers look like.

    Raises
    ------
    ValueError
        Fewer samples, or no targets.
    TypeError
        Data that are no samples of tensors.

    Notes
    -----
    Weights w before batch norm with a factor :math:`\gamma`, variance v of the batch and
    :math:`\varepsilon` satisfy, exactly and by unit,

    .. math::
        \langle w, \nabla_w L \rangle = \frac{\varepsilon}{v + \varepsilon}\,
        \gamma \, \nabla_\gamma L,

    since :math:`\frac{d}{ds} \frac{s z}{\sqrt{s^2 v + \varepsilon}} = \frac{z}{\sqrt{v +
    \varepsilon}} \cdot \frac{\varepsilon}{v + \varepsilon}` at s = 1: the invariance is as good as
    v is large against eps. Without a factor, and before layer norm, only the left side is known.

    References
    ----------
    Kunin et al. (2021), for eps = 0; as of :func:`~geomprobe.dynamics.conserved_quantities`.
    """
    require_samples(data, targets=True)
    if len(data) < 2:
        raise ValueError("two samples or more are needed, got one")
    model = unwrap(model)
    modules = dict(model.named_modules())
    norms = {one.norm: modules[one.norm] for one in quantities if one.norm}
    gradients, variances = _gradients(model, data, loss, norms)
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    found = {}
    for one in quantities:
        left = one.identity(parameters, gradients)
        size = one.identity_size(parameters, gradients) or 1.0
        corrected = left
        if one.norm in variances:
            factor = f"{one.norm}.weight"
            share = norms[one.norm].eps / (variances[one.norm] + norms[one.norm].eps)
            slope = parameters[factor].cpu().double() * gradients[factor].cpu().double()
            corrected = left - share * slope
        found[one.name] = GradientIdentity(
            float(corrected.norm()) / size, float(left.norm()) / size
        )
    return found


def _gradients(
    model: nn.Module, data: Samples, loss: Loss, norms: dict[str, Any]
) -> tuple[Tensors, dict[str, Tensor]]:
    """Return the gradient by parameter, and variances that batch norms with factors have seen."""
    names = [*trainable_parameters(model)]
    owned = [model.get_parameter(name) for name in names]
    data = data.to(owned[0].device)
    variances: dict[str, Tensor] = {}
    with quiet(model), torch.enable_grad(), _heard(norms, variances):
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.training = True
        value = loss(forward(model, data.inputs), data.targets)
        slopes = torch.autograd.grad(value, owned, allow_unused=True)
    zeros = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    pairs = zip(names, slopes, strict=True)
    return {**zeros, **{name: s for name, s in pairs if s is not None}}, variances


@contextmanager
def _heard(norms: dict[str, Any], variances: dict[str, Tensor]) -> Iterator[None]:
    """Write down the variances of what batch norms with factors are given."""

    def listener(name: str) -> Callable[..., None]:
        def listen(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            units = inputs[0].detach().cpu().double().transpose(0, 1).flatten(1)
            variances[name] = units.var(dim=1, unbiased=False)

        return listen

    handles = [
        norm.register_forward_pre_hook(listener(name))
        for name, norm in norms.items()
        if isinstance(norm, _BatchNorm) and norm.affine and norm.weight.requires_grad
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
