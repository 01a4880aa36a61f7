"""A writer of a CloudStore dies at any moment: the store is as before its write, or as after it."""

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter

import numpy as np
import pytest

from geomprobe.clouds import CloudSet, PointCloud
from geomprobe.sampling.store import CloudStore

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

KILLS, CYCLE, DEAD = 200, 8, 9


def clouds_of(step, version, n=400):
    rng = np.random.default_rng([step, version])
    return CloudSet(
        PointCloud(
            rng.standard_normal((n, 60), dtype=np.float32),
            sample_ids=np.arange(n),
            layer=layer,
            step=step,
            meta={"version": version},
        )
        for layer in ("fc", "features.0")
    )


def versions_in(store):
    """The version of each step, after all were read and compared with what was written."""
    assert store.verify() == {}
    versions = {step: clouds["fc"].meta["version"] for step, clouds in store.items()}
    for step, version in versions.items():
        assert dict(store[step]) == dict(clouds_of(step, version))
    return versions


def unlisted(store):
    """What a writer left in the folder that is no part of the store."""
    known = {"manifest.json", ".lock", *(shard.file for shard in store.shards.values())}
    return sorted(set(os.listdir(store.path)) - known)


def start(work):
    """Run a function in a process of its own, without starting an interpreter."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


# --- a kill at a random moment --------------------------------------------------------------------


def step_of(turn):
    return turn if turn < 5 else turn - 4


def write(store, number):
    """Do the write of that number: five appends, two replacements, a truncation, and so on."""
    turn = number % CYCLE
    if turn == CYCLE - 1:
        store.truncate(after=-1)
    else:
        step = step_of(turn)
        store.append(clouds_of(step, version=number), step=step, replace=turn >= 5)


def expected(count):
    """The version of each step after the first `count` writes."""
    turns = count % CYCLE
    return {step_of(turn): count - turns + turn for turn in range(turns)}


def killed_after(delay, path, first):
    """Let a process write from the number `first` on, kill it, and return how many it finished."""
    reading, writing = os.pipe()

    def work():
        store = CloudStore(path)
        os.write(writing, b"ready")
        for number in itertools.count(first):
            write(store, number)
            os.write(writing, b".")

    process = start(work)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read(5)
        time.sleep(delay)
        process.kill()
        process.join()
        told += pipe.read()
    assert process.exitcode == -signal.SIGKILL
    return told.count(b".")


def kind_of(left, versions, finished):
    """What the writer was at when it was killed, by what can be seen afterwards."""
    if any("incoming" in name for name in left):
        return "writing a shard"
    if any("manifest" in name for name in left):
        return "writing the manifest"
    if versions == expected(finished + 1):
        return "manifest written"
    return "shard written" if left else "nothing to see"


@pytest.mark.long
def test_a_writer_killed_at_random_moments_leaves_the_state_before_or_after(tmp_path):
    path = tmp_path / "store"
    store, rng, kinds = CloudStore(path), random.Random(0), Counter()
    began = time.perf_counter()
    for number in range(2 * CYCLE):
        write(store, number)
    one_write = (time.perf_counter() - began) / (2 * CYCLE)

    done = 2 * CYCLE
    for _ in range(KILLS):
        finished = done + killed_after(rng.uniform(0, 4 * one_write), path, done)
        opened = CloudStore(path, create=False)
        versions = versions_in(opened)
        assert versions in (expected(finished), expected(finished + 1))
        kinds[kind_of(unlisted(opened), versions, finished)] += 1
        done = finished + (versions == expected(finished + 1))

    CloudStore(path).truncate(after=-1)
    assert unlisted(CloudStore(path)) == []
    # The kills did land inside of writes, and in different parts of them.
    assert KILLS - kinds["nothing to see"] >= KILLS // 4, kinds
    assert kinds["writing a shard"] > 0
    assert len(kinds) >= 3, kinds


# --- death at every single call -------------------------------------------------------------------


def dying_at(nth, work):
    """Make of a function one that dies at the nth thing it asks of Python or the system."""
    calls = itertools.count()

    def die(event, args):
        if next(calls) == nth:
            os._exit(DEAD)

    def fsync(descriptor, real=os.fsync):
        sys.audit("os.fsync", descriptor)  # Python itself does not audit this one.
        real(descriptor)

    def dying():
        os.fsync = fsync
        sys.addaudithook(die)
        work()
        os._exit(0)

    return dying


def deaths(template, work):
    """Yield what `work` made of a copy of a folder, for its death at each call; last, for none."""
    work(shutil.copytree(template, template.with_name("warmed up")))  # Imports what it needs.
    for nth in itertools.count():
        folder = shutil.copytree(template, template.with_name(f"death {nth}"))
        process = start(dying_at(nth, lambda folder=folder: work(folder)))
        process.join()
        assert process.exitcode in (DEAD, 0)
        yield folder
        if process.exitcode == 0:
            return


@pytest.fixture
def template(tmp_path):
    store = CloudStore(tmp_path / "template")
    for step in (1, 2):
        store.append(clouds_of(step, version=0), step=step)
    return store.path


@pytest.mark.parametrize(
    ("work", "after"),
    [
        (lambda store: store.append(clouds_of(3, version=0), step=3), {1: 0, 2: 0, 3: 0}),
        (
            lambda store: store.append(clouds_of(1, version=1), step=1, replace=True),
            {1: 1, 2: 0},
        ),
        (lambda store: store.truncate(after=1), {1: 0}),
    ],
    ids=["append", "replace", "truncate"],
)
def test_a_writer_that_dies_at_any_call_leaves_the_state_before_or_after(template, work, after):
    before, outcomes, rubbish = {1: 0, 2: 0}, [], 0
    for folder in deaths(template, lambda folder: work(CloudStore(folder))):
        store = CloudStore(folder, create=False)
        outcomes.append(versions_in(store))
        rubbish += bool(unlisted(store))
        store.append(clouds_of(9, version=0), step=9)
        assert versions_in(store) == {**outcomes[-1], 9: 0}
        assert unlisted(store) == []
    turn = outcomes.index(after)
    assert outcomes == [before] * turn + [after] * (len(outcomes) - turn)
    assert min(turn, len(outcomes) - turn, rubbish) > 1


def test_a_store_whose_maker_dies_at_any_call_can_be_made_again(tmp_path):
    (tmp_path / "template").mkdir()
    for folder in deaths(tmp_path / "template", CloudStore):
        store = CloudStore(folder)
        store.append(clouds_of(1, version=0), step=1)
        assert versions_in(store) == {1: 0}
        assert unlisted(store) == []


@pytest.mark.filterwarnings("ignore:set aside as")
def test_a_store_whose_rebuilding_dies_at_any_call_can_be_rebuilt(template):
    (template / "manifest.json").write_bytes(b"{")
    damaged = min(template.glob("*-*.safetensors"))
    damaged.write_bytes(b"")
    for folder in deaths(template, CloudStore.rebuild):
        store = CloudStore.rebuild(folder)
        assert versions_in(store) == {2: 0}
        assert (folder / f"{damaged.name}.damaged").exists()
