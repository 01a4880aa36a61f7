"""Many independent tasks by joblib, on any of its backends, also where workers are lost."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch

from geomprobe.storage import PathLike
from geomprobe.threads import threads_kept

Task = TypeVar("Task")
Result = TypeVar("Result")

_TRIES = 2
# Random streams and the number of threads belong to the process.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Lost:
    """What stands in the place of a result that there is none of.

    Parameters
    ----------
    reason : str
        What became of the worker.
    """

    reason: str


def sweep(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    folder: PathLike,
    n_jobs: int | None = None,
) -> Iterator[tuple[Task, Result | Lost]]:
    """Yield each task with its result, in the order in which they come.

    Parameters
    ----------
    function : callable
        Makes a result of a task, and does not raise. Both are sent to the workers, so that large
        data had better be named than given.
    tasks : sequence
    folder : path
        For notes on what has begun. A worker that does not see it works without.
    n_jobs : int, optional
        Tasks at a time; by default what ``joblib.parallel_config`` says, or one. The backend is
        that of ``joblib.parallel_config`` too.

    Yields
    ------
    task, result
        A :class:`Lost` for the result of a task that has lost its worker twice.

    Raises
    ------
    TypeError, AttributeError, pickle.PicklingError
        Function or tasks cannot be sent to workers.
    Exception
        The backend cannot start; what it says.

    Notes
    -----
    A worker that is lost (killed, out of memory, its machine gone) can take others with it. What
    was under way is begun once more, one task at a time, so that it is known whose worker it was;
    then the others go on together. Dask begins such tasks again by itself, a fourth time would have
    joblib wait for ever, and the notes end that: a task that finds two beginnings and no end of its
    own gives up.
    """
    from joblib import effective_n_jobs

    workers = effective_n_jobs(n_jobs)
    if workers > 1:
        import cloudpickle

        cloudpickle.dumps((function, tasks))  # What cannot be sent, Dask would wait for.
    left = list(range(len(tasks)))
    suspects: list[int] = []
    with tempfile.TemporaryDirectory(
        dir=folder, prefix=".begun.", ignore_cleanup_errors=True
    ) as notes:
        while left:
            begun: list[int] = []

            def calls(numbers: list[int], begun: list[int] = begun) -> Iterator[tuple[Any, ...]]:
                for number in numbers:
                    begun.append(number)
                    yield function, tasks[number], Path(notes, str(number))

            try:
                alone = 1 if suspects else None
                for number, result in _results(calls(suspects or left[:]), n_jobs, alone):
                    left.remove(number)
                    yield tasks[number], result
                suspects = []
            except Exception as error:
                lost = [number for number in begun if number in left]
                if not lost:
                    raise
                if suspects:
                    left.remove(lost[0])
                    yield tasks[lost[0]], Lost(f"its worker was lost: {_said(error)}")
                suspects = [number for number in suspects or lost if number in left]


def _results(
    calls: Iterator[tuple[Any, ...]], n_jobs: int | None, size: int | None
) -> Iterator[tuple[int, Any]]:
    """Yield numbers and results; with a size, so many calls are over before the next begin."""
    from joblib import Parallel, delayed, effective_n_jobs

    options: dict[str, Any] = {"n_jobs": n_jobs, "batch_size": 1, "pre_dispatch": "n_jobs"}
    try:
        parallel = Parallel(**options, return_as="generator_unordered")
    except ValueError:
        # A backend that hands over results all at once, such as that of Ray.
        parallel = Parallel(**options)
        size = size or 4 * effective_n_jobs(n_jobs)
    with parallel:
        while some := list(islice(calls, size)) if size else calls:
            yield from parallel(delayed(_run)(*call) for call in some)
            if not size:
                return


def _run(function: Callable[[Any], Any], task: Any, note: Path) -> tuple[int, Any]:
    """Run one task, in a worker."""
    from joblib import parallel_config

    result: Any
    with suppress(OSError), open(note, "ab") as file:
        if file.tell() >= _TRIES:
            return int(note.name), Lost(f"its worker was lost {_TRIES} times")
        file.write(b".")
    with parallel_config(backend="sequential"):
        result = function(task)
    with suppress(OSError):
        note.unlink()
    return int(note.name), result


def _said(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let no other task of this process work meanwhile, and work with one thread.

    Sums depend on the number of threads in their last bits, and backends give their workers
    different ones.
    """
    import numba
    from threadpoolctl import threadpool_limits

    with _ONE_AT_A_TIME, threads_kept():
        before = numba.get_num_threads()
        numba.set_num_threads(1)
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1):
                yield
        finally:
            numba.set_num_threads(before)
