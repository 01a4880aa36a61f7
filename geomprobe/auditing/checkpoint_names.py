"""What checkpoints are called, so that each has a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path

from geomprobe.storage import PathLike


def named_checkpoints(checkpoints: Mapping[str, PathLike] | Iterable[PathLike]) -> dict[str, Path]:
    """Return absolute paths by name: as given, or the shortest names that differ.

    Raises
    ------
    ValueError, TypeError
        There are none, it is one path, or names are not different or not fit for folders.
    """
    if isinstance(checkpoints, str | os.PathLike):
        raise TypeError(f"checkpoints must be several paths, got the one path {checkpoints}")
    if isinstance(checkpoints, Mapping):
        names, paths = list(checkpoints), [Path(path) for path in checkpoints.values()]
        if wrong := [name for name in names if not isinstance(name, str)]:
            raise TypeError(
                f"the names of the checkpoints must be str, got the {type(wrong[0]).__name__} "
                f"{wrong[0]!r}"
            )
    else:
        paths = [Path(path) for path in checkpoints]
        names = short_names(paths)
    if not paths:
        raise ValueError("there are no checkpoints")
    bad = [name for name in names if not name or name.startswith(".") or {*name} & {*"/\\\0"}]
    if bad or len({*names}) < len(names):
        raise ValueError(
            f"the names of the checkpoints are not fit for folders, or not different: {names}; "
            "give a mapping of names to paths"
        )
    return {name: path.absolute() for name, path in zip(names, paths, strict=True)}


def short_names(paths: list[Path]) -> list[str]:
    """Return the names of files without their endings, or the parts in which paths differ."""
    if len({path.stem for path in paths}) == len(paths):
        return [path.stem for path in paths]
    parts = [path.absolute().with_suffix("").parts for path in paths]
    first, last = _shared(parts), _shared([one[::-1] for one in parts])
    names = ["-".join(one[first : len(one) - last]) for one in parts]
    return names if all(names) else ["-".join(one[first:]) for one in parts]


def _shared(parts: list[tuple[str, ...]]) -> int:
    """Return with how many of the same parts all begin."""
    return sum(1 for _ in takewhile(lambda column: len({*column}) == 1, zip(*parts, strict=False)))
