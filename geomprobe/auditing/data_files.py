"""Data for an audit by text: a file of arrays, a folder of images, or a callable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geomprobe.auditing.image_files import ImageFolder
from geomprobe.exceptions import FileFormatError
from geomprobe.named_objects import made_by
from geomprobe.storage import PathLike, require_safetensors

#: Files that can be read.
SUFFIXES = (".npz", ".safetensors")
_INPUTS = ("inputs", "input", "x", "X", "data", "images")
_TARGETS = ("targets", "target", "labels", "label", "y", "Y")


def named_data(spec: str, image_size: tuple[int, int] | None = None) -> Any:
    """Return the data that a text names.

    Parameters
    ----------
    spec : str
        A ``.npz`` or ``.safetensors`` file, a folder with a subfolder of images for each class, or
        ``MODULE:CALLABLE``.
    image_size : (int, int), optional
        Height and width to which images of a folder are brought.

    Raises
    ------
    ValueError
        There is no such thing, or it cannot be read; or a size is given for what is no folder.
    """
    if Path(spec).is_dir():
        return ImageFolder.read(spec, image_size)
    if image_size is not None:
        raise ValueError(f"an image size is for a folder of images, and {spec} is none")
    return read_data(spec) if spec.endswith(SUFFIXES) else made_by(spec)


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
