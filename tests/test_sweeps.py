"""Tasks by joblib, also where workers are lost."""

import pickle
import threading
from collections import Counter
from functools import partial
from operator import neg

import joblib
import numba
import pytest
import torch

from geomprobe.sweeps import Lost, one_at_a_time, sweep


def test_one_after_another_in_order_and_no_note_is_left(tmp_path):
    assert list(sweep(neg, [3, 1, 2], folder=tmp_path)) == [(3, -3), (1, -1), (2, -2)]
    assert not list(tmp_path.glob(".begun*"))
    assert list(sweep(neg, [], folder=tmp_path)) == []


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_any_backend_gives_every_result_once(tmp_path, backend):
    with joblib.parallel_config(backend, n_jobs=2):
        pairs = list(sweep(neg, list(range(11)), folder=tmp_path))
    assert sorted(pairs) == [(number, -number) for number in range(11)]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_tasks_that_lose_their_workers_are_told_from_the_others(tmp_path, n_jobs):
    """Whatever the backend raises means that; real workers are killed in test_clusters.py."""
    begun = Counter()

    def work(task):
        begun[task] += 1
        if task in (1, 4):
            raise RuntimeError(f"no worker for {task}\nany more")
        return -task

    with joblib.parallel_config("threading", n_jobs=n_jobs):
        found = dict(sweep(work, list(range(9)), folder=tmp_path))
    for task in (1, 4):
        assert found.pop(task) == Lost(f"its worker was lost: RuntimeError: no worker for {task}")
        assert begun[task] == 2
    assert found == {task: -task for task in (0, 2, 3, 5, 6, 7, 8)}
    assert max(begun.values()) == 2


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
    numba.get_num_threads()  # Starts numba's threads, which sets PyTorch's number.
    before = torch.get_num_threads(), numba.get_num_threads()
    with one_at_a_time():
        assert (torch.get_num_threads(), numba.get_num_threads()) == (1, 1)
    assert (torch.get_num_threads(), numba.get_num_threads()) == before
