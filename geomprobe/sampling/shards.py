"""The files of a CloudStore: shards, each the clouds of one step, and the manifest that lists them.

Whatever is written is whole and on the disk before anything names it.
"""

from __future__ import annotations

import errno
import operator
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomprobe.clouds import CloudSet, PointCloud
from geomprobe.exceptions import FileFormatError
from geomprobe.storage import checksum, read_json, write_json

MANIFEST, INCOMING = "manifest.json", "incoming.safetensors"
SHARD_NAME = re.compile(r"(\d{12,})-([0-9a-f]{16})\.safetensors")
_FORMAT, _SCHEMA = "geomprobe.CloudStore", 1
_CANNOT_SYNC = {errno.EINVAL, errno.EBADF}


@dataclass(frozen=True)
class Shard:
    """What the manifest says of the clouds of one step, without reading them.

    Parameters
    ----------
    step : int
        Optimizer step.
    layers : mapping of str to (int, int)
        Shape (n, d) of the points of each layer, in the order of the layers.
    size : int
        Length of the file in bytes.
    sha256 : str
        Checksum of the file, in hexadecimal.
    """

    step: int
    layers: Mapping[str, tuple[int, int]]
    size: int
    sha256: str

    @property
    def file(self) -> str:
        """Name of the file: the step, and the start of the checksum."""
        return f"{self.step:012d}-{self.sha256[:16]}.safetensors"


def _require(condition: bool, complaint: str) -> None:
    if not condition:
        raise FileFormatError(complaint)


def require_step(step: int) -> int:
    """Return a step as an int; refuse what is none."""
    try:
        index = operator.index(step)
    except TypeError:
        raise TypeError(f"step must be an int, got {step!r}") from None
    if index < 0:
        raise ValueError(f"step must be at least 0, got {step}")
    return index


def require_clouds(clouds: Mapping[str, PointCloud] | Iterable[PointCloud], step: int) -> CloudSet:
    """Return clouds as a set; refuse those of another step."""
    clouds = clouds if isinstance(clouds, CloudSet) else CloudSet(clouds)
    for layer, cloud in clouds.items():
        if not isinstance(cloud, PointCloud):
            raise TypeError(f"{layer!r} must be a PointCloud, got {type(cloud).__name__}")
        if cloud.step not in (None, step):
            raise ValueError(f"the cloud of {layer!r} is of step {cloud.step}, not {step}")
    return clouds


def write_shard(folder: Path, step: int, clouds: CloudSet) -> Shard:
    """Bring the clouds of a step to the disk; nothing names them yet."""
    incoming = folder / INCOMING
    clouds.save(incoming)
    shard = Shard(step, _shapes(clouds), incoming.stat().st_size, checksum(incoming))
    os.replace(incoming, folder / shard.file)
    sync_names(folder)
    return shard


def read_shard(folder: Path, shard: Shard) -> CloudSet:
    """Read the clouds of a step; refuse a file that is not the one that was written."""
    file = folder / shard.file
    try:
        _require(file.stat().st_size == shard.size, f"its size is not {shard.size} bytes")
        _require(checksum(file) == shard.sha256, "its checksum is another")
        clouds = CloudSet.load(file)
        _require(_shapes(clouds) == shard.layers, "its layers are others")
        return clouds
    except FileNotFoundError:
        problem = "it is missing"
    except FileFormatError as error:
        problem = str(error)
    raise FileFormatError(
        f"{file}, the shard of step {shard.step}, is not what {MANIFEST} says: {problem}. The "
        f"other shards do not depend on it; CloudStore.rebuild({str(folder)!r}) leaves it out"
    )


def describe_shard(file: Path) -> Shard:
    """Tell of a shard what the manifest would; its name says what it has to be."""
    step, digest = file.stem.split("-")
    sha256 = checksum(file)
    _require(sha256.startswith(digest), f"{file}: its checksum is not that of its name")
    return Shard(int(step), _shapes(CloudSet.load(file)), file.stat().st_size, sha256)


def _shapes(clouds: CloudSet) -> dict[str, tuple[int, int]]:
    return {layer: (len(cloud), cloud.points.shape[1]) for layer, cloud in clouds.items()}


# --- the manifest -------------------------------------------------------------------------------


class DamagedManifestError(FileFormatError):
    """The manifest is lost or damaged; the shards do not depend on it."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(
            f"{folder / MANIFEST} {problem}. The shards beside it are whole without it: "
            f"CloudStore.rebuild({str(folder)!r}) makes it anew from them"
        )


def write_manifest(folder: Path, shards: Mapping[int, Shard]) -> None:
    """Put a new manifest in the place of the old one, in one move."""
    listed = [
        {
            "file": shard.file,
            "step": shard.step,
            "layers": shard.layers,
            "bytes": shard.size,
            "sha256": shard.sha256,
        }
        for _, shard in sorted(shards.items())
    ]
    write_json(folder / MANIFEST, {"format": _FORMAT, "schema": _SCHEMA, "shards": listed})
    sync_names(folder)


def manifest_version(folder: Path) -> tuple[int, ...]:
    """Return what changes when the manifest does; nothing where there is none."""
    try:
        facts = (folder / MANIFEST).stat()
    except FileNotFoundError:
        return ()
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def read_manifest(folder: Path) -> dict[int, Shard]:
    """Return what the manifest lists, by ascending step."""
    manifest = folder / MANIFEST
    try:
        document = read_json(manifest)
    except FileNotFoundError:
        raise DamagedManifestError(folder, "is lost") from None
    except FileFormatError as error:
        raise DamagedManifestError(folder, "is damaged") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise FileFormatError(
            f"{manifest} is not that of a CloudStore. If it lies in the place of one, move it away "
            f"and call CloudStore.rebuild({str(folder)!r})"
        )
    schema = document.get("schema")
    if isinstance(schema, int) and schema > _SCHEMA:
        raise FileFormatError(
            f"{manifest} has schema {schema}, and this geomprobe knows {_SCHEMA}: use a newer one"
        )
    try:
        if schema != _SCHEMA:
            raise ValueError(f"schema {schema!r}")
        listed = [_parse(entry) for entry in document["shards"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedManifestError(folder, f"is damaged ({error!r})") from error
    shards = {shard.step: shard for shard in listed}
    if list(shards) != sorted(shard.step for shard in listed):
        raise DamagedManifestError(folder, "is damaged (its steps do not ascend)")
    return shards


def _parse(entry: dict[str, Any]) -> Shard:
    shapes = {
        layer: (operator.index(n), operator.index(d)) for layer, (n, d) in entry["layers"].items()
    }
    size, step = operator.index(entry["bytes"]), operator.index(entry["step"])
    shard = Shard(step, shapes, size, str(entry["sha256"]))
    # Also keeps a manifest from naming a file outside of the folder.
    if shard.file != entry["file"] or not SHARD_NAME.fullmatch(shard.file):
        raise ValueError(f"file {entry['file']!r} of step {step}")
    return shard


def sync_names(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    if os.name == "nt":  # Windows cannot open a folder.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)
