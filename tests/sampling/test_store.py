import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import pickle
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from geomprobe.clouds import CloudSet, PointCloud
from geomprobe.exceptions import FileFormatError, GeomprobeWarning
from geomprobe.sampling import store as store_module
from geomprobe.sampling.store import CloudStore

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
LAYERS = ("fc", "features.0")


def clouds_of(step, version=0, n=5):
    """Clouds that differ from step to step and from version to version."""
    rng = np.random.default_rng([step, version])
    return CloudSet(
        PointCloud(
            rng.standard_normal((n, 3 + index)),
            labels=rng.integers(0, 10, n),
            sample_ids=np.arange(n),
            layer=layer,
            step=step,
            meta={"version": version},
        )
        for index, layer in enumerate(LAYERS)
    )


def identical(a, b):
    """Whether two sets agree in every field and every bit, NaN payloads and dtypes included."""

    def bits(cloud):
        arrays = (cloud.points, cloud.labels, cloud.sample_ids)
        return (
            [array if array is None else (array.dtype, array.tobytes()) for array in arrays],
            (cloud.points.shape, cloud.layer, cloud.step, json.dumps(cloud.meta)),
        )

    return list(a) == list(b) and all(bits(a[layer]) == bits(b[layer]) for layer in a)


def filled(path, steps=(0, 10, 20)):
    store = CloudStore(path)
    for step in steps:
        store.append(clouds_of(step), step=step)
    return store


def shard(store, step):
    return store.path / store.shards[step].file


def contents(folder):
    """Every file of a folder and its bytes."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def unlisted(store):
    """Files that are neither the manifest, nor the lock, nor a shard of the manifest."""
    known = {"manifest.json", ".lock", *(entry.file for entry in store.shards.values())}
    return sorted(set(os.listdir(store.path)) - known)


def flip(path, index, mask=1):
    content = bytearray(path.read_bytes())
    content[index] ^= mask
    path.write_bytes(content)


# --- what goes in comes out -----------------------------------------------------------------------

NUMBERS = st.sampled_from(["<f2", "<f4", "<f8", "<i8", "<i4", "|u1", "|b1"])
META = st.dictionaries(st.text(), st.integers() | st.text() | st.booleans(), max_size=3)


@st.composite
def any_cloud(draw):
    n, d = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    rows = st.none() | NUMBERS.flatmap(lambda dtype: hnp.arrays(dtype, n))
    points = draw(hnp.arrays(np.float32, (n, d)))
    return PointCloud(points, draw(rows), draw(rows), draw(st.text()), 7, draw(META))


@given(st.dictionaries(st.text() | st.sampled_from(["", "..", "../up", "a/b"]), any_cloud()))
@settings(max_examples=50)
def test_any_clouds_come_back_bit_for_bit(clouds):
    with tempfile.TemporaryDirectory() as folder:
        store = CloudStore(Path(folder) / "store")
        store.append(clouds, step=7)
        assert identical(store[7], CloudSet(clouds))
        assert os.listdir(folder) == ["store"]
        assert all(re.fullmatch(r"[\w.-]+", name) for name in os.listdir(store.path))


def test_is_a_mapping_of_ascending_steps_whatever_the_order_of_the_appends(tmp_path):
    store = filled(tmp_path, steps=[20, 0, 1000, 3])
    assert store.steps == tuple(store) == (0, 3, 20, 1000)
    assert len(store) == 4
    assert 20 in store
    assert np.int64(20) in store
    assert 21 not in store
    assert store.get(21) is None
    for step, clouds in store.items():
        assert identical(clouds, clouds_of(step))


def test_a_layer_can_be_followed_through_training(tmp_path):
    store = filled(tmp_path)
    store.append([PointCloud(np.zeros((1, 1)), layer="late")], step=30)
    followed = dict(store.layer("fc"))
    assert list(followed) == [0, 10, 20]
    assert all(followed[step] == clouds_of(step)["fc"] for step in followed)
    assert [step for step, _ in store.layer("late")] == [30]
    with pytest.raises(KeyError, match=r"'fcc'.*\['fc', 'features.0', 'late'\]"):
        store.layer("fcc")


def test_a_step_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(KeyError, match=r"step 5 .*none"):
        CloudStore(tmp_path)[5]
    with pytest.raises(KeyError, match=r"step 5 .*3 entries, steps 0 to 20"):
        filled(tmp_path)[5]
    with pytest.raises(KeyError, match=r"store.layer\('fc'\)"):
        CloudStore(tmp_path)["fc"]


def test_manifest_and_shards_are_plain_files_that_need_no_geomprobe(tmp_path):
    filled(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["format"], manifest["schema"]) == ("geomprobe.CloudStore", 1)
    for step, entry in zip((0, 10, 20), manifest["shards"], strict=True):
        content = (tmp_path / entry["file"]).read_bytes()
        assert entry["step"] == step
        assert entry["layers"] == {"fc": [5, 3], "features.0": [5, 4]}
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        np.testing.assert_array_equal(
            load_file(tmp_path / entry["file"])["1/points"], clouds_of(step)["features.0"].points
        )


def test_opening_reads_no_shard(tmp_path):
    written = filled(tmp_path)
    for step in written:
        shard(written, step).unlink()
    store = CloudStore(tmp_path)
    assert store.steps == (0, 10, 20)
    assert store.shards[10].layers == {"fc": (5, 3), "features.0": (5, 4)}
    with pytest.raises(FileFormatError, match=r"0000000010-\w+.safetensors.*step 10.*missing"):
        store[10]


def test_an_open_store_sees_what_another_has_written(tmp_path):
    reader, writer = CloudStore(tmp_path), CloudStore(tmp_path)
    assert len(reader) == 0
    writer.append(clouds_of(1), step=1)
    assert identical(reader[1], clouds_of(1))
    writer.append(clouds_of(1, version=1), step=1, replace=True)
    assert identical(reader[1], clouds_of(1, version=1))


# --- appending ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clouds", "step", "error", "message"),
    [
        (clouds_of(10), 10, ValueError, r"step 10 already.*truncate.*replace=True"),
        (clouds_of(1), -1, ValueError, "at least 0"),
        (clouds_of(1), 1.0, TypeError, "an int, got 1.0"),
        (clouds_of(3), 4, ValueError, "'fc' is of step 3, not 4"),
        ({"fc": np.zeros((2, 2))}, 4, TypeError, "'fc' must be a PointCloud, got ndarray"),
        ([PointCloud(np.zeros((2, 2)), meta={"a": object()})], 4, TypeError, "JSON"),
        ([PointCloud(np.zeros((2, 2)), layer="\ud800")], 4, ValueError, "surrogate"),
    ],
)
def test_what_cannot_be_appended_is_refused_and_changes_nothing(
    tmp_path, clouds, step, error, message
):
    store = filled(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(error, match=message):
        store.append(clouds, step=step)
    assert contents(tmp_path) == before


def test_replacing_puts_other_clouds_in_the_place_and_leaves_no_file_behind(tmp_path):
    store = filled(tmp_path)
    store.append(clouds_of(10, version=1), step=10, replace=True)
    store.append(clouds_of(30), step=30, replace=True)
    assert store.steps == (0, 10, 20, 30)
    assert identical(store[10], clouds_of(10, version=1))
    assert unlisted(store) == []
    same = contents(tmp_path)
    store.append(clouds_of(10, version=1), step=10, replace=True)
    assert contents(tmp_path) == same


def test_truncating_forgets_later_steps_so_that_a_resumed_run_can_append_them_again(tmp_path):
    store = filled(tmp_path)
    assert store.truncate(after=10) == 1
    assert store.truncate(after=10) == 0
    assert store.steps == (0, 10)
    assert unlisted(store) == []
    store.append(clouds_of(20, version=1), step=20)
    assert identical(store[20], clouds_of(20, version=1))
    assert store.truncate(after=-1) == 3
    assert len(CloudStore(tmp_path)) == 0


def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_else(tmp_path):
    store = filled(tmp_path)
    orphan = tmp_path / f"{40:012d}-{'0' * 16}.safetensors"
    left = [orphan, *(tmp_path / name for name in ("incoming.safetensors", ".manifest.json.x1"))]
    theirs = [tmp_path / name for name in ("notes.txt", ".hidden", "model.safetensors")]
    for file in left + theirs:
        file.write_bytes(b"text")
    unfinished = tmp_path / ".incoming.safetensors.x2"  # With what safetensors has left in it.
    unfinished.mkdir()
    (unfinished / ".tmp0lcxEV").write_bytes(b"text")
    left.append(unfinished)
    assert CloudStore(tmp_path).steps == (0, 10, 20)
    assert store.verify() == {}
    assert all(file.exists() for file in left)
    store.append(clouds_of(40), step=40)
    assert not any(file.exists() for file in left)
    assert all(file.read_bytes() == b"text" for file in theirs)


# --- opening --------------------------------------------------------------------------------------


def test_a_missing_or_empty_folder_becomes_a_store_unless_it_must_not(tmp_path):
    for path in (tmp_path / "a" / "b", tmp_path):
        with pytest.raises(FileNotFoundError, match="no CloudStore"):
            CloudStore(path, create=False)
    assert os.listdir(tmp_path) == []
    assert len(CloudStore(tmp_path / "a" / "b")) == 0
    assert len(CloudStore(tmp_path / "a" / "b", create=False)) == 0


def test_a_writer_killed_while_it_made_the_store_left_a_vacant_folder(tmp_path):
    for name in (".lock", ".manifest.json.ab12"):
        (tmp_path / name).touch()
    assert len(CloudStore(tmp_path)) == 0


@pytest.mark.parametrize("opening", [CloudStore, CloudStore.rebuild])
@pytest.mark.parametrize(
    "files",
    [
        {"weights.safetensors": b"x"},
        {"manifest.json": b'{"name": "an app", "icons": []}'},
        {"manifest.json": b"[1, 2]"},
        {"manifest.json": b'{"format": "geomprobe.CloudStore", "schema": 1'},
        {"manifest.json": b'{"name": "an app"}', f"{1:012d}-{'0' * 16}.safetensors": b"x"},
        {
            "manifest.json": b'{"format": "geomprobe.CloudStore", "schema": 2, "parts": []}',
            f"{1:012d}-{'0' * 16}.safetensors": b"x",
        },
    ],
)
def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path, opening, files):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError):
        opening(tmp_path)
    assert contents(tmp_path) == files


@pytest.mark.parametrize("opening", [CloudStore, CloudStore.rebuild])
def test_a_path_that_is_a_file_is_refused(tmp_path, opening):
    file = tmp_path / "clouds.safetensors"
    clouds_of(1).save(file)
    before = contents(tmp_path)
    with pytest.raises(FileFormatError, match="is a file"):
        opening(file)
    assert contents(tmp_path) == before


def test_a_newer_schema_asks_for_a_newer_geomprobe(tmp_path):
    store = filled(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema":1', '"schema":12'))
    before = contents(tmp_path)
    for attempt in (
        lambda: CloudStore(tmp_path),
        lambda: CloudStore.rebuild(tmp_path),
        lambda: store.append(clouds_of(40), step=40),
        lambda: store[10],
    ):
        with pytest.raises(FileFormatError, match="schema 12, and this geomprobe knows 1"):
            attempt()
    assert contents(tmp_path) == before


def test_a_manifest_cannot_name_a_file_outside_of_the_folder(tmp_path):
    store = filled(tmp_path / "store", steps=[1])
    manifest = tmp_path / "store" / "manifest.json"
    document = json.loads(manifest.read_text())
    clouds_of(1).save(tmp_path / "other.safetensors")
    document["shards"][0]["file"] = "../other.safetensors"
    manifest.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match="is damaged"):
        store[1]


# --- damage ---------------------------------------------------------------------------------------


def truncated(file, store):
    file.write_bytes(file.read_bytes()[:-1])


def emptied(file, store):
    file.write_bytes(b"")


def garbled(file, store):
    flip(file, -1)


def grown(file, store):
    file.write_bytes(file.read_bytes() + b"\0")


def missing(file, store):
    file.unlink()


def swapped(file, store):
    file.write_bytes(shard(store, 20).read_bytes())


def foreign(file, store):
    clouds_of(10, version=5).save(file)


def pickled(file, store):
    file.write_bytes(pickle.dumps({"a": 1}))


@pytest.mark.parametrize(
    "damage", [truncated, emptied, garbled, grown, missing, swapped, foreign, pickled]
)
def test_a_damaged_shard_is_named_and_costs_nothing_else(tmp_path, damage):
    store = filled(tmp_path)
    file = shard(store, 10)
    damage(file, store)
    for opened in (store, CloudStore(tmp_path)):
        with pytest.raises(FileFormatError, match=rf"{file.name}, the shard of step 10.*rebuild"):
            opened[10]
        assert list(opened.verify()) == [10]
        assert file.name in opened.verify()[10]
        assert identical(opened[0], clouds_of(0))
        assert identical(opened[20], clouds_of(20))
    store.append(clouds_of(30), step=30)
    store.append(clouds_of(10), step=10, replace=True)
    assert store.verify() == {}


def test_no_byte_of_a_shard_can_change_unseen(tmp_path):
    store = CloudStore(tmp_path)
    store.append([PointCloud(np.ones((2, 2)), layer="fc")], step=1)
    file = shard(store, 1)
    sound = file.read_bytes()
    for index in range(len(sound)):
        flip(file, index)
        assert list(store.verify()) == [1], index
        file.write_bytes(sound)
    assert store.verify() == {}


def test_no_byte_of_the_manifest_can_change_unseen_and_rebuilding_restores_it(tmp_path):
    filled(tmp_path, steps=[1, 12])
    manifest = tmp_path / "manifest.json"
    sound = manifest.read_bytes()
    for index in range(len(sound)):
        flip(manifest, index)
        try:
            assert CloudStore(tmp_path).verify(), index
        except FileFormatError as error:
            if "move it away" in str(error) or "a newer one" in str(error):
                manifest.unlink()
        CloudStore.rebuild(tmp_path)
        assert manifest.read_bytes() == sound


@pytest.mark.parametrize("keep", [0, 1, 40, 200, -1])
def test_a_truncated_manifest_says_how_to_rebuild_it(tmp_path, keep):
    store = filled(tmp_path)
    manifest = tmp_path / "manifest.json"
    sound = manifest.read_bytes()
    manifest.write_bytes(sound[:keep])
    before = contents(tmp_path)
    for attempt in (lambda: CloudStore(tmp_path), lambda: store.append(clouds_of(40), step=40)):
        with pytest.raises(FileFormatError, match=r"is damaged.*CloudStore.rebuild\('"):
            attempt()
    assert contents(tmp_path) == before
    assert CloudStore.rebuild(tmp_path).verify() == {}
    assert manifest.read_bytes() == sound


def test_a_lost_manifest_says_how_to_rebuild_it(tmp_path):
    store = filled(tmp_path)
    (tmp_path / "manifest.json").unlink()
    for attempt in (lambda: CloudStore(tmp_path), lambda: store[10], lambda: len(store)):
        with pytest.raises(FileFormatError, match=r"is lost.*CloudStore.rebuild\('"):
            attempt()
    CloudStore.rebuild(tmp_path)
    for step in (0, 10, 20):
        assert identical(store[step], clouds_of(step))


def test_rebuilding_sets_damaged_shards_aside_and_adopts_whole_ones(tmp_path):
    store = filled(tmp_path / "store")
    other = filled(tmp_path / "other", steps=[30])
    garbled(shard(store, 10), store)
    name, content = shard(store, 10).name, shard(store, 10).read_bytes()
    shard(other, 30).rename(store.path / shard(other, 30).name)
    with pytest.warns(GeomprobeWarning, match=rf"set aside as \*.damaged: .*{name}"):
        rebuilt = CloudStore.rebuild(store.path)
    assert rebuilt.steps == (0, 20, 30)
    assert rebuilt.verify() == {}
    rebuilt.append(clouds_of(10), step=10)
    assert (store.path / f"{name}.damaged").read_bytes() == content


def test_rebuilding_takes_the_newer_of_two_shards_of_one_step(tmp_path):
    store = filled(tmp_path, steps=[1])
    files = [shard(store, 1)]
    content = files[0].read_bytes()
    store.append(clouds_of(1, version=1), step=1, replace=True)
    files.append(shard(store, 1))
    files[0].write_bytes(content)
    for newer in (1, 0):
        (tmp_path / "manifest.json").unlink()
        for version, file in enumerate(files):
            os.utime(file, (10, 20 if version == newer else 10))
        assert identical(CloudStore.rebuild(tmp_path)[1], clouds_of(1, version=newer))


# --- faults ---------------------------------------------------------------------------------------


def full_at(nth, real):
    """The real call, but the disk is full when it is called for the nth time."""
    calls = itertools.count()

    def call(*args):
        if next(calls) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    return call


# Synced are the shard, the folder, the manifest and the folder again; named are the shard, twice,
# for its name comes from its checksum, and the manifest.
@pytest.mark.parametrize(
    ("call", "nth", "version"),
    [
        *(("fsync", nth, 0) for nth in range(3)),
        ("fsync", 3, 1),
        *(("replace", nth, 0) for nth in range(3)),
    ],
)
def test_a_full_disk_leaves_the_state_before_or_after_and_no_rubbish(
    tmp_path, monkeypatch, call, nth, version
):
    store = filled(tmp_path, steps=[1])
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full_at(nth, getattr(os, call)))
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            store.append(clouds_of(1, version=1), step=1, replace=True)
    assert identical(CloudStore(tmp_path)[1], clouds_of(1, version))
    assert unlisted(store) == []
    store.append(clouds_of(2), step=2)
    assert store.verify() == {}


@needs_fork
def test_a_shard_larger_than_the_disk_allows_leaves_the_store_as_it_was(tmp_path):
    resource = pytest.importorskip("resource")
    filled(tmp_path)
    before = contents(tmp_path)

    def write():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with pytest.raises(OSError, match="File too large"):
            CloudStore(tmp_path).append(clouds_of(30, n=10_000), step=30)

    in_processes(write)
    assert contents(tmp_path) == before


def test_contents_are_on_the_disk_before_a_name_and_the_shard_before_the_manifest(
    tmp_path, monkeypatch
):
    store = filled(tmp_path)
    events = []

    def kind(path):
        path = Path(path)
        if path == tmp_path:
            return "folder"
        return "manifest" if "manifest" in path.name else "shard"

    def fsync(descriptor, real=os.fsync):
        events.append(("fsync", kind(os.readlink(f"/proc/self/fd/{descriptor}"))))
        real(descriptor)

    def replace(source, target, real=os.replace):
        events.append(("name", kind(target)))
        real(source, target)

    if not os.path.exists("/proc/self/fd"):
        pytest.skip("this system does not tell what a descriptor is")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    store.append(clouds_of(30), step=30)
    assert events == [
        ("fsync", "shard"),
        ("name", "shard"),
        ("name", "shard"),
        ("fsync", "folder"),
        ("fsync", "manifest"),
        ("name", "manifest"),
        ("fsync", "folder"),
    ]


def test_a_file_system_that_cannot_sync_folders_is_good_enough(tmp_path, monkeypatch):
    def fsync(descriptor, real=os.fsync):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "folders cannot be synced")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert filled(tmp_path).verify() == {}


@pytest.mark.skipif(store_module.fcntl is None, reason="this system has no locks")
def test_a_file_system_without_locks_warns_and_a_system_without_them_writes(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    store = CloudStore(tmp_path)
    monkeypatch.setattr(store_module.fcntl, "flock", flock)
    with pytest.warns(GeomprobeWarning, match="no locks: let one process at a time"):
        store.append(clouds_of(1), step=1)
    monkeypatch.setattr(store_module, "fcntl", None)
    store.append(clouds_of(2), step=2)
    assert store.verify() == {}


# --- several processes ----------------------------------------------------------------------------


def in_processes(*works):
    """Run functions in a process each, at the same time; all must end well."""
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=work) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(works)


@needs_fork
def test_processes_that_make_a_store_and_append_at_the_same_time_lose_nothing(tmp_path):
    def appending(first):
        def work():
            store = CloudStore(tmp_path / "store")
            for step in range(first, 60, 3):
                store.append(clouds_of(step), step=step)

        return work

    in_processes(*map(appending, range(3)))
    store = CloudStore(tmp_path / "store")
    assert store.steps == tuple(range(60))
    assert all(identical(store[step], clouds_of(step)) for step in store)
    assert unlisted(store) == []


def test_a_reader_whose_clouds_are_replaced_meanwhile_gets_the_new_ones(tmp_path, monkeypatch):
    store = filled(tmp_path)

    def read_late(folder, shard, real=store_module.read_shard):
        monkeypatch.undo()
        CloudStore(tmp_path).append(clouds_of(10, version=1), step=10, replace=True)
        return real(folder, shard)

    monkeypatch.setattr(store_module, "read_shard", read_late)
    assert identical(store[10], clouds_of(10, version=1))


def test_a_store_that_another_process_makes_first_is_kept(tmp_path, monkeypatch):
    def lock_late(folder, real=store_module._locked):
        monkeypatch.undo()
        filled(folder)
        return real(folder)

    monkeypatch.setattr(store_module, "_locked", lock_late)
    assert CloudStore(tmp_path).steps == (0, 10, 20)


@needs_fork
def test_a_reader_sees_whole_clouds_while_a_writer_replaces_them(tmp_path):
    store = filled(tmp_path, steps=[1])

    def replacing():
        writer = CloudStore(tmp_path)
        for version in range(1, 60):
            writer.append(clouds_of(1, version), step=1, replace=True)

    def reading():
        seen = []
        while not seen or seen[-1] < 59:
            clouds = store[1]
            seen.append(clouds["fc"].meta["version"])
            assert identical(clouds, clouds_of(1, seen[-1]))
        assert seen == sorted(seen)

    in_processes(replacing, reading)
