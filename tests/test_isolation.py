import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from geomprobe.isolation import run_isolated

SCRIPT = """
import os, signal, time
import numpy as np

def double(arrays, parameters):
    return {name: parameters["factor"] * array for name, array in arrays.items()}

def sleep(arrays, parameters):
    open(parameters["marker"], "w").write(str(os.getpid()))
    time.sleep(600)

def allocate(arrays, parameters):
    return {"out": np.ones(parameters["bytes"], np.uint8)}

def fail(arrays, parameters):
    raise ValueError("nothing to be done")

def die(arrays, parameters):
    os.kill(os.getpid(), signal.SIGKILL)

def leave(arrays, parameters):
    os._exit(3)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "work.py"
    path.write_text(SCRIPT)
    return path


def test_arrays_go_in_and_come_back(script):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], np.int32)}
    found = run_isolated(script, "double", arrays, {"factor": 2}, time_limit=60)
    assert found.keys() == arrays.keys()
    assert np.array_equal(found["a"], 2 * arrays["a"])
    assert found["b"].tolist() == [2, 4]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().split(") ")[1][0] != "Z"


def test_a_time_limit_ends_the_process(script, tmp_path):
    marker = tmp_path / "pid"
    with pytest.raises(TimeoutError, match="time limit of 3 s"):
        run_isolated(script, "sleep", {}, {"marker": str(marker)}, time_limit=3)
    assert not alive(int(marker.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="no limit of address space")
def test_a_memory_limit_holds(script):
    fits = run_isolated(script, "allocate", {}, {"bytes": 2**20}, memory_limit=2**22)
    assert len(fits["out"]) == 2**20
    with pytest.raises(MemoryError):
        run_isolated(script, "allocate", {}, {"bytes": 2**31}, memory_limit=2**22)


def test_what_goes_wrong_is_told(script):
    with pytest.raises(RuntimeError, match="nothing to be done"):
        run_isolated(script, "fail", {}, {})
    with pytest.raises(MemoryError, match="signal 9"):
        run_isolated(script, "die", {}, {})
    with pytest.raises(RuntimeError, match="code 3"):
        run_isolated(script, "leave", {}, {})


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_both_processes(script, tmp_path):
    marker = tmp_path / "pid"
    code = f"""
        from geomprobe.isolation import run_isolated
        run_isolated({str(script)!r}, "sleep", {{}}, {{"marker": {str(marker)!r}}})
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.PIPE, text=True
    )
    while not (marker.exists() and marker.read_text()):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGINT)
    _, told = parent.communicate(timeout=60)  # the function itself would sleep for 600
    assert "KeyboardInterrupt" in told
    assert not alive(int(marker.read_text()))
