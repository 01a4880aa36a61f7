"""Ways to capture the outputs of some layers during a forward pass, all behind one interface."""

from __future__ import annotations

import copy
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

import geomprobe as gp

PEERS = ("captum", "nnsight", "torchlens")


class Plain:
    """The forward pass alone; the others observe it in their own way.

    Parameters
    ----------
    model : torch.nn.Module
    layers : sequence of str
        Names of the layers to capture, in the order in which they run.
    """

    name = "plain forward"

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        self.model, self.layers = model, tuple(layers)
        self.captured: dict[str, torch.Tensor] = {}

    def attach(self) -> None:
        """Get ready for passes; not timed."""

    def __call__(self, batch: torch.Tensor) -> None:
        """Run one pass, and capture; timed."""
        self.model(batch)

    def detach(self) -> None:
        """Leave the model to the next; not timed."""
        self.captured = {}


class PlainAgain(Plain):
    """The same once more: what differs between the two is the noise of the machine."""

    name = "plain forward again"


class NoopHooks(Plain):
    """PyTorch's forward hooks that do nothing."""

    name = "no-op hooks"

    def attach(self) -> None:
        """Put the hooks on."""
        self._handles = [
            self.model.get_submodule(name).register_forward_hook(self._hook(name))
            for name in self.layers
        ]

    def detach(self) -> None:
        """Take the hooks off."""
        super().detach()
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        return lambda module, args, output: None


class StoringHooks(NoopHooks):
    """PyTorch's forward hooks that keep a copy of every output."""

    name = "hooks that store a copy"

    def _hook(self, name: str) -> Any:
        def store(module: nn.Module, args: Any, output: torch.Tensor) -> None:
            self.captured[name] = output.detach().clone()

        return store


class Filling(Plain):
    """A probe whose reservoir fills, so that every row enters; when it is full, a new one."""

    name = "geomprobe, filling"
    points = 1000

    def __init__(self, model: nn.Module, layers: Sequence[str], **options: Any) -> None:
        super().__init__(model, layers)
        self._options = options
        self.probe = self._fresh()

    def _fresh(self) -> gp.Probe:
        options = {"points": self.points, "strict": True, **self._options}
        return gp.Probe(self.model, list(self.layers), **options)

    def attach(self) -> None:
        """Put the hooks on."""
        if self.probe.samples_seen >= self.points:
            self.probe = self._fresh()
        self.probe.attach()

    def detach(self) -> None:
        """Take the hooks off."""
        self.probe.detach()


class FarIntoTheStream(Filling):
    """A probe that has seen so many samples that few rows still enter.

    Parameters
    ----------
    state : mapping
        The state of a probe that has seen a long stream.
    """

    name = "geomprobe, far on"

    def __init__(
        self, model: nn.Module, layers: Sequence[str], state: Mapping[str, Any], **options: Any
    ) -> None:
        super().__init__(model, layers, **options)
        self.probe.load_state_dict(state)

    def attach(self) -> None:
        """Put the hooks on."""
        self.probe.attach()


class Captum(Plain):
    """captum's ``LayerActivation`` of all the layers at once."""

    name = "captum"

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        super().__init__(model, layers)
        attr = importlib.import_module("captum.attr")
        self._attribution = attr.LayerActivation(model, [model.get_submodule(n) for n in layers])

    def __call__(self, batch: torch.Tensor) -> None:
        """Run one pass, and capture."""
        self.captured = dict(zip(self.layers, self._attribution.attribute(batch), strict=True))


class Nnsight(Plain):
    """nnsight's ``trace``, with the outputs of the layers saved.

    Has a copy of the model, since it replaces the forward methods of the modules that it wraps.
    """

    name = "nnsight"

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        super().__init__(copy.deepcopy(model), layers)
        self._nnsight = importlib.import_module("nnsight")
        self._wrapped = self._nnsight.NNsight(self.model)
        self._parts = [self._wrapped.get(name) for name in layers]

    def __call__(self, batch: torch.Tensor) -> None:
        """Run one pass, and capture."""
        parts, nnsight = self._parts, self._nnsight
        with self._wrapped.trace(batch):
            outputs = []
            for part in parts:
                outputs.append(part.output)
            outputs = nnsight.save(outputs)
        self.captured = dict(zip(self.layers, outputs, strict=True))


class TorchLens(Plain):
    """TorchLens's ``record``, its cheapest way to keep the outputs of chosen modules.

    Has a copy of the model, which it prepares. From its first pass on, PyTorch's functions are
    wrapped for the whole process: it must come last.
    """

    name = "TorchLens"

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        super().__init__(copy.deepcopy(model), layers)
        self._torchlens = importlib.import_module("torchlens")
        self._save = self._torchlens.module(layers[0])
        for name in layers[1:]:
            self._save = self._save | self._torchlens.module(name)

    def __call__(self, batch: torch.Tensor) -> None:
        """Run one pass, and capture."""
        recording = self._torchlens.record(self.model, batch, save=self._save)
        self.captured = {
            name: recording.activations_by_address(name)[0].ram_payload for name in self.layers
        }


def installed(name: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(name) is not None
