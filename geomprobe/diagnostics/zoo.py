"""A family of trained models: what was chosen for each, its gap, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from geomprobe.storage import Array
from geomprobe.values import ByValue

if TYPE_CHECKING:
    import pandas as pd

_FEWEST = 4


@dataclass(frozen=True, eq=False)
class ModelZoo(ByValue):
    """Trained models of one family, a row each.

    Models with equal hyper-parameters are the seeds of one *cell*. Every score is one of cells:
    a diagnostic and a gap are averaged over the seeds first.

    Parameters
    ----------
    levels : ndarray of int, shape (n_models, n_axes)
        Which value of each hyper-parameter a model has, as an index.
    axes : tuple of str
        Names of the hyper-parameters.
    gap : ndarray, shape (n_models,)
        Generalization gap, for example test error minus training error.
    diagnostics : mapping of str to ndarray, shape (n_models,)
        What is to be scored. The sign is declared beforehand: larger means a larger gap. NaN or
        infinite where a diagnostic failed.
    halves : ndarray, shape (n_models, 2), optional
        The gap measured on two disjoint halves of the test set.

    Raises
    ------
    ValueError
        For gaps that are not finite, for fewer than 4 cells, for an axis of one value, or for
        arrays whose lengths differ.
    """

    levels: Array
    axes: tuple[str, ...]
    gap: Array
    diagnostics: Mapping[str, Array] = field(default_factory=dict)
    halves: Array | None = None

    def __post_init__(self) -> None:
        n = len(self.gap)
        if self.levels.shape != (n, len(self.axes)) or not self.axes:
            raise ValueError(
                f"levels must have a row a model and a column a hyper-parameter, "
                f"({n}, {len(self.axes)}), got {self.levels.shape}; name one axis at least"
            )
        if not np.isfinite(self.gap).all():
            raise ValueError(
                f"{int((~np.isfinite(self.gap)).sum())} of {n} gaps are not finite: leave these "
                "models out, and say how many there were"
            )
        for name, values in self.diagnostics.items():
            if values.shape != (n,):
                raise ValueError(f"diagnostic {name!r} has shape {values.shape}, expected ({n},)")
        if self.halves is not None and self.halves.shape != (n, 2):
            raise ValueError(f"halves must have shape ({n}, 2), got {self.halves.shape}")
        for axis, column in zip(self.axes, self.levels.T, strict=True):
            if len(np.unique(column)) < 2:
                raise ValueError(f"axis {axis!r} has one value only: leave it out")
        if self.n_cells < _FEWEST:
            raise ValueError(f"{self.n_cells} cells cannot be ranked: give {_FEWEST} at least")

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        axes: Sequence[str],
        gap: str = "gap",
        diagnostics: Sequence[str] | None = None,
        halves: tuple[str, str] | None = None,
    ) -> ModelZoo:
        """Take a zoo from a table with a row a model.

        Parameters
        ----------
        frame : DataFrame
            One row a trained model; several rows of equal hyper-parameters are seeds.
        axes : sequence of str
            Columns of hyper-parameters.
        gap : str
            Column of the gap.
        diagnostics : sequence of str, optional
            Columns to score; by default every other column of numbers but ``seed``.
        halves : pair of str, optional
            Columns of the gap on two disjoint halves of the test set.

        Raises
        ------
        ValueError
            For a column that is not there, or as the class does.
        """
        named = [*axes, gap, *(diagnostics or ()), *(halves or ())]
        missing = [name for name in named if name not in frame.columns]
        if missing:
            raise ValueError(f"the table has no column {missing}; it has {list(frame.columns)}")
        if diagnostics is None:
            others = frame.drop(columns=[*axes, gap, *(halves or ()), "seed"], errors="ignore")
            diagnostics = list(others.select_dtypes("number").columns)
        levels = [np.unique(_plain(frame[axis]), return_inverse=True)[1] for axis in axes]
        return cls(
            levels=np.stack(levels, axis=1).astype(np.int64) if levels else np.empty((0, 0), int),
            axes=tuple(axes),
            gap=frame[gap].to_numpy(float),
            diagnostics={name: frame[name].to_numpy(float) for name in diagnostics},
            halves=None if halves is None else frame[list(halves)].to_numpy(float),
        )

    def __len__(self) -> int:
        return len(self.gap)

    def __repr__(self) -> str:
        axes = ", ".join(self.axes)
        return (
            f"ModelZoo({len(self)} models in {self.n_cells} cells of {axes}; "
            f"{len(self.diagnostics)} diagnostics)"
        )

    @cached_property
    def cell(self) -> Array:
        """Index of each model's cell, shape (n_models,)."""
        return np.unique(self.levels, axis=0, return_inverse=True)[1].reshape(-1)

    @property
    def n_cells(self) -> int:
        """How many hyper-parameter settings there are."""
        return int(self.cell.max()) + 1 if len(self) else 0

    @cached_property
    def cells(self) -> ModelZoo:
        """The zoo of one row a cell, ordered by level: means over seeds with finite numbers."""
        first = np.unique(self.cell, return_index=True)[1]
        return ModelZoo(
            levels=self.levels[first],
            axes=self.axes,
            gap=self._mean(self.gap),
            diagnostics={name: self._mean(values) for name, values in self.diagnostics.items()},
            halves=None
            if self.halves is None
            else np.stack([self._mean(half) for half in self.halves.T], axis=1),
        )

    def where(self, kept: Array) -> ModelZoo:
        """Return the zoo of the models that are kept; an axis left with one value goes with them.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_models,)
        """
        varied = [len(np.unique(column)) > 1 for column in self.levels[kept].T]
        return ModelZoo(
            levels=self.levels[kept][:, varied],
            axes=tuple(axis for axis, stays in zip(self.axes, varied, strict=True) if stays),
            gap=self.gap[kept],
            diagnostics={name: values[kept] for name, values in self.diagnostics.items()},
            halves=None if self.halves is None else self.halves[kept],
        )

    def _mean(self, values: Array) -> Array:
        known = np.isfinite(values)
        count = np.bincount(self.cell[known], minlength=self.n_cells)
        total = np.bincount(self.cell[known], values[known], minlength=self.n_cells)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _plain(column: pd.Series[Any]) -> Array:
    """Values that can be sorted: numbers as they are, everything else as text."""
    return np.asarray(column if column.dtype.kind in "biuf" else column.astype(str))
