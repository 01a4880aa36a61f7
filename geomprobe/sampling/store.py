"""CloudStore: the clouds of a run, kept in a folder that is whole at every moment."""

from __future__ import annotations

import errno
import operator
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO

from geomprobe.clouds import CloudSet, PointCloud
from geomprobe.exceptions import FileFormatError, GeomprobeWarning
from geomprobe.sampling.shards import (
    INCOMING,
    MANIFEST,
    SHARD_NAME,
    DamagedManifestError,
    Shard,
    describe_shard,
    manifest_version,
    read_manifest,
    read_shard,
    require_clouds,
    require_step,
    sync_names,
    write_manifest,
    write_shard,
)
from geomprobe.storage import PathLike

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCK = ".lock"
# The folders of what is not whole yet.
_UNFINISHED = re.compile(rf"\.({re.escape(MANIFEST)}|{re.escape(INCOMING)})\..+")
_CANNOT_LOCK = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}


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
        version = manifest_version(self.path)
        if version != self._version or not version:
            self._shards, self._version = read_manifest(self.path), version
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
                return read_shard(self.path, shard)
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
        step, clouds = require_step(step), require_clouds(clouds, step)
        with self._writing() as shards:
            if step in shards and not replace:
                raise ValueError(
                    f"{self.path} holds clouds of step {step} already. A resumed run calls "
                    "store.truncate(after=step of its checkpoint) first; replace=True puts these "
                    "in their place"
                )
            write_manifest(self.path, {**shards, step: write_shard(self.path, step, clouds)})

    def truncate(self, *, after: int) -> int:
        """Forget all steps later than the given one, and return how many they were.

        For a run that resumes from a checkpoint, and will observe those steps again.
        """
        after = operator.index(after)
        with self._writing() as shards:
            kept = {step: shard for step, shard in shards.items() if step <= after}
            if len(kept) < len(shards):
                write_manifest(self.path, kept)
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
        if not any(SHARD_NAME.fullmatch(name) for name in _listed(folder)):
            raise FileFormatError(
                f"{folder} holds no shards, so there is nothing to rebuild; a new store needs an "
                "empty folder"
            )
        with suppress(DamagedManifestError):
            read_manifest(folder)
        with _locked(folder):
            files = [folder / name for name in _listed(folder) if SHARD_NAME.fullmatch(name)]
            shards, damaged = {}, []
            for file in sorted(files, key=lambda file: file.stat().st_mtime_ns):
                try:
                    shard = describe_shard(file)
                    shards[shard.step] = shard
                except FileFormatError as error:
                    damaged.append(str(error))
                    file.rename(file.with_name(file.name + ".damaged"))
            write_manifest(folder, shards)
        if damaged:
            message = f"set aside as *.damaged: {'; '.join(damaged)}"
            warnings.warn(message, GeomprobeWarning, stacklevel=2)
        return cls(folder, create=False)

    @contextmanager
    def _writing(self) -> Iterator[dict[int, Shard]]:
        """Keep other writers out, give what the manifest lists, and leave nothing unlisted."""
        with _locked(self.path):
            try:
                yield read_manifest(self.path)
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
    if (folder / MANIFEST).exists():  # Asked after listing, for another process may just make it.
        return True
    if any(SHARD_NAME.fullmatch(name) for name in names):
        raise DamagedManifestError(folder, "is lost")
    if names:
        raise FileFormatError(
            f"{folder} is no CloudStore: it has no {MANIFEST}, but other files, such as "
            f"{names[0]!r}. Give a new or an empty folder"
        )
    return False


def _make_empty(folder: Path) -> None:
    """Make a store; of several processes that do, the first one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if not (folder / MANIFEST).exists():
            write_manifest(folder, {})
    sync_names(folder.parent)


def _sweep(folder: Path) -> None:
    """Remove what a writer left, whether it has died, failed, or replaced a shard."""
    listed = {shard.file for shard in read_manifest(folder).values()}
    for name in _listed(folder):
        own = name == INCOMING or SHARD_NAME.fullmatch(name) or _UNFINISHED.fullmatch(name)
        if own and name not in listed:
            with suppress(OSError):  # A reader on Windows may have it open; the next writer tries.
                if (folder / name).is_dir():
                    shutil.rmtree(folder / name)
                else:
                    (folder / name).unlink()


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
