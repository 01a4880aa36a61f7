"""The loss along a line or over a plane in the space of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from geomprobe.evidence import Loss, Samples
from geomprobe.findings import Estimate
from geomprobe.landscape.directions import columns_of, random_directions
from geomprobe.landscape.evaluation import Evaluation
from geomprobe.landscape.trajectory_plane import TrajectoryPlane
from geomprobe.progress import progress_bar
from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Of the extent of a path, left free around it.
_MARGIN = 0.2
_LEVELS = 12
_KINDS = ("contour", "surface")

Extent = float | Sequence[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class LossSlice(ByValue):
    """Losses over a grid of parameters; made by :func:`loss_slice`.

    Parameters
    ----------
    coordinates : tuple of one or two float64 arrays
        Steps along each direction, in its length; 0 is the model.
    values : float64 array of shape (m,) or (m, l)
        The mean loss over the samples, along the first direction and the second; NaN where Ctrl-C
        came before.
    stderr : float64 array of that shape
        Standard error of the difference to the loss at the centre, paired by sample; NaN where the
        loss is not the mean of those of single samples.
    centre : Estimate
        The loss of the model, with its standard error over samples.
    norms : float64 array of shape (k,)
        Euclidean lengths of the directions.
    cosine : float
        Between two directions; NaN for one.
    labels : tuple of str
        What the directions are.
    plane : TrajectoryPlane, optional
        That whose directions these are.
    path : float64 array of shape (T, 2), optional
        Its trajectory in the coordinates of the slice.
    interrupted : bool
        Whether Ctrl-C came before all points were reached.
    notes : tuple of str
        How it was computed, and what a reader must know.
    """

    coordinates: tuple[Array, ...]
    values: Array
    stderr: Array
    centre: Estimate
    norms: Array
    cosine: float
    labels: tuple[str, ...]
    plane: TrajectoryPlane | None = None
    path: Array | None = None
    interrupted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def random_walk(self) -> Array | None:
        """What a random walk with the variance of the path would draw: shape (T, 2)."""
        if self.plane is None or self.path is None:
            return None
        drawn: Array = self.plane.lissajous + (self.path - self.plane.scores).mean(axis=0)
        return drawn

    def plot(self, ax: Axes | None = None, kind: str = "contour") -> Axes:
        """Draw the loss: a curve along a line, contours or a surface over a plane.

        Over the plane of a trajectory with its path, and dashed what a random walk of as many
        points and this variance would draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            One in three dimensions for a surface.
        kind : {"contour", "surface"}
            Of a plane.
        """
        import matplotlib.pyplot as plt

        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {_KINDS}, got {kind!r}")
        solid = kind == "surface" and len(self.coordinates) == 2
        if ax is None:
            ax = plt.subplots(subplot_kw={"projection": "3d"} if solid else {})[1]
        ax.set_xlabel(self.labels[0])
        if len(self.coordinates) == 1:
            self._draw_line(ax)
            return ax
        ax.set_ylabel(self.labels[1])
        x, y = np.meshgrid(*self.coordinates, indexing="ij")
        drawn: Any = ax
        floor: tuple[float, ...] = ()
        if solid:
            drawn.plot_surface(x, y, self.values, cmap="viridis", alpha=0.8)
            drawn.set_zlabel("loss")
            floor = (float(np.nanmin(self.values)),)
        else:
            contours = ax.contour(x, y, self.values, levels=levels(self.values, _LEVELS))
            ax.clabel(contours, fontsize=7)
            ax.plot(0.0, 0.0, "k+")
        named = ((self.random_walk, "C7--", "random walk"), (self.path, "C3.-", "path"))
        for line, style, name in named:
            if line is not None:
                heights = [np.full(len(line), low) for low in floor]
                drawn.plot(*line.T, *heights, style, markersize=3, linewidth=1, label=name)
                ax.legend(fontsize=7)
        return ax

    def _draw_line(self, ax: Axes) -> None:
        (x,) = self.coordinates
        ax.plot(x, self.values)
        low, high = self.values - self.stderr, self.values + self.stderr
        ax.fill_between(x, low, high, alpha=0.3, linewidth=0)
        ax.axvline(0.0, color="C7", linewidth=0.8)
        ax.set_ylabel("loss")


def loss_slice(
    model: nn.Module,
    data: Samples,
    loss: Loss,
    directions: Any = None,
    *,
    extent: Extent | None = None,
    points: int = 25,
    batch_size: int | None = None,
    seed: int = 0,
) -> LossSlice:
    r"""Compute the loss around a model along one or two directions.

    .. math::
        L(\alpha, \beta) = \frac{1}{N} \sum_n
            \ell\left(f_{\theta + \alpha d_1 + \beta d_2}(x_n), y_n\right)

    Parameters
    ----------
    model : torch.nn.Module
        Looked at in evaluation mode, with its running statistics, and left bit for bit as it was.
    data : Samples
        Inputs and targets.
    loss : callable
        ``loss(outputs, targets)`` of a batch, in one number; where it is the mean over samples,
        values have standard errors.
    directions : tensor or array of shape (p,) or (p, k), mappings, or TrajectoryPlane, optional
        One or two directions over the trainable parameters, as columns: those of
        :func:`random_directions`, the ``vectors`` of
        :func:`~geomprobe.information.top_eigenpairs`, differences of parameters; or a mapping, or a
        sequence of mappings, by name of the parameter. By default two random directions normalised
        by filter.
    extent : float, or a pair of numbers for each direction, optional
        How far to go to either side, in lengths of the directions; by default 1, and over the plane
        of a trajectory a little further than its path.
    points : int
        Of the grid along each direction.
    batch_size : int, optional
        Samples of a pass; by default as many as keep what is computed in the processor's caches.
    seed : int
        Of the random directions.

    Returns
    -------
    LossSlice

    Raises
    ------
    TypeError
        Data that are not Samples of tensors.
    ValueError
        No samples, targets, or trainable parameters; a loss that is not one finite number at the
        model; outputs of a sample that depend on others or on chance; directions of another shape,
        zero, or not finite; another extent; fewer than two points.

    Notes
    -----
    ``points ** k`` passes over the data. Parameters of every point are computed from those of the
    centre, so that no rounding adds up. Where the model can be traced, its batch norms are folded
    into the convolutions before them once a point, and what follows these is done in place; the
    outputs are compared with the model's own beforehand. Values then differ from plain passes by
    rounding: 1e-5 of the loss in single precision where outputs are of the size of those at the
    centre.

    References
    ----------
    Li, H., Xu, Z., Taylor, G., Studer, C. and Goldstein, T. (2018). Visualizing the loss landscape
    of neural nets. NeurIPS. Goodfellow, I., Vinyals, O. and Saxe, A. (2015). Qualitatively
    characterizing neural network optimization problems. ICLR, for lines.
    """
    if points < 2:
        raise ValueError(f"points must be at least 2, got {points}")
    plane = directions if isinstance(directions, TrajectoryPlane) else None
    with Evaluation.quietly(model):
        evaluation = Evaluation(model, data, loss, batch_size=batch_size)
        if directions is None:
            columns = random_directions(model, seed=seed)
            labels = tuple(f"random direction {place}, by filter" for place in (1, 2))
        else:
            given = directions if plane is None else plane.directions
            columns = columns_of(given, evaluation.parameters)
            labels = tuple(f"direction {place}" for place in range(1, 1 + columns.shape[1]))
        path = None
        if plane is not None:
            own = evaluation.centre.double().cpu().numpy()
            path = plane.scores + (plane.mean - own) @ plane.directions
            labels = tuple(
                f"principal component {place} ({share:.0%})"
                for place, share in enumerate(plane.shares[:2], start=1)
            )
        coordinates = _coordinates(extent, points, columns.shape[1], path)
        return _evaluated(evaluation, columns, coordinates, labels, plane, path)


def uninterrupted(found: LossSlice) -> LossSlice:
    """Return a slice for what needs the whole of it; where Ctrl-C came before, pass that on."""
    if found.interrupted:
        raise KeyboardInterrupt
    return found


def levels(values: Array, count: int) -> Array:
    """Return heights of contours: evenly spaced, or by factors where a loss spans a wide range."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if low > 0 and high > 20 * low:
        heights: Array = np.geomspace(low, high, count + 2)[1:-1]
    else:
        heights = np.linspace(low, high if high > low else low + 1.0, count + 2)[1:-1]
    return heights


def _coordinates(
    extent: Extent | None, points: int, k: int, path: Array | None
) -> tuple[Array, ...]:
    if extent is None and path is not None:
        reach = np.vstack([path, np.zeros((1, k))])
        low, high = reach.min(axis=0), reach.max(axis=0)
        margin = _MARGIN * (high - low).max()
        ends = np.stack([low - margin, high + margin], axis=1)
    elif extent is None or isinstance(extent, int | float):
        ends = np.array([[-1.0, 1.0]] * k) * (1.0 if extent is None else extent)
    else:
        ends = np.asarray(extent, dtype=float)
        ends = ends[None] if k == 1 and ends.shape == (2,) else ends
    if ends.shape != (k, 2) or not np.isfinite(ends).all() or not (ends[:, 0] < ends[:, 1]).all():
        raise ValueError(
            f"extent must be a positive number or {k} pairs (low, high), one for each direction, "
            f"got {extent}"
        )
    return tuple(np.linspace(float(low), float(high), points) for low, high in ends)


def _evaluated(
    evaluation: Evaluation,
    columns: Tensor,
    coordinates: tuple[Array, ...],
    labels: tuple[str, ...],
    plane: TrajectoryPlane | None,
    path: Array | None,
) -> LossSlice:
    n = len(evaluation.data)
    value, at_centre = evaluation.at_centre
    centre = Estimate(value, _error(at_centre), n, method="mean over samples")
    shape = tuple(map(len, coordinates))
    values, stderr = np.full(shape, np.nan), np.full(shape, np.nan)
    notes = [f"{evaluation.route}, at {values.size} points"]
    if at_centre is None:
        notes.append("the loss is not the mean of those of single samples: no standard errors")
    rows, here = columns.T.contiguous(), torch.empty_like(evaluation.centre)
    done = 0
    try:
        for index in progress_bar(np.ndindex(shape), "loss slice", values.size):
            here.copy_(evaluation.centre)
            for row, steps, place in zip(rows, coordinates, index, strict=True):
                here.add_(row, alpha=float(steps[place]))
            values[index], losses = evaluation.at(here)
            if losses is not None and at_centre is not None:
                stderr[index] = _error(losses - at_centre)
            done += 1
    except KeyboardInterrupt:
        pass  # What is done is kept.
    missing = values.size - done
    if missing:
        notes.append(f"interrupted: {missing} points were not reached")
    wild = int((~np.isfinite(values)).sum()) - missing
    if wild:
        notes.append(f"the loss is not finite at {wild} points")
    lengths = torch.linalg.vector_norm(rows.double(), dim=1)
    cosine = float("nan")
    if len(rows) == 2:
        cosine = float(rows[0].double() @ rows[1].double() / lengths.prod())
    norms = lengths.cpu().numpy()
    return LossSlice(
        coordinates,
        values,
        stderr,
        centre,
        norms,
        cosine,
        labels,
        plane,
        path,
        missing > 0,
        tuple(notes),
    )


def _error(losses: Array | None) -> float:
    """Return the standard error of a mean; NaN where it is not known."""
    if losses is None or len(losses) < 2:
        return float("nan")
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.std(losses, ddof=1) / np.sqrt(len(losses)))
