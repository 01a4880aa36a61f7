import os

import pytest

from geomprobe import memory
from geomprobe.exceptions import MemoryEstimateError
from geomprobe.memory import available_bytes, require_memory

GIB = 2**30


def test_available_memory_is_a_positive_number_of_bytes_below_that_of_the_machine():
    assert 0 < available_bytes() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_without_proc_a_half_of_the_physical_memory_stands_in(monkeypatch):
    def no_proc(*arguments):
        raise OSError("no /proc")

    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr("builtins.open", no_proc)
    monkeypatch.setattr(memory.os, "sysconf", sizes.__getitem__)
    assert available_bytes() == 4096 * 1000 // 2


def test_a_system_that_tells_nothing_refuses_nothing(monkeypatch):
    def unknown(*arguments):
        raise OSError

    monkeypatch.setattr("builtins.open", unknown)
    monkeypatch.setattr(memory.os, "sysconf", unknown)
    assert available_bytes() is None
    require_memory(10**18, "anything", "nothing")


def test_what_fits_passes_and_what_does_not_is_refused_with_numbers_and_remedy(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 4 * GIB)
    require_memory(2 * GIB, "a distance matrix", "take fewer points")
    with pytest.raises(MemoryEstimateError) as refusal:
        require_memory(2 * GIB + 1, "a distance matrix", "Take fewer points.")
    assert str(refusal.value) == (
        "a distance matrix needs about 2.00 GiB, which is more than 50% of what is available, "
        "2.00 GiB. Take fewer points."
    )
    with pytest.raises(MemoryEstimateError, match=r"more than the limit, 1\.00 GiB"):
        require_memory(GIB + 1, "a distance matrix", "take fewer points", limit=GIB)
    require_memory(4 * GIB, "a distance matrix", "take fewer points", share=1)


def test_a_refusal_is_a_memory_error():
    assert issubclass(MemoryEstimateError, MemoryError)
