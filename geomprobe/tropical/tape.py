"""A piecewise-linear model as a list of operations, run on many inputs at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from geomprobe.evidence import forward
from geomprobe.hooks import quiet
from geomprobe.memory import allowed_bytes
from geomprobe.tropical.inputs import moves
from geomprobe.tropical.operations import Bend

#: Rows of the widest quantity that are alive at one time, at most.
_COPIES = 8
#: Numbers in the widest quantity with which inputs that do not depend on each other go fastest.
_AT_ONCE = 2**22


class Mesh(Protocol):
    """Inputs that a model is run on; there may be more of them where the model bends."""

    version: int  #: Counts the changes of the set of inputs.

    def lift(self, rows: Tensor, version: int) -> Tensor:
        """Return rows of an affine quantity at the present inputs, from those at former ones."""
        ...

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Return the output of an operation that bends, one row an input."""
        ...


@dataclass(frozen=True, eq=False)
class Kink:
    """One call of an operation that bends.

    Parameters
    ----------
    name : str
        The module it happens in; a second call there is called ``"name#1"``.
    operation : str
    bend : Bend
    function : callable
        From rows of its arguments to those of its output.
    shape : tuple of int
        Of the output, for one input.
    """

    name: str
    operation: str
    bend: Bend
    function: Callable[..., Tensor]
    shape: tuple[int, ...]

    def heights(self, entries: Tensor) -> list[Tensor]:
        """Return how far entries are above each threshold."""
        return [above(entries, threshold) for threshold in self.bend.thresholds]

    def apply(self, *rows: Tensor) -> Tensor:
        """Return rows of the output."""
        if self.bend.windows is None:
            return self.function(*rows)
        best = self.bend.windows(*rows).amax(-1)
        return self.bend.sign * best.reshape(-1, *self.shape)


def above(entries: Tensor, threshold: float | Tensor) -> Tensor:
    """Return how far entries are above a threshold, and zero where it is infinite."""
    gaps = entries - threshold
    return gaps.masked_fill(gaps.isinf(), 0.0) if isinstance(threshold, Tensor) else gaps


class Still:
    """Inputs that stay as they are: plain evaluation."""

    version = 0

    def lift(self, rows: Tensor, version: int) -> Tensor:
        """Return the rows."""
        return rows

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Apply the operation."""
        return kink.apply(*rows)


@dataclass(frozen=True, eq=False)
class Step:
    """One operation: a function of rows, and in which slots they are and go."""

    function: Callable[..., Any]
    inputs: tuple[int, ...]
    outputs: tuple[int | None, ...]
    kink: Kink | None = None


@dataclass(frozen=True, eq=False)
class Tape:
    """The operations of a model; made by :func:`~geomprobe.tropical.recording.record`.

    Parameters
    ----------
    model : torch.nn.Module
    sample : tensor, or a tuple, list or dict of tensors
        The input it was recorded on, a batch of one.
    steps : tuple of Step
    inputs : tuple of int
        Slots of the tensors of the input that move.
    output : int
    output_shape : tuple of int
        For one input, without the axis of the batch.
    widest : int
        Entries of the largest quantity, for one input.
    """

    model: nn.Module
    sample: Any
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    output: int
    output_shape: tuple[int, ...]
    widest: int

    @property
    def kinks(self) -> tuple[Kink, ...]:
        """Every bend, in the order of the pass."""
        return tuple(step.kink for step in self.steps if step.kink is not None)

    def run(self, mesh: Mesh, *rows: Tensor) -> Tensor:
        """Return the outputs on a mesh, float64 of shape (n, outputs).

        Parameters
        ----------
        mesh : Mesh
        *rows : float64 Tensor of shape (n, 1, *shape)
            Each tensor of the input that moves, at the first inputs of the mesh.
        """
        last = {slot: number for number, step in enumerate(self.steps) for slot in step.inputs}
        last[self.output] = len(self.steps)
        held = {slot: (part, mesh.version) for slot, part in zip(self.inputs, rows, strict=True)}

        def current(slot: int) -> Tensor:
            part, version = held[slot]
            if version != mesh.version:
                part = mesh.lift(part, version)
                held[slot] = part, mesh.version
            return part

        with torch.no_grad():
            for number, step in enumerate(self.steps):
                given = [current(slot) for slot in step.inputs]
                for slot in {slot for slot in step.inputs if last[slot] == number}:
                    del held[slot]
                made: Any = mesh.bend(step.kink, given) if step.kink else step.function(*given)
                del given
                parts = made if isinstance(made, tuple | list) else (made,)
                for out, part in zip(step.outputs, parts, strict=False):
                    if out is not None and out in last:
                        held[out] = part, mesh.version
                del made, parts
            return current(self.output).flatten(1)

    def rows_in_memory(self) -> int:
        """Return on how many inputs it may be run at once, by a quarter of the memory there is."""
        allowed = allowed_bytes(share=0.25)
        return 2**16 if allowed is None else max(64, allowed // (8 * _COPIES * self.widest))

    def rows_at_once(self) -> int:
        """Return how many inputs to run at a time, where they do not depend on each other."""
        return min(self.rows_in_memory(), max(64, _AT_ONCE // self.widest))

    def require_agreement(self, rows: Sequence[Tensor]) -> None:
        """Raise unless the model gives these outputs too, to the rounding of its own dtype.

        Parameters
        ----------
        rows : sequence of Tensor
            As of :meth:`run`; a few.

        Raises
        ------
        ValueError
            It does not: what it does depends on the input otherwise than by its operations.
        """
        leaves, spec = pytree.tree_flatten(self.sample)
        dtypes = [leaf.dtype for leaf in leaves if moves(leaf)]
        cast = [part.to(dtype) for part, dtype in zip(rows, dtypes, strict=True)]
        ours = self.run(Still(), *(part.double() for part in cast))
        theirs = []
        with quiet(self.model), torch.no_grad():
            for i in range(len(ours)):
                parts = iter(part[i] for part in cast)
                at = [next(parts) if moves(leaf) else leaf for leaf in leaves]
                output = forward(self.model, pytree.tree_unflatten(at, spec))
                theirs.append(output.double().flatten())
        own = torch.stack(theirs)
        allowed = max(torch.finfo(dtype).eps for dtype in dtypes) ** 0.5
        difference = float((ours - own).abs().max()) / max(float(own.abs().max()), 1e-300)
        if not difference <= allowed:
            raise ValueError(
                f"the model does not do the same at every input: its operations at one give "
                f"outputs that are off by {difference:.1e} of the largest at others. Python code "
                "in its forward may look at the values, or it keeps a state"
            )
