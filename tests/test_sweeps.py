"""Tasks by joblib, with workers that are killed in the middle."""

import os
import pickle
import signal
import threading
from functools import partial
from operator import neg

import joblib
import numba
import pytest
import torch

from geomprobe.sweeps import Lost, one_at_a_time, sweep


def dying(folder, tasks, times):
    """A function that kills its process in these tasks, so many times each; sent by value."""

    def work(task):
        if task in tasks:
            for time in range(times):
                begun = folder / f"begun {task} {time}"
                if not begun.exists():
                    begun.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return -task

    return work


def test_one_after_another_in_order_and_no_note_is_left(tmp_path):
    assert list(sweep(neg, [3, 1, 2], folder=tmp_path)) == [(3, -3), (1, -1), (2, -2)]
    assert not list(tmp_path.glob(".begun*"))
    assert list(sweep(neg, [], folder=tmp_path)) == []


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_any_backend_gives_every_result_once(tmp_path, backend):
    with joblib.parallel_config(backend, n_jobs=2):
        pairs = list(sweep(neg, list(range(11)), folder=tmp_path))
    assert sorted(pairs) == [(number, -number) for number in range(11)]


@pytest.mark.long
def test_a_worker_that_is_killed_takes_nothing_with_it(tmp_path):
    found = dict(sweep(dying(tmp_path, {3}, 1), list(range(8)), folder=tmp_path, n_jobs=2))
    assert found == {number: -number for number in range(8)}


@pytest.mark.long
def test_tasks_that_kill_every_worker_are_told_from_the_others(tmp_path):
    found = dict(sweep(dying(tmp_path, {1, 4}, 9), list(range(7)), folder=tmp_path, n_jobs=2))
    lost = {number: found.pop(number) for number in (1, 4)}
    assert all(isinstance(one, Lost) for one in lost.values())
    assert "its worker was lost: TerminatedWorkerError" in lost[1].reason
    assert found == {number: -number for number in (0, 2, 3, 5, 6)}


def test_what_cannot_be_sent_or_started_is_refused(tmp_path):
    with pytest.raises((TypeError, pickle.PicklingError)):
        list(sweep(partial(print, threading.Lock()), [1, 2], folder=tmp_path, n_jobs=2))
    with pytest.raises(ValueError, match="n_jobs == 0"):
        list(sweep(print, [1], folder=tmp_path, n_jobs=0))
    with pytest.raises(FileNotFoundError):
        list(sweep(print, [1], folder=tmp_path / "none"))


def test_a_task_that_began_twice_and_never_ended_gives_up(tmp_path):
    """What ends the attempts of a cluster that starts again by itself what has lost its worker."""
    from geomprobe.sweeps import _run

    class Killed(BaseException):
        pass

    def killed(task):
        raise Killed

    note = tmp_path / "5"
    for _ in range(2):
        with pytest.raises(Killed):
            _run(killed, 0, note)
    assert _run(killed, 0, note) == (5, Lost("its worker was lost 2 times"))
    assert _run(str, 0, tmp_path / "6") == (6, "0")
    assert not (tmp_path / "6").exists()
    assert _run(str, 0, tmp_path / "none" / "7") == (7, "0")


def test_numbers_of_threads_are_put_back():
    before = torch.get_num_threads(), numba.get_num_threads()
    with one_at_a_time():
        assert (torch.get_num_threads(), numba.get_num_threads()) == (1, 1)
    assert (torch.get_num_threads(), numba.get_num_threads()) == before
