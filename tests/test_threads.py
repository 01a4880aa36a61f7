"""PyTorch's number of threads, which the first parallel kernel of numba sets to that of cores."""

import os
import subprocess
import sys

import pytest
import torch

from geomprobe.threads import threads_kept

CODE = """
import numpy, torch
from geomprobe.topology import euclidean_mst, rips_persistence
points = numpy.random.default_rng(0).standard_normal((50, 3))
rips_persistence(points, max_dim=1)
euclidean_mst(points)
print(torch.get_num_threads())
"""


def test_it_is_put_back_after_an_exception_too():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads_kept():
        torch.set_num_threads(before + 1)
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.mark.long
def test_the_kernels_of_topology_leave_it_alone():
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.split() == ["1"]
