"""Data for an audit from a file of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geomprobe.exceptions import FileFormatError
from geomprobe.storage import PathLike, require_safetensors

#: Files that can be read.
SUFFIXES = (".npz", ".safetensors")
_INPUTS = ("inputs", "input", "x", "X", "data", "images")
_TARGETS = ("targets", "target", "labels", "label", "y", "Y")


def read_data(path: PathLike) -> Any:
    """Read inputs, or ``(inputs, targets)``, from a ``.npz`` or ``.safetensors`` file.

    The inputs are called ``inputs``, ``x``, ``data`` or ``images``, or are the only array; the
    targets are called ``targets``, ``labels`` or ``y``. Nothing is unpickled.

    Raises
    ------
    FileFormatError
        The file is damaged, or it is not plain which array is what.
    """
    arrays = _safetensors(path) if Path(path).suffix == ".safetensors" else _npz(path)
    inputs = [name for name in _INPUTS if name in arrays]
    targets = [name for name in _TARGETS if name in arrays]
    if not inputs and len(arrays) == 1:
        inputs, targets = list(arrays), []
    if len(inputs) != 1 or len(targets) > 1 or len(inputs) + len(targets) < len(arrays):
        raise FileFormatError(
            f"{path} holds the arrays {sorted(arrays)}: call the inputs 'x' and the targets 'y', "
            "and leave others out"
        )
    return (arrays[inputs[0]], arrays[targets[0]]) if targets else arrays[inputs[0]]


def _npz(path: PathLike) -> dict[str, Any]:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path} is no .npz file of numbers: {error}") from error


def _safetensors(path: PathLike) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    require_safetensors(path)
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise FileFormatError(f"{path} is damaged or truncated: {error}") from error
