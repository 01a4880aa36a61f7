"""PyTorch's number of threads, which other packages change behind its back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads_kept() -> Iterator[None]:
    """Put PyTorch's number of threads back on exit.

    Sums depend on it in their last bits, and compiled code is compiled again where it has changed.
    The first parallel kernel of numba in a process sets it to the number of cores, where both use
    the same OpenMP.
    """
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
