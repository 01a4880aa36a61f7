"""A network along straight lines: its exact breakpoints, and its slope on every piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.storage import Array
from geomprobe.tropical.inputs import aligned, as_batch, norm
from geomprobe.tropical.limits import TooManyInputs
from geomprobe.tropical.recording import record
from geomprobe.tropical.tape import Kink, Still, Tape
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Slopes that differ by less than this share of the largest are equal.
SAME_SLOPE = 1e-10
#: Largest deviation from affinity, over the largest output, of a certified result.
ROUNDING = 1e-9
#: Pieces in the middle of which the network is run anew.
_CHECKED = 32
#: A piece shorter than this share of its segment may be two walls that rounding keeps apart.
_THIN = 1e-10


@dataclass(frozen=True, eq=False)
class LinearPieces(ByValue):
    """A network along a polyline, piece by piece.

    Parameters
    ----------
    t : float64 array of shape (n + 1,)
        Breakpoints and both ends; corner number i of the polyline is at t = i.
    values : float64 array of shape (n + 1, outputs)
        Outputs there.
    slopes : float64 array of shape (n, outputs)
        Derivative in t on each piece, exact to rounding however short it is.
    origin : int array of shape (n + 1,)
        Which of ``bends`` made each breakpoint; -1 at corners of the polyline.
    bends : tuple of str
        What bends, in the order of the pass, by the module it happens in.
    length : float
        Euclidean length of the polyline.
    deviation : float
        Rounding, if no breakpoint is missing: the largest distance of what bends, at the end and in
        the middle of every piece, from what its slopes add up to, over its largest output; and of
        the network, run anew in the middle of up to 32 pieces, from the mean of the ends.
    notes : tuple of str
    """

    t: Array
    values: Array
    slopes: Array
    origin: Array
    bends: tuple[str, ...]
    length: float
    deviation: float
    notes: tuple[str, ...]

    @property
    def activation_pieces(self) -> int:
        """Pieces on which no unit changes its branch."""
        return len(self.slopes)

    @property
    def linear_pieces(self) -> int:
        """Pieces when neighbours with one affine map are merged."""
        return 1 + int(self.kinked.sum())

    @property
    def kinked(self) -> Array:
        """Whether the slope changes, at each inner breakpoint: bool array of shape (n - 1,)."""
        jumps = np.abs(np.diff(self.slopes, axis=0)).max(axis=1, initial=0.0)
        kinked: Array = jumps > SAME_SLOPE * np.abs(self.slopes).max()
        return kinked | (self.origin[1:-1] < 0)

    @property
    def failures(self) -> tuple[str, ...]:
        """What was found wrong; empty if the pieces are certified."""
        return not_affine(self.deviation, "piece")

    @property
    def certified(self) -> bool:
        """Whether the network was seen to be affine on every piece."""
        return not self.failures

    def by_bend(self) -> dict[str, int]:
        """Count the breakpoints of each bend."""
        counts = Counter(self.origin[self.origin >= 0].tolist())
        return {name: counts[number] for number, name in enumerate(self.bends)}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the outputs along the polyline, with a mark where a slope changes."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        marks = [0, *(np.flatnonzero(self.kinked) + 1).tolist(), len(self.t) - 1]
        few = len(marks) <= 60
        for output in self.values.T:
            axes.plot(self.t, output, marker="o" if few else "", markevery=marks, markersize=3)
        axes.set(xlabel="t", ylabel="outputs", title=f"{self.linear_pieces} linear pieces")
        return axes


def linear_pieces(
    model: nn.Module, start: Any, end: Any, *further: Any, max_pieces: int = 100_000
) -> LinearPieces:
    """Compute the linear pieces of a network along a segment or a polyline, exactly.

    Every quantity in a piecewise-linear network is affine between the breakpoints found so far, and
    is kept by its slopes there. Operation by operation, in the order of the pass, the zeros of what
    bends become breakpoints: no layer is run twice.

    Parameters
    ----------
    model : torch.nn.Module
        Any composition of affine operations (linear, convolution, BatchNorm in evaluation mode,
        average pooling, sums, concatenation, ...) and bends (ReLU, leaky and parametric ReLU, hard
        tanh, clamp, abs, max-pooling, maximum, ...), written as modules or as functions. Looked at
        in evaluation mode, and left as it was.
    start, end, *further : tensor, or a tuple, list or dict of tensors
        Inputs as a data set gives them, without the axis of the batch: the corners of the polyline.
        Floating-point tensors move; the others must be equal in all.
    max_pieces : int
        A line with more is refused.

    Returns
    -------
    LinearPieces

    Raises
    ------
    ValueError
        An operation that is not continuous and piecewise linear, by name; inputs of different
        shapes, or equal neighbours; more than ``max_pieces`` pieces, with how many were reached.
    TypeError
        An output that is not one tensor.

    Notes
    -----
    Double precision, from the parameters as they are. Breakpoints closer together than 1e-12 of
    their segment count as one, which the notes tell, as they do of pieces below 1e-10; what stays
    below 1e-14 of the largest of its operation does not bend. Time: less than one forward pass a
    piece. Where the rows do not fit into memory, the line is cut into parts.

    The certificate: between bends all operations are affine, by name, and the network run anew in
    the middle of some pieces says so. So that only bends are left: each of them is applied to its
    argument at the end and in the middle of every piece that it has made, and must give what the
    slopes add up to.

    References
    ----------
    Raghu, M. et al. (2017). On the expressive power of deep neural networks. ICML. Hanin, B. and
    Rolnick, D. (2019). Complexity of linear regions in deep networks. ICML.
    """
    if max_pieces < 1:
        raise ValueError(f"max_pieces must be at least 1, got {max_pieces}")
    corners = [start, end, *further]
    names = ["start", "end", *(f"corner {i}" for i in range(2, len(corners)))]
    points = aligned(corners, names)
    lengths = norm([part[1:] - part[:-1] for part in points])
    if bool((lengths == 0).any()):
        at = int(torch.argmin(lengths))
        raise ValueError(f"{names[at]} and {names[at + 1]} are equal: no line is between them")
    tape = record(model, as_batch(start))
    starts, ends = [part[:-1] for part in points], [part[1:] for part in points]
    found = breakpoints(tape, starts, ends, most=max_pieces - len(lengths), certify=True)
    tape.require_agreement([part[:8] for part in points])
    same = found.segment[1:] == found.segment[:-1]
    pieces = np.flatnonzero(same)
    some = np.sort(np.random.default_rng(0).permutation(pieces)[:_CHECKED])
    means, places = ((x[some + 1] + x[some]) / 2 for x in (found.values, found.t))
    middles = values_on(tape, starts, ends, found.segment[some], places)
    largest = float(np.abs(found.values).max(initial=0.0))
    deviation = float(np.abs(middles - means).max(initial=0.0))
    once = (found.t > 0) | (found.segment == 0)
    return LinearPieces(
        (found.segment + found.t)[once],
        found.values[once],
        found.slopes[1:][same],
        found.origin[once],
        tuple(kink.name for kink in tape.kinks),
        float(lengths.sum()),
        max(deviation / largest if largest else 0.0, found.deviation),
        found.notes,
    )


def not_affine(deviation: float, on: str) -> tuple[str, ...]:
    """Return what is wrong if a network deviates from affinity by more than rounding."""
    if deviation <= ROUNDING:
        return ()
    return (f"the network is not affine on a {on}, by {deviation:.1e} of its values",)


@dataclass(frozen=True, eq=False)
class Breakpoints:
    """Breakpoints on segments, with the ends of each: arrays over them, in order.

    Parameters
    ----------
    segment, t, origin : array of shape (n,)
        As of :class:`~geomprobe.tropical.polyline.Polyline`.
    values : float64 array of shape (n, outputs)
    slopes : float64 array of shape (n, outputs)
        In t on the piece that ends there; nothing where a segment starts.
    merged, deviation
        As of :class:`~geomprobe.tropical.polyline.Polyline`.
    """

    segment: Array
    t: Array
    origin: Array
    values: Array
    slopes: Array
    merged: int
    deviation: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        notes = []
        if self.merged:
            notes.append(
                f"Not in general position: {self.merged} times a unit bends where another does, or "
                "at an end, within 1e-12 of the segment; these count as one breakpoint."
            )
        same = self.segment[1:] == self.segment[:-1]
        if thin := int((np.diff(self.t)[same] < _THIN).sum()):
            notes.append(
                f"Pieces shorter than {_THIN:g} of their segment: {thin}. Rounding may have made "
                "them of units that bend at one place."
            )
        return tuple(notes)


def breakpoints(
    tape: Tape,
    starts: Sequence[Tensor],
    ends: Sequence[Tensor],
    *,
    most: int,
    certify: bool = False,
) -> Breakpoints:
    """Find all breakpoints on segments.

    Parameters
    ----------
    tape : Tape
    starts, ends : sequence of Tensor
        Rows, (segments, 1, *shape), of each tensor of the input.
    most : int
        Refuse more than so many on all segments together.
    certify : bool
        Whether to look at every bend for what its slopes add up to.
    """
    from geomprobe.tropical.polyline import Polyline

    limit, segments = tape.rows_in_memory(), len(starts[0])
    size = max(1, limit // 16)
    waiting = [(np.arange(i, min(i + size, segments)), 0.0, 1.0) for i in range(0, segments, size)]
    done: list[tuple[Array, ...]] = []
    total, merged, deviation = 0, 0, 0.0
    while waiting:
        which, low, high = waiting.pop()
        ceiling = most - total + 2 * len(which)
        mesh = Polyline(len(which), min(limit, ceiling), low, high, certify)
        at = torch.from_numpy(which).to(starts[0].device)
        rows = [mesh.rows(a[at], b[at]) for a, b in zip(starts, ends, strict=True)]
        try:
            outputs = tape.run(mesh, *rows)
        except TooManyInputs as reached:
            if reached.inputs > ceiling:
                raise ValueError(
                    f"more than {most} breakpoints: {total + reached.inputs - 2 * len(which)} were "
                    f"reached at {reached.kink!r}. Take a shorter line, or allow more"
                ) from None
            # Not in the middle, where simple networks bend.
            half, middle = len(which) // 2, low + 0.4871 * (high - low)
            if half:
                waiting += [(which[:half], low, high), (which[half:], low, high)]
            elif low < middle < high:
                waiting += [(which, low, middle), (which, middle, high)]
            continue
        # The zeros and the ends of parts are no breakpoints.
        ends_there = (mesh.segment >= 0) & ((mesh.t == 0) | (mesh.t == 1))
        keep = (mesh.origin >= 0) | ends_there
        total += int((mesh.origin >= 0).sum())
        merged, deviation = merged + mesh.merged, max(deviation, mesh.deviation)
        of_each = (mesh.t, mesh.origin, mesh.values(outputs), mesh.slopes(outputs))
        done.append((which[mesh.segment[keep]], *(part[keep] for part in of_each)))
    parts = [np.concatenate(column) for column in zip(*done, strict=True)]
    order = np.lexsort((parts[1], parts[0]))
    segment, t, origin, values, slopes = (part[order] for part in parts)
    return Breakpoints(segment, t, origin, values, slopes, merged, deviation)


def values_on(
    tape: Tape, starts: Sequence[Tensor], ends: Sequence[Tensor], segment: Array, t: Array
) -> Array:
    """Return the outputs at places on segments, (places, outputs), by plain evaluation there."""
    size = tape.rows_at_once()
    values = []
    for first in range(0, len(t), size):
        part = slice(first, first + size)
        which, local = np.unique(segment[part], return_inverse=True)
        mesh = _Places(local.reshape(-1), t[part])
        at = torch.from_numpy(which).to(starts[0].device)
        rows = [torch.cat([a[at], b[at]]) for a, b in zip(starts, ends, strict=True)]
        values.append(mesh.at_all(tape.run(mesh, *rows)).cpu().numpy())
    return np.concatenate(values)


class _Places(Still):
    """Places on segments, known by both ends as long as nothing bends."""

    def __init__(self, segment: Array, t: Array) -> None:
        self.version = 0
        self._segment, self._t = torch.from_numpy(segment), torch.from_numpy(t)

    def lift(self, rows: Tensor, version: int) -> Tensor:
        """Interpolate the rows of the ends."""
        low, high = (part[self._segment.to(rows.device)] for part in rows.chunk(2))
        share = self._t.to(rows.device).reshape(-1, *[1] * (rows.ndim - 1))
        return torch.lerp(low, high, share)

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Apply the operation."""
        rows = [self.at_all(part) for part in rows]
        self.version = 1
        return kink.apply(*rows)

    def at_all(self, rows: Tensor) -> Tensor:
        """Return rows of all places."""
        return rows if self.version else self.lift(rows, 0)
