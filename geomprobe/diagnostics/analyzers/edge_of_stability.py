"""The analyzer of the edge of stability: the steps of an optimizer beside the curvature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from geomprobe.dynamics.stability import stability_ratio
from geomprobe.dynamics.step_sizes import step_sizes
from geomprobe.evidence import NO_LOSS, Evidence
from geomprobe.findings import Estimate, Finding
from geomprobe.hooks.selection import unwrap
from geomprobe.information.curvature import Curvature, curvature
from geomprobe.information.eigenpairs import top_eigenpairs

_NO_STEP = "all step sizes are 0, as at a learning rate of 0, and no direction is the least stable"
_MOST, _OUT_OF_PROPORTION = 0.5, 100.0
_ACCURACY = 1e-4  # Of the eigenvalue, relative to it.


@dataclass(frozen=True)
class EdgeOfStability:
    r"""Curvature along the least stable direction, over what the optimizer's steps can stand.

    Parameters
    ----------
    max_samples : int
        Of more samples, so many are drawn at random.

    Notes
    -----
    Yields one finding about the model: :func:`~geomprobe.dynamics.stability_ratio` of the largest
    eigenvalue of :math:`D^{1/2} (H + \delta) D^{1/2}`, with D the
    :func:`~geomprobe.dynamics.step_sizes` of the optimizer at the moment. For SGD with one learning
    rate that is :math:`\eta \lambda_{\max} / 2`. Some tens of products with the Hessian.
    """

    max_samples: int = 256

    name: ClassVar[str] = "edge_of_stability"
    needs: ClassVar[frozenset[str]] = frozenset({"model", "data", "optimizer"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "Whether the training converges: batches are smaller than the data and unstable below 1, "
        "and the loss is no quadratic."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "stability_ratio": "Learning rate times sharpness over 2, or over what momentum and the "
        "optimizer's scaling make of it: above 1 the steps diverge along the sharpest direction "
        "until it flattens; training with the whole batch hovers about 1.",
        "sharpness": "Curvature of the loss along the least stable direction: the largest "
        "eigenvalue of its Hessian where all parameters have one step size.",
    }

    def __post_init__(self) -> None:
        if self.max_samples < 1:
            raise ValueError(f"max_samples must be at least 1, got {self.max_samples}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        if evidence.loss is None:
            yield Finding(self.name, "model", failed=NO_LOSS)
            return
        assert evidence.model is not None
        assert evidence.optimizer is not None
        model, (data, note) = unwrap(evidence.model), evidence.at_most(self.max_samples)
        try:
            steps = step_sizes(model, evidence.optimizer)
        except ValueError as reason:
            undefined = Estimate.undefined(str(reason))
            yield Finding(self.name, "model", dict.fromkeys(self.readings, undefined))
            return
        notes: tuple[str, ...] = (note,) if note else ()
        if not len(moved := steps.sizes.nonzero()[:, 0]):
            scalars = {
                "stability_ratio": Estimate(0.0, 0.0, len(data), method=f"steps of {steps.rule}"),
                "sharpness": Estimate.undefined(_NO_STEP),
            }
            yield Finding(self.name, "model", scalars, notes=notes)
            return
        hessian = curvature(model, data, loss=evidence.loss)
        roots = steps.sizes.sqrt()

        def column(vector: Tensor) -> Tensor:
            return vector[moved].to(hessian.dtype).to(hessian.device)[:, None]

        where = moved.to(hessian.device)
        scaled = _Scaled(hessian, where, column(roots), column(steps.decay))
        found = top_eigenpairs(scaled, tol=_ACCURACY, seed=evidence.seed)
        direction = torch.zeros_like(roots)
        direction[moved] = torch.from_numpy(found.vectors[:, 0]).double()
        typical = float(steps.sizes[moved].median())
        notes += _concentrated(hessian.named(direction), hessian.named(steps.sizes), typical)
        along = roots * direction
        error = hessian.error_along(along, seed=evidence.seed)
        square = float(along.square().sum())
        bend = float(found.values[0] - (steps.decay * along.square()).sum()) / square
        method = "Lanczos; standard error from the curvature of groups of inputs along the vector"
        largest = Estimate(found.values[0], error, len(data), method=method)
        momentum, nesterov = steps.momentum, steps.nesterov
        ratio = stability_ratio(largest, 1.0, momentum=momentum, nesterov=nesterov)
        told = f" of momentum {momentum:g}" if momentum else ""
        scalars = {
            "stability_ratio": replace(ratio, method=f"steps of {steps.rule}{told}; {method}"),
            "sharpness": Estimate(bend, error / square, len(data), method=method),
        }
        yield Finding(self.name, "model", scalars, notes=notes)


def _concentrated(
    direction: Mapping[str, Tensor], sizes: Mapping[str, Tensor], typical: float
) -> tuple[str, ...]:
    """Tell of a direction in a parameter whose steps are out of all proportion."""
    name = max(direction, key=lambda one: float(direction[one].square().sum()))
    share, times = float(direction[name].square().sum()), float(sizes[name].median()) / typical
    if share < _MOST or times < _OUT_OF_PROPORTION:
        return ()
    return (
        f"{share:.0%} of the least stable direction lies in {name}, whose steps are {times:.1g} "
        "times those of most parameters: its gradients vanish in training, as those of a bias "
        "before batch norm do, and then the curvature in evaluation mode, and this ratio, are not "
        "those of the training.",
    )


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A curvature plus weight decay, of some parameters, between columns of roots of step sizes."""

    hessian: Curvature
    where: Tensor
    roots: Tensor
    decay: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.where), len(self.where)

    @property
    def dtype(self) -> torch.dtype:
        return self.hessian.dtype

    @property
    def device(self) -> torch.device:
        return self.hessian.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        moved = self.roots * vectors
        whole = moved.new_zeros(self.hessian.shape[0], moved.shape[1])
        whole[self.where] = moved
        return self.roots * ((self.hessian @ whole)[self.where] + self.decay * moved)
