"""The loss of each of some samples, at any parameters of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from geomprobe.evidence import Loss, Samples, forward, leading_size, require_samples
from geomprobe.hooks import quiet
from geomprobe.hooks.compiled import eagerly
from geomprobe.hooks.selection import unwrap
from geomprobe.jacobians import (
    Parameters,
    require_independence,
    row_dtype,
    row_epsilon,
    split,
    trainable_parameters,
)
from geomprobe.landscape.fusion import Fused, fuse
from geomprobe.landscape.single_losses import is_mean, losses_alone, whole_loss
from geomprobe.storage import Array

#: Bytes of the largest intermediate tensor of a pass: it then stays in the caches of the processor,
#: and its memory with the process, which otherwise takes longer to come and go than to fill.
_CACHED = 1 << 20
_LARGEST_PASS = 1024


class Evaluation:
    """A model, samples and a loss, as a function of the trainable parameters.

    Made and used within :meth:`quietly`.

    Parameters
    ----------
    model : torch.nn.Module
    data : Samples
        With targets.
    loss : callable
        ``loss(outputs, targets)``, of a batch.
    batch_size : int, optional
        Samples of a pass; by default as many as keep intermediate tensors in the caches.

    Raises
    ------
    ValueError
        No samples, targets or trainable parameters; a batch size below one; a loss that is not one
        finite number; outputs of a sample that depend on the other samples or on chance.
    """

    def __init__(
        self, model: nn.Module, data: Samples, loss: Loss, *, batch_size: int | None = None
    ) -> None:
        require_samples(data, targets=True)
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.model = unwrap(model)
        self.parameters: Parameters = {
            name: parameter.clone() for name, parameter in trainable_parameters(self.model).items()
        }
        first = next(iter(self.parameters.values()))
        self.data, self.loss = data.to(first.device), loss
        self.centre = torch.cat(
            [part.reshape(-1).to(row_dtype(self.parameters)) for part in self.parameters.values()]
        )
        self.batch_size = batch_size or self._fitting()
        few = self.data.take(slice(0, self.batch_size))
        self._fused: Fused | None = fuse(self.model, few, self.parameters)
        self.paired = True
        #: What :meth:`at` says of the centre.
        self.at_centre = self._whole()

    @staticmethod
    @contextmanager
    def quietly(model: nn.Module) -> Iterator[None]:
        """Leave the model as it is, and build no graphs."""
        with quiet(unwrap(model)), eagerly(), torch.inference_mode(False), torch.no_grad():
            yield

    @property
    def route(self) -> str:
        """How outputs are computed."""
        way = "as the model computes them" if self._fused is None else self._fused.route
        return f"outputs {way}, {self.batch_size} samples a pass"

    def at(self, vector: Tensor) -> tuple[float, Array | None]:
        """Return the loss at a vector of shape (p,), and that of each sample if it is their mean.

        Returns
        -------
        value : float
        losses : float64 array of shape (n,), or None
        """
        outputs = self._outputs(split(vector, self.parameters))
        if not self.paired:
            return float(self.loss(outputs, self.data.targets)), None
        return _of_samples(losses_alone(self.loss, outputs, self.data.targets))

    def _outputs(self, values: Parameters) -> Any:
        if self._fused is not None:
            self._fused.move_to(values)
            call: Any = self._fused
        else:

            def call(*args: Any, **kwargs: Any) -> Any:
                return functional_call(self.model, values, args, kwargs)

        return passed(call, self.data, self.batch_size)

    def _whole(self) -> tuple[float, Array | None]:
        """Check the loss at the centre, and whether it is the mean over samples; return it."""
        outputs = self._outputs(self.parameters)
        if leading_size(outputs) != len(self.data):
            raise ValueError(
                f"outputs of {len(self.data)} samples have a first axis of "
                f"{leading_size(outputs)}: they must have the samples along it"
            )
        targets = self.data.targets
        whole = whole_loss(self.loss, outputs, targets, "at the parameters of the model")
        if isinstance(outputs, Tensor):
            few = self.data.take(slice(0, 4))
            alone = torch.cat([forward(self.model, two.inputs) for two in few.batches(2)])
            require_independence(alone, outputs[: len(few)], row_epsilon(self.parameters))
        losses = losses_alone(self.loss, outputs, targets)
        self.paired = is_mean(whole, losses, 1e-4)
        return _of_samples(losses) if self.paired else (float(whole), None)

    def _fitting(self) -> int:
        """Return how many samples to pass at a time."""
        size = _LARGEST_PASS
        if self.centre.device.type == "cpu":
            few = self.data.take(slice(0, 2))
            with _Largest() as seen:
                forward(self.model, few.inputs)
            size = max(8, min(size, len(few) * _CACHED // max(seen.bytes, 1)))
        return min(size, len(self.data))


def _of_samples(losses: Tensor) -> tuple[float, Array]:
    each = losses.double().cpu()
    return float(each.mean()), each.numpy()


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the size of the largest tensor that a pass makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep PyTorch from importing its compiler, which takes seconds, to wrap this mode in."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {_storage(leaf) for leaf in pytree.tree_leaves(args) if isinstance(leaf, Tensor)}
        for leaf in pytree.tree_leaves(made):
            # Not views, such as the transpose of a parameter.
            if isinstance(leaf, Tensor) and _storage(leaf) not in given:
                self.bytes = max(self.bytes, leaf.numel() * leaf.element_size())
        return made


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def passed(call: Callable[..., Any], data: Samples, batch_size: int) -> Any:
    """Return the outputs of all samples, computed a batch at a time."""
    parts = [forward(call, batch.inputs) for batch in data.batches(batch_size)]
    return parts[0] if len(parts) == 1 else pytree.tree_map(_joined, *parts)


def _joined(*parts: Any) -> Any:
    first = parts[0]
    return torch.cat(parts) if isinstance(first, Tensor) and first.ndim else first
