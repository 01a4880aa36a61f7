"""Slope and curvature of a loss at the parameters of a small network, all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from geomprobe.evidence import Loss, Samples, forward
from geomprobe.storage import Array


@dataclass(frozen=True, eq=False)
class BentLoss:
    """A loss to second order around the parameters of a model.

    Parameters
    ----------
    value : float
    gradient : array of shape (p,)
    hessian : array of shape (p, p)
    size : float
        Norm of the parameters.
    epsilon : float
        Machine precision.
    """

    value: float
    gradient: Array
    hessian: Array
    size: float
    epsilon: float

    @cached_property
    def _system(self) -> tuple[Array, Array]:
        values, directions = np.linalg.eigh(self.hessian)
        return values, directions

    @property
    def eigenvalues(self) -> Array:
        """Of the Hessian, rising."""
        return self._system[0]

    @property
    def directions(self) -> Array:
        """Eigenvectors, as columns."""
        return self._system[1]

    @property
    def slope(self) -> float:
        """Norm of the gradient."""
        return float(np.linalg.norm(self.gradient))

    @property
    def relative_gradient(self) -> float:
        """Slope over the largest curvature times the norm of the parameters."""
        scale = self._steepest * self.size
        return self.slope / scale if scale else (np.inf if self.slope else 0.0)

    @property
    def tolerance(self) -> float:
        """Below which an eigenvalue is flat: rounding, and what the slope leaves open."""
        return self._rounding + (10 * self.slope / self.size if self.size else 0.0)

    @property
    def index(self) -> int:
        """Number of negative eigenvalues."""
        return int((self.eigenvalues < -self.tolerance).sum())

    @property
    def flat(self) -> int:
        """Number of eigenvalues around zero."""
        return int((np.abs(self.eigenvalues) <= self.tolerance).sum())

    def flat_within(self, directions: Array) -> int:
        """Count the flat directions in the span of orthonormal rows."""
        bent = (directions @ self.directions) * self.eigenvalues
        values = np.linalg.svd(bent, compute_uv=False)
        return len(directions) - int((values > self.tolerance).sum())

    def newton_step(self, damping: float = 0.0) -> Array:
        """Return the step to the critical point of the second-order model.

        Parameters
        ----------
        damping : float
            That of Levenberg and Marquardt, relative to the largest curvature; without, flat
            directions are left out.
        """
        values, directions = self.eigenvalues, self.directions
        bent = np.abs(values) > (0 if damping else self._rounding)
        along, bent_by = directions[:, bent], values[bent]
        shortened = bent_by + (damping * self._steepest) ** 2 / bent_by
        step: Array = -along @ (along.T @ self.gradient / shortened)
        return step

    @property
    def _steepest(self) -> float:
        return float(np.abs(self.eigenvalues).max())

    @property
    def _rounding(self) -> float:
        return 10 * len(self.gradient) * self.epsilon * self._steepest


def bent_loss(model: nn.Module, data: Samples, loss: Loss) -> BentLoss:
    """Return the loss to second order, by as many double backward passes as there are parameters.

    Raises
    ------
    ValueError
        A loss that is not one finite number, or does not depend on the parameters.
    """
    parameters = trained(model)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        value, gradient = _value_and_gradient(model, data, loss, parameters)
        hessian = torch.zeros(len(gradient), len(gradient), dtype=torch.float64, device="cpu")
        for row, entry in zip(hessian, gradient, strict=True):
            if entry.requires_grad:
                parts = torch.autograd.grad(
                    entry, parameters, retain_graph=True, materialize_grads=True
                )
                row.copy_(torch.cat([part.ravel() for part in parts]))
    return BentLoss(
        float(value.detach()),
        gradient.detach().double().cpu().numpy(),
        ((hessian + hessian.T) / 2).numpy(),
        float(parameter_vector(model).norm()),
        torch.finfo(gradient.dtype).eps,
    )


def slope_of(model: nn.Module, data: Samples, loss: Loss) -> float:
    """Return the norm of the gradient."""
    with torch.enable_grad():
        return float(_value_and_gradient(model, data, loss, trained(model))[1].detach().norm())


def trained(model: nn.Module) -> list[Tensor]:
    """Return the parameters that require gradients."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def parameter_vector(model: nn.Module) -> Tensor:
    """Return the parameters that require gradients, copied, as one vector."""
    return torch.cat([parameter.detach().ravel() for parameter in trained(model)])


def set_parameters(model: nn.Module, vector: Tensor) -> None:
    """Write a vector over the parameters that require gradients."""
    parameters = trained(model)
    with torch.no_grad():
        parts = torch.split(vector, [parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.copy_(part.view_as(parameter))


def _value_and_gradient(
    model: nn.Module, data: Samples, loss: Loss, parameters: list[Tensor]
) -> tuple[Tensor, Tensor]:
    value = loss(forward(model, data.inputs), data.targets)
    if not isinstance(value, Tensor) or value.numel() != 1 or not bool(torch.isfinite(value)):
        raise ValueError(f"the loss must be one finite number, got {value}")
    if not value.requires_grad:
        raise ValueError("the loss does not depend on the parameters")
    parts = torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)
    return value, torch.cat([part.ravel() for part in parts])
