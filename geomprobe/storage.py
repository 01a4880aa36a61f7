"""What goes to disk: whole files or none, strict JSON, and arrays that nothing has to unpickle."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from geomprobe.exceptions import FileFormatError

Array = np.ndarray[Any, Any]
PathLike = str | os.PathLike[str]

_HEADER = "geomprobe"
_LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format itself


@contextmanager
def writing_atomically(path: PathLike) -> Iterator[Path]:
    """Give a path to write to; on exit that file is on the disk, in the place of the target.

    Missing parent folders are made. A process that dies half-way leaves the previous file, and
    beside it a folder that is called as the file, with a dot before and something after it. An
    exception leaves the previous file and nothing else.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A folder, for what writes there may have unfinished files of its own, as safetensors has.
    folder = tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.")
    unfinished = Path(folder, target.name)
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o666 & ~_umask())
        os.replace(unfinished, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_atomically(path: PathLike, content: bytes) -> Path:
    """Write a file that is there whole or not at all, and return its path."""
    with writing_atomically(path) as unfinished:
        unfinished.write_bytes(content)
    return Path(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# --- JSON ---------------------------------------------------------------------------------------


def encode(value: Any) -> Any:
    """Turn a number, array, mapping or sequence into strict JSON types.

    NaN becomes ``null`` and the infinities become strings, since JSON has neither. Arrays become
    ``{"dtype", "shape", "data"}``, and :func:`decode` gives them back bit for bit.
    """
    if isinstance(value, np.ndarray):
        data = [encode(entry) for entry in value.ravel().tolist()]
        return {"dtype": value.dtype.str, "shape": list(value.shape), "data": data}
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): encode(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [encode(entry) for entry in value]
    return value


def decode_number(value: Any) -> float:
    """Give back a number that :func:`encode` wrote."""
    return math.nan if value is None else float(value)


def decode_array(value: Mapping[str, Any]) -> Array:
    """Give back an array that :func:`encode` wrote."""
    dtype = np.dtype(value["dtype"])
    data = [decode_number(entry) for entry in value["data"]] if dtype.kind == "f" else value["data"]
    array: Array = np.array(data, dtype=dtype).reshape(value["shape"])
    return array


def write_json(path: PathLike, document: Any) -> Path:
    """Write a document of JSON types as strict JSON (never ``NaN``), atomically."""
    text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return write_atomically(path, text.encode())


def checksum(path: PathLike) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits; it is never in memory as a whole."""
    digest = hashlib.sha256()
    with open(path, "rb") as content:
        while chunk := content.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def read_json(path: PathLike) -> Any:
    """Read a JSON file; anything else raises :class:`FileFormatError`."""
    try:
        return json.loads(Path(path).read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} is not a JSON file: {error}") from error


# --- safetensors --------------------------------------------------------------------------------


def write_arrays(path: PathLike, kind: str, arrays: Mapping[str, Array], header: Any) -> Path:
    """Write named arrays and a header of JSON types as one safetensors file.

    Parameters
    ----------
    path
        Where to write.
    kind
        What the file holds; :func:`read_arrays` must be asked for the same.
    arrays
        Numeric or boolean arrays by name.
    header
        Anything that JSON can hold.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    metadata = {_HEADER: json.dumps({"kind": kind, "header": header}, allow_nan=False)}
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with writing_atomically(path) as unfinished:
        try:
            save_file(contiguous, unfinished, metadata=metadata)
        except SafetensorError as error:  # What it says of a full disk.
            raise OSError(f"cannot write {path}: {error}") from error
    return Path(path)


def read_arrays(path: PathLike, kind: str) -> tuple[dict[str, Array], Any]:
    """Read what :func:`write_arrays` wrote: the arrays by name, and the header.

    Raises
    ------
    FileFormatError
        The file is truncated, is no safetensors file, or holds another kind of thing.
    """
    from safetensors import SafetensorError, safe_open

    require_safetensors(path)
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise FileFormatError(f"{path} is damaged or truncated: {error}") from error
    try:
        document = json.loads(metadata[_HEADER])
        found, header = document["kind"], document["header"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise FileFormatError(
            f"{path} is a safetensors file, but geomprobe did not write it; expected a {kind}"
        ) from error
    if found != kind:
        raise FileFormatError(f"{path} holds a {found}, expected a {kind}")
    return arrays, header


def format_of(path: PathLike) -> str:
    """Return what the first bytes of a file say it is: "safetensors", "pickle" or "unknown"."""
    with open(path, "rb") as file:
        start = file.read(9)
    # The length of the header, then the header itself: it may begin with the bytes of a pickle.
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        return "safetensors"
    return "pickle" if start[:2] == b"PK" or start[:1] == b"\x80" else "unknown"


def require_safetensors(path: PathLike) -> None:
    """Refuse a file that is not safetensors before anything opens it.

    Raises
    ------
    FileFormatError
        The file is a pickle, a ``torch.save`` archive, or too short to be a safetensors file. The
        message names the safe alternative.
    """
    kind = format_of(path)
    if kind == "safetensors":
        return
    if kind == "pickle":
        raise FileFormatError(
            f"{path} is a pickle (a torch.save file), and opening a pickle can run any code. "
            "Where you trust it, convert it:\n"
            "    import torch, safetensors.torch\n"
            f'    state = torch.load("{path}", weights_only=True, map_location="cpu")\n'
            '    state = state.get("state_dict", state)  # Of a checkpoint.\n'
            "    state = {name: w.contiguous().clone() for name, w in state.items()}\n"
            '    safetensors.torch.save_file(state, "weights.safetensors")'
        )
    raise FileFormatError(f"{path} is not a safetensors file, or it is truncated")
