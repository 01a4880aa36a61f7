"""CloudStore: the clouds of a run, kept in a folder that is whole at every moment."""

from __future__ import annotations

import errno
import hashlib
import operator
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from geomprobe.clouds import CloudSet, PointCloud
from geomprobe.exceptions import FileFormatError, GeomprobeWarning
from geomprobe.storage import PathLike, read_json, write_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FORMAT, _SCHEMA = "geomprobe.CloudStore", 1
_MANIFEST, _LOCK, _INCOMING = "manifest.json", ".lock", "incoming.safetensors"
_SHARD = re.compile(r"(\d{12,})-([0-9a-f]{16})\.safetensors")
# What write_atomically calls a file until it is whole.
_UNFINISHED = re.compile(rf"\.({re.escape(_MANIFEST)}|{re.escape(_INCOMING)})\..+")
_CANNOT_LOCK = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}
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


class CloudStore(Mapping[int, CloudSet]):
    """A folder of :class:`~geomprobe.CloudSet`, one for each observed step of a run.

    ::

        store = gp.CloudStore("runs/7/clouds")
        store.append(probe.clouds, step=120)
        store[120]["encoder.3"].points
        for step, cloud in store.layer("encoder.3"):
            ...

    It is a mapping of step to clouds, ascending. What it holds is what the folder holds now, also
    when another process has appended since.

    Parameters
    ----------
    path
        The folder. Opening reads the manifest alone; the clouds of a step are read when asked for.
    create : bool
        Make an empty store where the folder is missing or empty.

    Raises
    ------
    FileNotFoundError
        There is no store, and ``create`` is False.
    FileFormatError
        The path is a file, the folder is somebody else's, or the manifest is lost, damaged, or
        written by a newer geomprobe. Nothing was changed.

    Notes
    -----
    The clouds of a step are one *shard*, a safetensors file; ``manifest.json`` lists the shards
    with their checksums. A shard is written whole, and to the disk, before the manifest names it,
    and the manifest is replaced in one move. So a writer that is killed, or a disk that is full,
    leaves the state before the write or the state after it; what else such a writer left behind
    is no part of the store, and the next writer removes it.

    Writers lock the folder, so that several processes can append at once; readers need no lock. On
    Windows there is no such lock, and one process at a time may write.

    An append costs O(bytes of the clouds + length of the manifest).
    """

    def __init__(self, path: PathLike, *, create: bool = True) -> None:
        self.path = Path(path)
        self._version: tuple[int, ...] = ()
        self._shards: dict[int, Shard] = {}
        if not _is_store(self.path):
            if not create:
                raise FileNotFoundError(f"there is no CloudStore at {self.path}")
            _make_empty(self.path)
        _ = self.shards

    @property
    def shards(self) -> Mapping[int, Shard]:
        """Layers, shapes and sizes by step, as the manifest lists them; reads no shard."""
        version = _version(self.path)
        if version != self._version or not version:
            self._shards, self._version = _read_manifest(self.path), version
        return MappingProxyType(self._shards)

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that have clouds, ascending."""
        return tuple(self.shards)

    def __iter__(self) -> Iterator[int]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.shards)

    def __contains__(self, step: object) -> bool:
        return step in self.shards

    def __repr__(self) -> str:
        return f"CloudStore({str(self.path)!r})"

    def __getitem__(self, step: int) -> CloudSet:
        """Read the clouds of a step.

        Raises
        ------
        KeyError
            The store has none of that step.
        FileFormatError
            Their shard is missing or damaged; the message names it.
        """
        while True:
            shard = self._shard(step)
            try:
                return _read_shard(self.path, shard)
            except FileFormatError:
                if self._shard(step) == shard:
                    raise
                # A writer has put other clouds in the place of these meanwhile.

    def _shard(self, step: int) -> Shard:
        shards = self.shards
        if step in shards:
            return shards[step]
        if isinstance(step, str):
            raise KeyError(
                f"entries go by step; store.layer({step!r}) gives a layer over all steps"
            )
        there = f"{len(shards)} entries, steps {min(shards)} to {max(shards)}" if shards else "none"
        raise KeyError(f"no clouds of step {step!r} in {self.path}, which holds {there}")

    def layer(self, name: str) -> Iterator[tuple[int, PointCloud]]:
        """Follow one layer through training: pairs of step and cloud, ascending.

        Holds the clouds of one step at a time. Steps without that layer are passed over.

        Raises
        ------
        KeyError
            No step has that layer.
        """
        shards = self.shards
        steps = [step for step, shard in shards.items() if name in shard.layers]
        if not steps:
            layers = list(
                dict.fromkeys(layer for shard in shards.values() for layer in shard.layers)
            )
            raise KeyError(f"no cloud of layer {name!r} in {self.path}; there are {layers}")
        return ((step, self[step][name]) for step in steps)

    def append(
        self,
        clouds: Mapping[str, PointCloud] | Iterable[PointCloud],
        *,
        step: int,
        replace: bool = False,
    ) -> None:
        """Add the clouds of one step, wholly or not at all.

        When it returns, the clouds are on the disk.

        Parameters
        ----------
        clouds : CloudSet
            Or what :class:`~geomprobe.CloudSet` can be made of. They are kept as they are, bit for
            bit.
        step : int
            Optimizer step, in any order.
        replace : bool
            Put them in the place of clouds that the step has already.

        Raises
        ------
        ValueError
            The step has clouds already, is negative, or is not the step that the clouds name.
        OSError
            The disk is full or fails; the store is whole, as before or as after the append.
        """
        step, clouds = _require_step(step), _require_clouds(clouds, step)
        with self._writing() as shards:
            if step in shards and not replace:
                raise ValueError(
                    f"{self.path} holds clouds of step {step} already. A resumed run calls "
                    "store.truncate(after=step of its checkpoint) first; replace=True puts these "
                    "in their place"
                )
            _write_manifest(self.path, {**shards, step: _write_shard(self.path, step, clouds)})

    def truncate(self, *, after: int) -> int:
        """Forget all steps later than the given one, and return how many they were.

        For a run that resumes from a checkpoint, and will observe those steps again.
        """
        after = operator.index(after)
        with self._writing() as shards:
            kept = {step: shard for step, shard in shards.items() if step <= after}
            if len(kept) < len(shards):
                _write_manifest(self.path, kept)
        return len(shards) - len(kept)

    def verify(self) -> dict[int, str]:
        """Read every shard, and return what is wrong, by step; empty where all is well."""
        problems = {}
        for step in self.steps:
            try:
                self[step]
            except (FileFormatError, OSError) as error:
                problems[step] = str(error)
        return problems

    @classmethod
    def rebuild(cls, path: PathLike) -> CloudStore:
        """Make the manifest anew from the shards, and return the store.

        For a manifest that is lost or damaged, and for a store that has lost shards. A shard tells
        its step and its checksum by its name; one that is not what its name says is set aside as
        ``*.damaged``, with a warning. Where two shards are of one step the newer counts.

        Raises
        ------
        FileFormatError
            There are no shards, or the manifest is somebody else's or that of a newer geomprobe.
            Nothing was changed.
        """
        folder = Path(path)
        if not any(_SHARD.fullmatch(name) for name in _listed(folder)):
            raise FileFormatError(
                f"{folder} holds no shards, so there is nothing to rebuild; a new store needs an "
                "empty folder"
            )
        with suppress(_DamagedManifestError):
            _read_manifest(folder)
        with _locked(folder):
            files = [folder / name for name in _listed(folder) if _SHARD.fullmatch(name)]
            shards, damaged = {}, []
            for file in sorted(files, key=lambda file: file.stat().st_mtime_ns):
                try:
                    shard = _describe(file)
                    shards[shard.step] = shard
                except FileFormatError as error:
                    damaged.append(str(error))
                    file.rename(file.with_name(file.name + ".damaged"))
            _write_manifest(folder, shards)
        if damaged:
            message = f"set aside as *.damaged: {'; '.join(damaged)}"
            warnings.warn(message, GeomprobeWarning, stacklevel=2)
        return cls(folder, create=False)

    @contextmanager
    def _writing(self) -> Iterator[dict[int, Shard]]:
        """Keep other writers out, give what the manifest lists, and leave nothing unlisted."""
        with _locked(self.path):
            shards = _sweep(self.path)
            try:
                yield shards
            finally:
                _sweep(self.path)


# --- the folder ---------------------------------------------------------------------------------


def _listed(folder: Path) -> list[str]:
    if folder.exists() and not folder.is_dir():
        raise FileFormatError(f"{folder} is a file, and a CloudStore is a folder")
    return sorted(os.listdir(folder)) if folder.exists() else []


def _is_store(folder: Path) -> bool:
    """Whether a folder is a store, rather than vacant; what is neither is refused."""
    names = [name for name in _listed(folder) if name != _LOCK and not _UNFINISHED.fullmatch(name)]
    if (folder / _MANIFEST).exists():  # Asked after listing, for another process may just make it.
        return True
    if any(_SHARD.fullmatch(name) for name in names):
        raise _DamagedManifestError(folder, "is lost")
    if names:
        raise FileFormatError(
            f"{folder} is no CloudStore: it has no {_MANIFEST}, but other files, such as "
            f"{names[0]!r}. Give a new or an empty folder"
        )
    return False


def _make_empty(folder: Path) -> None:
    """Make a store; of several processes that do, the first one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if not (folder / _MANIFEST).exists():
            _write_manifest(folder, {})
    _sync(folder.parent)


def _sweep(folder: Path) -> dict[int, Shard]:
    """Remove what a dead or failed writer left; return the shards that the manifest lists."""
    shards = _read_manifest(folder)
    listed = {shard.file for shard in shards.values()}
    for name in _listed(folder):
        own = name == _INCOMING or _SHARD.fullmatch(name) or _UNFINISHED.fullmatch(name)
        if own and name not in listed:
            with suppress(OSError):  # A reader on Windows may have it open; the next writer tries.
                (folder / name).unlink()
    return shards


def _sync(folder: Path) -> None:
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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of a folder; the kernel lifts the lock of a process that dies."""
    with open(folder / _LOCK, "ab") as file:
        held = _lock(file, folder)
        try:
            yield
        finally:
            if held:  # Closing does not do: a forked child may have the file open too.
                fcntl.flock(file, fcntl.LOCK_UN)


def _lock(file: IO[bytes], folder: Path) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise
        message = f"the file system of {folder} has no locks: let one process at a time write there"
        warnings.warn(message, GeomprobeWarning, stacklevel=2)
        return False
    return True


# --- shards -------------------------------------------------------------------------------------


def _require(condition: bool, complaint: str) -> None:
    if not condition:
        raise FileFormatError(complaint)


def _require_step(step: int) -> int:
    try:
        index = operator.index(step)
    except TypeError:
        raise TypeError(f"step must be an int, got {step!r}") from None
    if index < 0:
        raise ValueError(f"step must be at least 0, got {step}")
    return index


def _require_clouds(clouds: Mapping[str, PointCloud] | Iterable[PointCloud], step: int) -> CloudSet:
    clouds = clouds if isinstance(clouds, CloudSet) else CloudSet(clouds)
    for layer, cloud in clouds.items():
        if not isinstance(cloud, PointCloud):
            raise TypeError(f"{layer!r} must be a PointCloud, got {type(cloud).__name__}")
        if cloud.step not in (None, step):
            raise ValueError(f"the cloud of {layer!r} is of step {cloud.step}, not {step}")
    return clouds


def _write_shard(folder: Path, step: int, clouds: CloudSet) -> Shard:
    incoming = folder / _INCOMING
    clouds.save(incoming)
    shard = Shard(step, _shapes(clouds), incoming.stat().st_size, _sha256(incoming))
    os.replace(incoming, folder / shard.file)
    _sync(folder)
    return shard


def _read_shard(folder: Path, shard: Shard) -> CloudSet:
    file = folder / shard.file
    try:
        _require(file.stat().st_size == shard.size, f"its size is not {shard.size} bytes")
        _require(_sha256(file) == shard.sha256, "its checksum is another")
        clouds = CloudSet.load(file)
        _require(_shapes(clouds) == shard.layers, "its layers are others")
        return clouds
    except FileNotFoundError:
        problem = "it is missing"
    except FileFormatError as error:
        problem = str(error)
    raise FileFormatError(
        f"{file}, the shard of step {shard.step}, is not what {_MANIFEST} says: {problem}. The "
        f"other shards do not depend on it; CloudStore.rebuild({str(folder)!r}) leaves it out"
    )


def _describe(file: Path) -> Shard:
    """Tell of a shard what the manifest would; its name says what it has to be."""
    step, digest = file.stem.split("-")
    sha256 = _sha256(file)
    _require(sha256.startswith(digest), f"{file}: its checksum is not that of its name")
    return Shard(int(step), _shapes(CloudSet.load(file)), file.stat().st_size, sha256)


def _shapes(clouds: CloudSet) -> dict[str, tuple[int, int]]:
    return {layer: (len(cloud), cloud.points.shape[1]) for layer, cloud in clouds.items()}


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while chunk := content.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


# --- the manifest -------------------------------------------------------------------------------


class _DamagedManifestError(FileFormatError):
    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(
            f"{folder / _MANIFEST} {problem}. The shards beside it are whole without it: "
            f"CloudStore.rebuild({str(folder)!r}) makes it anew from them"
        )


def _write_manifest(folder: Path, shards: Mapping[int, Shard]) -> None:
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
    write_json(folder / _MANIFEST, {"format": _FORMAT, "schema": _SCHEMA, "shards": listed})
    _sync(folder)


def _version(folder: Path) -> tuple[int, ...]:
    """Return what changes when the manifest does; nothing where there is none."""
    try:
        facts = (folder / _MANIFEST).stat()
    except FileNotFoundError:
        return ()
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def _read_manifest(folder: Path) -> dict[int, Shard]:
    manifest = folder / _MANIFEST
    try:
        document = read_json(manifest)
    except FileNotFoundError:
        raise _DamagedManifestError(folder, "is lost") from None
    except FileFormatError as error:
        raise _DamagedManifestError(folder, "is damaged") from error
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
        raise _DamagedManifestError(folder, f"is damaged ({error!r})") from error
    shards = {shard.step: shard for shard in listed}
    if list(shards) != sorted(shard.step for shard in listed):
        raise _DamagedManifestError(folder, "is damaged (its steps do not ascend)")
    return shards


def _parse(entry: dict[str, Any]) -> Shard:
    shapes = {
        layer: (operator.index(n), operator.index(d)) for layer, (n, d) in entry["layers"].items()
    }
    size, step = operator.index(entry["bytes"]), operator.index(entry["step"])
    shard = Shard(step, shapes, size, str(entry["sha256"]))
    # Also keeps a manifest from naming a file outside of the folder.
    if shard.file != entry["file"] or not _SHARD.fullmatch(shard.file):
        raise ValueError(f"file {entry['file']!r} of step {step}")
    return shard
