"""PointCloud, CloudSet and Trajectory: the nouns that flow through every room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from geomprobe.storage import Array, PathLike, read_arrays, write_arrays
from geomprobe.values import ByValue


def _rows(values: Any, length: int, name: str) -> Array:
    array = np.asarray(values)
    if array.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), one entry a row, got {array.shape}")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers, got dtype {array.dtype}; give classes by index")
    return array


@dataclass(frozen=True, eq=False)
class PointCloud(ByValue):
    """Points in R^d, and where they come from.

    Parameters
    ----------
    points : array of shape (n, d)
        One point a row; stored as float32. Rows may hold NaN or infinity: see :meth:`finite`.
    labels : array of shape (n,), optional
        Class or target of each point.
    sample_ids : int array of shape (n,), optional
        Which sample of the stream each point belongs to. Clouds of two layers with the same ids
        are aligned row by row.
    layer : str
        The layer whose output this is.
    step : int, optional
        Optimizer step at which the cloud was taken.
    meta : mapping
        How the points were made (pooling, projection, source dtype, ...); JSON types only.
    """

    points: Array
    labels: Array | None = None
    sample_ids: Array | None = None
    layer: str = ""
    step: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points = np.asarray(self.points)
        if points.ndim != 2 or points.dtype.kind not in "fiub":
            raise ValueError(
                "points must be a real array of shape (n, d), "
                f"got shape {points.shape} and dtype {points.dtype}"
            )
        object.__setattr__(self, "points", np.ascontiguousarray(points, dtype=np.float32))
        for name in ("labels", "sample_ids"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, _rows(values, len(points), name))

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: Any) -> PointCloud:
        """Return the cloud of the given rows (indices or a mask)."""
        return replace(
            self,
            points=self.points[rows],
            labels=None if self.labels is None else self.labels[rows],
            sample_ids=None if self.sample_ids is None else self.sample_ids[rows],
        )

    def finite(self) -> tuple[PointCloud, int]:
        """Return the cloud of the finite points, and how many points were left out."""
        keep = np.isfinite(self.points).all(axis=1)
        dropped = len(self) - int(keep.sum())
        return (self.take(keep) if dropped else self), dropped

    def _pack(self, prefix: str = "") -> tuple[dict[str, Array], dict[str, Any]]:
        arrays = {prefix + "points": self.points}
        for name in ("labels", "sample_ids"):
            if getattr(self, name) is not None:
                arrays[prefix + name] = getattr(self, name)
        return arrays, {"layer": self.layer, "step": self.step, "meta": dict(self.meta)}

    @classmethod
    def _unpack(
        cls, arrays: Mapping[str, Array], header: Mapping[str, Any], prefix: str = ""
    ) -> PointCloud:
        labels, ids = arrays.get(prefix + "labels"), arrays.get(prefix + "sample_ids")
        return cls(arrays[prefix + "points"], labels, ids, **header)

    def save(self, path: PathLike) -> None:
        """Write the cloud as one safetensors file."""
        write_arrays(path, "PointCloud", *self._pack())

    @classmethod
    def load(cls, path: PathLike) -> PointCloud:
        """Read a cloud that :meth:`save` wrote."""
        return cls._unpack(*read_arrays(path, "PointCloud"))


class CloudSet(Mapping[str, PointCloud]):
    """Clouds by layer name, in the order of the layers.

    Parameters
    ----------
    clouds : mapping of str to PointCloud, or iterable of PointCloud
        An iterable is keyed by each cloud's ``layer``.
    """

    def __init__(self, clouds: Mapping[str, PointCloud] | Iterable[PointCloud] = ()) -> None:
        self._clouds: dict[str, PointCloud]
        if isinstance(clouds, Mapping):
            self._clouds = dict(clouds)
        else:
            listed = list(clouds)
            self._clouds = {cloud.layer: cloud for cloud in listed}
            if len(self._clouds) != len(listed):
                raise ValueError("two clouds name the same layer; pass a mapping of name to cloud")

    def __getitem__(self, layer: str) -> PointCloud:
        try:
            return self._clouds[layer]
        except KeyError:
            raise KeyError(f"no cloud of layer {layer!r}; there are {list(self)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._clouds)

    def __len__(self) -> int:
        return len(self._clouds)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {cloud.points.shape}" for name, cloud in self.items())
        return f"CloudSet({{{shapes}}})"

    def save(self, path: PathLike) -> None:
        """Write all clouds as one safetensors file."""
        arrays: dict[str, Array] = {}
        header = []
        for index, (name, cloud) in enumerate(self.items()):
            packed, facts = cloud._pack(f"{index}/")
            arrays |= packed
            header.append([name, facts])
        write_arrays(path, "CloudSet", arrays, header)

    @classmethod
    def load(cls, path: PathLike) -> CloudSet:
        """Read a set that :meth:`save` wrote."""
        arrays, header = read_arrays(path, "CloudSet")
        return cls(
            {
                name: PointCloud._unpack(arrays, facts, f"{index}/")
                for index, (name, facts) in enumerate(header)
            }
        )


@dataclass(frozen=True, eq=False)
class Trajectory(ByValue):
    """The path of the parameters through training.

    Parameters
    ----------
    points : array of shape (T, k)
        Parameters, or their projection to k dimensions; float dtypes are kept.
    steps : int array of shape (T,)
        Optimizer step of each point.
    losses : array of shape (T,)
        Loss reported at each point; NaN where none was.
    meta : mapping
        Projection, seed, true number of parameters, ...; JSON types only.
    sample_losses : array of shape (T, n), optional
        Loss of each of n fixed samples at each point.
    sample_correct : bool array of shape (T, n), optional
        Whether each of them was classified rightly.
    """

    points: Array
    steps: Array
    losses: Array
    meta: Mapping[str, Any] = field(default_factory=dict)
    sample_losses: Array | None = None
    sample_correct: Array | None = None

    def __post_init__(self) -> None:
        points = np.asarray(self.points)
        if points.ndim != 2 or points.dtype.kind != "f":
            raise ValueError(
                f"points must be a float array of shape (T, k), got shape {points.shape} "
                f"and dtype {points.dtype}"
            )
        object.__setattr__(self, "points", np.ascontiguousarray(points))
        for name, dtype in (("steps", np.int64), ("losses", np.float64)):
            values = _rows(getattr(self, name), len(points), name).astype(dtype)
            object.__setattr__(self, name, values)
        for name, kinds, what in (
            ("sample_losses", "f", "floats"),
            ("sample_correct", "b", "booleans"),
        ):
            values = getattr(self, name)
            if values is None:
                continue
            values = np.ascontiguousarray(values)
            if values.ndim != 2 or len(values) != len(points) or values.dtype.kind not in kinds:
                raise ValueError(
                    f"{name} must be {what} of shape ({len(points)}, n), one row a point, got "
                    f"shape {values.shape} and dtype {values.dtype}"
                )
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.points)

    def save(self, path: PathLike) -> None:
        """Write the trajectory as one safetensors file."""
        arrays = {"points": self.points, "steps": self.steps, "losses": self.losses}
        for name in ("sample_losses", "sample_correct"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        write_arrays(path, "Trajectory", arrays, dict(self.meta))

    @classmethod
    def load(cls, path: PathLike) -> Trajectory:
        """Read a trajectory that :meth:`save` wrote."""
        arrays, meta = read_arrays(path, "Trajectory")
        return cls(**arrays, meta=meta)
