"""The path of the parameters through training, in bounded memory."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from geomprobe.clouds import Trajectory
from geomprobe.evidence import Loss, Samples
from geomprobe.hooks.names import names_in
from geomprobe.hooks.optimizers import unwrap_optimizer
from geomprobe.hooks.selection import unwrap
from geomprobe.memory import require_memory
from geomprobe.sampling.parameters import Parameters, select_parameters
from geomprobe.sampling.projection import SparseProjection
from geomprobe.sampling.responses import Responses, responses

#: Coordinates that are compared at a time, or up to twice as many.
_SLICE = 1 << 18
_BYTES_A_RESPONSE = 9


class TrajectoryRecorder:
    """Records parameters by optimizer step, exactly or projected, with exact step lengths.

    ::

        recorder = TrajectoryRecorder(model, dim=1024, every=10, optimizer=optimizer)
        for step, (x, y) in enumerate(loader):
            ...
            recorder.record(step, loss.item())
        recorder.trajectory.points                          # (T, 1024)

    Parameters
    ----------
    model : torch.nn.Module
        Wrappers of torch.compile and DistributedDataParallel are looked through.
    dim : int or None
        Project to this many dimensions (see :class:`~geomprobe.sampling.SparseProjection`; with
        the greatest of 4, 2 and 1 nonzeros that divides it). ``None``, or no fewer than there are
        parameters: record every parameter.
    every : int
        Look at the parameters at the steps that are multiples of this.
    points : int
        Most points to keep of the whole run: when there are more, every second one is dropped, and
        only every second further one is kept. Not used where ``window`` is given.
    window : int or None
        Keep the last so many points instead, each ``every`` steps from the next.
    seed : int
        Seed of the projection.
    optimizer : torch.optim.Optimizer, optional
        Its learning rates are kept beside the points.
    parameters : str, Parameter, or iterable of these, optional
        What to record: a dotted name or glob (``*`` crosses dots), a regular expression after
        ``re:`` (searched), or parameters themselves, as in ``optimizer.param_groups[0]["params"]``.
        By default all that require gradients at construction.
    buffers : bool
        Floating-point buffers, such as the running statistics of batch norm, count as parameters.
    samples : Samples, optional
        Also record the loss of each of these at each point, and whether it is classified rightly:
        what distances between iterates by their losses and errors are taken from. That costs a pass
        of them a point, in evaluation mode, and one at construction.
    loss : callable, optional
        ``loss(outputs, targets)``; needed with ``samples``, and called with one of them at a time.

    Raises
    ------
    LayerSelectionError
        A pattern matches nothing, or is no regular expression.
    ValueError
        Nothing is left to record, or a parameter cannot be read: one
        that is not initialised yet, sharded over processes (FSDP, DTensor), without values (meta
        device), or not of a dense floating-point type. Samples without targets or loss.
    TypeError
        The model or a pattern is of a kind that cannot be used.

    Notes
    -----
    ``trajectory.meta`` holds, as lists with one entry a point:

    - ``arc_length``: length of the path up to the point, the sum of the distances between the
      parameters at consecutive looks, before any projection. Dropping points does not change it.
    - ``step_norms``: length of the last of these steps; None for the first look.
    - ``unmeasured_steps``: how many steps up to there have no length, since parameters at one of
      their ends were NaN or infinite. ``arc_length`` leaves these out, and ``step_norms`` is None
      there; the points are recorded as they are.
    - ``learning_rates``: that of each parameter group of the optimizer when the point was recorded;
      ``parameter_groups`` are the groups' names, or their numbers. Both None without an optimizer.

    Lengths are sums of float64 squares of differences. Parameters in half precision are read as
    float32; where one is float64, all are recorded in it. Tied parameters count once.

    A look takes O(p) time for p parameters. Memory is a copy of the parameters, the projection (at
    most 1280 max(8 dim, 4096) + p/16 bytes, and as much again on another device), ``points`` or
    ``window`` times ``dim`` numbers, and a few megabytes to work in; the first projection of a
    process also loads its compiler, some 130 megabytes. The copy stays on the device of the
    parameters where they share one that has float64, and on the CPU otherwise.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dim: int | None = None,
        every: int = 1,
        points: int = 2000,
        window: int | None = None,
        seed: int = 0,
        optimizer: torch.optim.Optimizer | None = None,
        parameters: Parameters | None = None,
        buffers: bool = False,
        samples: Samples | None = None,
        loss: Loss | None = None,
    ) -> None:
        if every < 1 or points < 2:
            raise ValueError(f"every must be >= 1 and points >= 2, got {every} and {points}")
        if window is not None and window < 2:
            raise ValueError(f"window must be >= 2 points or None, got {window}")
        if dim is not None and dim < 1:
            raise ValueError(f"dim must be positive or None, got {dim}")
        self._model, self._optimizer = unwrap(model), unwrap_optimizer(optimizer)
        chosen = select_parameters(self._model, parameters, buffers)
        self._canonical = names_in(self._model)
        self._shapes = {name: tensor.shape for name, tensor in chosen.items()}
        self._dtype = _dtype_of(chosen.values())
        self._size = sum(tensor.numel() for tensor in chosen.values())
        if not self._size:
            raise ValueError("the parameters to record have no entries: there is no trajectory")
        self._projection: SparseProjection | None = None
        if dim is not None and dim < self._size:
            self._projection = SparseProjection(
                self._size, dim, seed=seed, nonzeros=math.gcd(dim, 4)
            )
        kept = points if window is None else window
        width = self._size if self._projection is None else self._projection.k
        if samples is not None and loss is None:
            raise ValueError("samples need a loss: give loss(outputs, targets), as in training")
        self._samples, self._sample_loss = samples, loss
        self._watched = None if samples is None else len(samples)
        require_memory(
            self._dtype.itemsize * (2 * kept * width + self._size)
            + 2 * kept * _BYTES_A_RESPONSE * (self._watched or 0),
            f"a trajectory of {kept} points in {width} dimensions",
            "Give a smaller dim (projection), fewer points or samples, or a smaller window.",
        )
        self._respond()  # Samples that the model or the loss cannot take are refused at once.
        self._every, self._points, self._window, self._seed = every, points, window, seed
        self._path = _Path()
        self._kept: list[_Point] = []
        self._thinning = 1
        self._groups: list[int | str] | None = None
        self._flat: torch.Tensor | None = None

    def record(self, step: int, loss: float | torch.Tensor | None = None) -> None:
        """Record the parameters as they are now, if ``step`` is a multiple of ``every``.

        A step that was recorded already stays as it is. A loss that is a tensor is read only where
        its point is kept.

        Raises
        ------
        ValueError
            The step lies before the last one recorded, or a parameter is not there any more or has
            another shape.
        """
        step = operator.index(step)
        if step % self._every or step == self._path.step:
            return
        if self._path.step is not None and step < self._path.step:
            raise ValueError(
                f"step {step} comes after step {self._path.step} was recorded. Where training went "
                "back to a checkpoint, load the state that the recorder had then, or make another"
            )
        with torch.inference_mode(False), torch.no_grad():
            tensors = [self._tensor(name) for name in self._shapes]
            length = self._move_to(tensors)
            self._path = self._path.extended(step, length)
            if (self._path.looks - 1) % self._thinning == 0:
                self._keep(math.nan if loss is None else float(loss))

    @property
    def trajectory(self) -> Trajectory | None:
        """The record so far; None before the first point."""
        if not self._kept:
            return None
        projection, paths = self._projection, [point.path for point in self._kept]
        meta = {
            "parameters": self._size,
            "every": self._every,
            "stride": self._every * self._thinning,
            "window": self._window,
            "projection": None if projection is None else projection.k,
            "distortion": None if projection is None else projection.distortion(len(paths)),
            "seed": self._seed,
            "arc_length": [path.arc_length for path in paths],
            "step_norms": [path.step_norm for path in paths],
            "unmeasured_steps": [path.unmeasured for path in paths],
            "parameter_groups": self._groups,
            "learning_rates": None
            if self._groups is None
            else [point.learning_rates for point in self._kept],
        }
        return Trajectory(
            torch.stack([point.values for point in self._kept]).numpy(),
            np.array([path.step for path in paths]),
            np.array([point.loss for point in self._kept]),
            meta,
            *(None if each is None else each.numpy() for each in self._responses()),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the record and all it takes to go on with it, as tensors and plain types.

        It holds a copy of the parameters at the last look, so that the next length is right
        whatever the model holds by then.
        """
        flat = self._flat
        return {
            "setting": self._setting,
            "path": asdict(self._path),
            "kept": [
                [asdict(point.path), point.loss, point.learning_rates] for point in self._kept
            ],
            "values": torch.stack([point.values for point in self._kept]) if self._kept else None,
            "responses": self._responses(),
            "thinning": self._thinning,
            "groups": self._groups,
            "flat": None if flat is None else flat.to("cpu", copy=True),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned, in place of what was recorded here.

        Raises
        ------
        ValueError
            It is the state of a recorder of other parameters, or with other settings; the message
            says which.
        """
        ours, theirs = self._setting, dict(state["setting"])
        different = [
            f"{key} is {_brief(ours.get(key))} here, {_brief(theirs.get(key))} in the state"
            for key in {**ours, **theirs}
            if ours.get(key) != theirs.get(key)
        ]
        if different:
            raise ValueError(f"this is the state of another recorder: {'; '.join(different)}")
        self._path = _Path(**state["path"])
        values, (losses, correct) = state["values"], state["responses"]
        self._kept = [
            _Point(
                _Path(**path),
                loss,
                rates,
                values[i].clone(),
                None
                if losses is None
                else Responses(losses[i].clone(), None if correct is None else correct[i].clone()),
            )
            for i, (path, loss, rates) in enumerate(state["kept"])
        ]
        self._thinning, self._groups = state["thinning"], state["groups"]
        self._flat = None if state["flat"] is None else state["flat"].clone()

    @property
    def _setting(self) -> dict[str, Any]:
        return {
            "shapes": {self._canonical(name): list(s) for name, s in self._shapes.items()},
            "dtype": str(self._dtype),
            "dim": None if self._projection is None else self._projection.k,
            "seed": self._seed,
            "every": self._every,
            "points": self._points,
            "window": self._window,
            "samples": self._watched,
        }

    def _respond(self) -> Responses | None:
        """Return what the model makes of the samples now."""
        if self._samples is None or self._sample_loss is None:
            return None
        return responses(self._model, self._samples, self._sample_loss)

    def _responses(self) -> list[torch.Tensor | None]:
        """Return losses of the samples and which were right, a row a point; None if not told."""
        told = [point.responses for point in self._kept if point.responses is not None]
        losses = torch.stack([one.losses for one in told]) if told else None
        correct = [one.correct for one in told if one.correct is not None]
        return [losses, torch.stack(correct) if correct else None]

    def _tensor(self, name: str) -> torch.Tensor:
        """Return a parameter by the name it has in the model now."""
        owner, _, leaf = name.rpartition(".")
        try:
            module = self._model.get_submodule(owner)
        except AttributeError:
            tensor = None
        else:
            tensor = module._parameters.get(leaf, module._buffers.get(leaf))
        if tensor is None or tensor.shape != self._shapes[name]:
            found = "is not there any more" if tensor is None else f"is {tuple(tensor.shape)} now"
            raise ValueError(
                f"{self._canonical(name)} was {tuple(self._shapes[name])} when the recorder was "
                f"made, and {found}: make another recorder"
            )
        return tensor

    def _move_to(self, tensors: list[torch.Tensor]) -> float | None:
        """Bring the copy of the parameters up to date; return how far it moved."""
        device, before = _home(tensors), self._flat
        fresh = before is None
        if before is None:
            flat = torch.zeros(self._size, dtype=self._dtype, device=device)
        else:
            flat = before.to(device)
        square = torch.zeros((), dtype=torch.float64, device=device)
        begin = 0
        for new in _pieces(tensors, flat):
            old = flat[begin : begin + len(new)]
            difference = (new - old).double()
            square += difference.dot(difference)
            old.copy_(new)
            begin += len(new)
        self._flat = flat
        return None if fresh else math.sqrt(float(square))

    def _keep(self, loss: float) -> None:
        assert self._flat is not None
        rates = None
        if self._optimizer is not None:
            groups = self._optimizer.param_groups
            self._groups = [group.get("name", i) for i, group in enumerate(groups)]
            rates = [_finite(group.get("lr")) for group in groups]
        image = self._flat if self._projection is None else self._projection(self._flat[None])[0]
        values = image.to("cpu", copy=True)
        self._kept.append(_Point(self._path, loss, rates, values, self._respond()))
        if self._window is not None:
            self._kept = self._kept[-self._window :]
        elif len(self._kept) > self._points:
            self._thinning *= 2
            self._kept = self._kept[::2]


@dataclass(frozen=True)
class _Path:
    """How far the parameters have come, by their exact step lengths."""

    step: int | None = None
    looks: int = 0
    arc_length: float = 0.0
    step_norm: float | None = None
    unmeasured: int = 0

    def extended(self, step: int, length: float | None) -> _Path:
        """Return the path with one more look, at a distance from the last (None: the first)."""
        measured = _finite(length)
        return _Path(
            step,
            self.looks + 1,
            self.arc_length + (measured or 0.0),
            measured,
            self.unmeasured + (measured is None and self.looks > 0),
        )


@dataclass(frozen=True)
class _Point:
    path: _Path
    loss: float
    learning_rates: list[float | None] | None
    values: torch.Tensor
    responses: Responses | None = None


def _finite(number: Any) -> float | None:
    """Return a number as JSON has it: None for NaN and the infinities."""
    return None if number is None or not math.isfinite(number) else float(number)


def _pieces(tensors: Iterable[torch.Tensor], like: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield tensors as one long vector, in pieces: long tensors cut, short ones joined."""
    parts: list[torch.Tensor] = []
    size = 0
    for tensor in tensors:
        vector = tensor.detach().reshape(-1)
        for begin in range(0, len(vector), _SLICE):
            part = vector[begin : begin + _SLICE].to(like)
            parts.append(part)
            size += len(part)
            if size >= _SLICE:
                yield parts[0] if len(parts) == 1 else torch.cat(parts)
                parts, size = [], 0
    if parts:
        yield torch.cat(parts)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _home(tensors: Iterable[torch.Tensor]) -> torch.device:
    """Return the device that tensors share, where it can add in float64; the CPU otherwise."""
    devices = {tensor.device for tensor in tensors}
    only = devices.pop()
    return torch.device("cpu") if devices or only.type == "mps" else only


def _dtype_of(tensors: Iterable[torch.Tensor]) -> torch.dtype:
    has_double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if has_double else torch.float32
