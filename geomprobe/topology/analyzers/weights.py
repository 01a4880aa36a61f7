"""NeuralPersistence: how a model's weights connect its neurons, beside weights in random places."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from geomprobe.evidence import Evidence
from geomprobe.findings import Estimate, Finding
from geomprobe.hooks.names import names_in
from geomprobe.storage import Array
from geomprobe.topology.neural_persistence import ShuffledControl, shuffled_control

_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
# A spread below this is rounding: wherever the weights are, they give the same.
_NO_SPREAD = 1e-7


@dataclass(frozen=True)
class NeuralPersistence:
    """Neural persistence of every linear and convolutional layer, with shuffled weights beside it.

    Parameters
    ----------
    p : float
        Norm of the lengths of bars.
    shuffles : int
        Random permutations of each layer's weights.
    max_weights : int
        Layers with more weights are left out, with a note.

    Notes
    -----
    Yields one finding a layer, and one of the model with the means over its layers. All weights
    are taken as shares of the largest one among these layers, which also those left out for their
    size count for. A kernel is flattened: one input is one place of it in one channel (the paper's
    appendix unrolls it over the image instead, which gives other numbers). Biases do not enter.
    Left out, and named in a note: embeddings, attention's packed projections, recurrent layers,
    grouped convolutions, and weights that are not floating-point matrices.
    """

    name: ClassVar[str] = "neural_persistence"
    needs: ClassVar[frozenset[str]] = frozenset({"model"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "Whether a layer has learned anything: most of it is the histogram of the weights, as "
        "the shuffled weights beside it show."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "neural_persistence": "How far a layer's connecting weights fall below the network's "
        "largest weight, from 0 to 1: high where a few weights stand out, which is mostly a matter "
        "of their histogram; for deep networks it does not track accuracy.",
        "shuffled": "The same for the layer's own weights in random places: what their histogram "
        "alone gives.",
        "difference": "What the places of the weights add to what their histogram gives: above 0 "
        "where large weights gather at few neurons, and near 0 where nothing but the histogram "
        "is seen.",
        "z_score": "The difference in standard deviations of the shuffled values: within 2 or 3 of "
        "0 the layer cannot be told from its shuffled weights.",
    }

    p: float = 2.0
    shuffles: int = 10
    max_weights: int = 2**24

    def __post_init__(self) -> None:
        for name, smallest in {"p": 1, "shuffles": 2, "max_weights": 1}.items():
            if not getattr(self, name) >= smallest:
                raise ValueError(f"{name} must be at least {smallest}, got {getattr(self, name)}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding for each layer, and one of the model."""
        model = evidence.model
        assert model is not None
        layers, left_out = _layers(model)
        largest = {name: float(weight.abs().max()) for name, weight in layers.items()}
        unusable = {name: top for name, top in largest.items() if not math.isfinite(top)}
        for name in unusable:
            yield Finding(self.name, name, failed="the weights hold NaN or infinity")
        scale = max((top for name, top in largest.items() if name not in unusable), default=0.0)
        controls = []
        for index, (name, weight) in enumerate(layers.items()):
            if name in unusable:
                continue
            if weight.numel() > self.max_weights:
                left_out.append(f"{name} ({weight.numel():,} weights)")
                continue
            if not scale:
                yield Finding(self.name, name, failed="all weights are 0")
                continue
            control = shuffled_control(
                _array(weight),
                self.p,
                largest=scale,
                shuffles=self.shuffles,
                seed=(evidence.seed, index),
            )
            controls.append(control)
            arrays = {"shuffled": np.array(control.shuffled)}
            n = sum(weight.flatten(1).shape)
            yield Finding(self.name, name, self._scalars(control, n), arrays)

        notes = [f"Left out: {', '.join(left_out)}."] if left_out else []
        if not controls:
            reason = "no linear or convolutional layer could be used"
            yield Finding(self.name, "model", notes=tuple(notes), failed=reason)
            return
        mean = ShuffledControl(
            float(np.mean([control.value for control in controls])),
            tuple(np.mean([control.shuffled for control in controls], axis=0).tolist()),
        )
        notes.insert(0, f"Means over {len(controls)} layers; the largest weight is {scale:.4g}.")
        scalars = self._scalars(mean, len(controls))
        yield Finding(self.name, "model", scalars, notes=tuple(notes))

    def _scalars(self, control: ShuffledControl, n: int) -> dict[str, Estimate]:
        method = f"maximum spanning tree, {self.p:g}-norm"
        over = f"{self.shuffles} random permutations"
        stderr = control.spread / math.sqrt(self.shuffles)
        scalars = {
            "neural_persistence": Estimate(control.value, exact=True, n=n, method=method),
            "shuffled": Estimate(control.mean, stderr, n=self.shuffles, method=f"mean over {over}"),
            "difference": Estimate(
                control.difference, stderr, n=self.shuffles, method=f"value less mean over {over}"
            ),
        }
        if control.spread < _NO_SPREAD:
            reason = "wherever the weights are, they give the same neural persistence"
            scalars["z_score"] = Estimate.undefined(reason, n=self.shuffles)
        else:
            z = control.difference / control.spread
            # The errors of the mean and of the standard deviation over the permutations.
            error = math.sqrt(1 / self.shuffles + z**2 / (2 * (self.shuffles - 1)))
            scalars["z_score"] = Estimate(z, error, n=self.shuffles, method=f"against {over}")
        return scalars


def _layers(model: nn.Module) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the weights of linear layers and convolutions by layer, and what else has weights."""
    canonical = names_in(model)
    layers, left_out = {}, []
    for raw, module in model.named_modules():
        name = canonical(raw)
        reason = _why_not(module)
        if not reason:
            layers[name] = module.weight.detach()
        elif isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
            left_out.append(f"{name} ({reason})")
        elif not isinstance(module, nn.utils.parametrize.ParametrizationList):
            matrices = [
                parameter
                for parameter, value in module.named_parameters(recurse=False)
                if is_lazy(value) or value.ndim > 1
            ]
            left_out += [f"{name}.{parameter} ({reason})" for parameter in matrices]
    return layers, left_out


def _why_not(module: nn.Module) -> str:
    """Return why a module is left out; nothing where it is not."""
    if not isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
        return type(module).__name__
    weight = module.weight
    if is_lazy(weight) or weight.is_meta:
        return "without weights yet"
    if weight.ndim < 2 or not weight.numel() or not weight.is_floating_point():
        return f"weights of shape {tuple(weight.shape)} and dtype {weight.dtype}"
    if isinstance(module, _CONVOLUTIONS) and module.groups > 1:
        return f"{module.groups} groups"
    return ""


def _array(weight: torch.Tensor) -> Array:
    single = weight if weight.dtype == torch.float64 else weight.float()
    array: Array = single.cpu().numpy()
    return array
