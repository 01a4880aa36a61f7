"""Run a function in a process of its own, so that it can be interrupted, timed out and bounded.

Compiled code that holds the interpreter hears no Ctrl-C and no timer; a process can be ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# What a child needs besides the function's own memory: stacks of threads, buffers of files.
_MARGIN = 512 * 2**20
_START = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"


def run_isolated(
    script: str | Path,
    function: str,
    arrays: Mapping[str, Array],
    parameters: Mapping[str, Any],
    *,
    time_limit: float | None = None,
    memory_limit: int | None = None,
) -> dict[str, Array]:
    """Call a function of a Python file in a fresh process, and return its arrays.

    Parameters
    ----------
    script : path
        A file, which the process runs by its path; what it imports adds to the start.
    function : str
        Name in that file of a ``function(arrays, parameters)`` that returns arrays by name.
    arrays : mapping of str to ndarray
        Given to it, without object dtypes.
    parameters : mapping
        Given to it, JSON types.
    time_limit : float, optional
        Seconds after which the process is killed.
    memory_limit : int, optional
        Bytes that it may take beside the given arrays; systems without ``resource`` do not hold it.

    Raises
    ------
    TimeoutError
        The time limit.
    MemoryError
        The memory limit, or the process was killed from outside.
    RuntimeError
        The function raised something else.
    KeyboardInterrupt
        At once: the process is killed.
    """
    with tempfile.TemporaryDirectory(prefix="geomprobe-") as folder:
        for name, array in arrays.items():
            np.save(Path(folder, f"in_{name}.npy"), array, allow_pickle=False)
        task = {
            "script": str(script),
            "function": function,
            "arrays": list(arrays),
            "parameters": dict(parameters),
            "memory_limit": memory_limit,
        }
        Path(folder, "task.json").write_text(json.dumps(task))
        # A session of its own, since a Ctrl-C in the terminal is for the parent to handle.
        process = subprocess.Popen(
            [sys.executable, "-c", _START, __file__, folder],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _, told = process.communicate(timeout=time_limit)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"ran past its time limit of {time_limit:g} s") from None
        finally:
            process.kill()
            process.wait()
        outcome = Path(folder, "outcome.json")
        if not outcome.exists():
            last = told.decode(errors="replace").strip().rpartition("\n")[2]
            if process.returncode < 0:
                raise MemoryError(
                    f"the process was ended by signal {-process.returncode}, as it is where memory "
                    f"runs out. {last}"
                )
            raise RuntimeError(f"the process ended with code {process.returncode}: {last}")
        said = json.loads(outcome.read_text())
        if said["error"]:
            kind = MemoryError if said["error"] == "MemoryError" else RuntimeError
            raise kind(said["message"] or "out of memory")
        return {name: np.load(Path(folder, f"out_{name}.npy")) for name in said["arrays"]}


def _main(folder: Path) -> None:
    """Do the task of a folder, in the child."""
    import runpy

    task = json.loads((folder / "task.json").read_text())
    outcome: dict[str, Any] = {"error": "", "message": "", "arrays": []}
    try:
        function = runpy.run_path(task["script"])[task["function"]]
        arrays = {
            name: np.load(folder / f"in_{name}.npy", mmap_mode="r") for name in task["arrays"]
        }
        if task["memory_limit"] is not None:
            _limit_memory(task["memory_limit"])
        for name, array in function(arrays, task["parameters"]).items():
            np.save(folder / f"out_{name}.npy", array, allow_pickle=False)
            outcome["arrays"].append(name)
    except Exception as error:
        outcome["error"], outcome["message"] = type(error).__name__, str(error)
    partial = folder / "outcome.partial"
    partial.write_text(json.dumps(outcome))
    partial.rename(folder / "outcome.json")


def _limit_memory(limit: int) -> None:
    """Let this process take so many bytes more, where the system can hold it to that."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError):
        return
    resource.setrlimit(resource.RLIMIT_AS, (size + limit + _MARGIN,) * 2)


if __name__ == "__main__":
    _main(Path(sys.argv[2]))
