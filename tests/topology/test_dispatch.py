"""Which engine runs, by what each is expected to take; none is run."""

import pytest

from geomprobe.exceptions import MemoryEstimateError
from geomprobe.topology import dispatch
from geomprobe.topology.dispatch import Size, choose
from geomprobe.topology.engines import ENGINES

installed = [name for name, engine in ENGINES.items() if engine.installed]
SIZE = Size(n_points=500, max_dim=2, simplices=(60_000, 4_000_000), spread=0.3)


@pytest.mark.parametrize("size", [SIZE, Size(2000, 1, (10**6,), 0.4), Size(100, 0, (4950,), 0.2)])
def test_the_fastest_engine_is_taken(size):
    seconds = {name: dispatch.expected_seconds(ENGINES[name], size) for name in installed}
    assert choose(size, memory_limit=2**50).name == min(seconds, key=seconds.get)


@pytest.mark.parametrize("first", installed)
def test_where_the_fastest_does_not_fit_the_next_one_runs(monkeypatch, first):
    order = [first, *(name for name in installed if name != first)]
    monkeypatch.setattr(dispatch, "expected_seconds", lambda one, size: order.index(one.name))
    monkeypatch.setattr(dispatch, "needed_bytes", lambda one, size: 9 - order.index(one.name))
    for place, name in enumerate(order):
        assert choose(SIZE, memory_limit=9 - place).name == name
    with pytest.raises(MemoryEstimateError, match=f"dimension 2 by {order[-1]} needs"):
        choose(SIZE, memory_limit=9 - len(order))
    # One that cannot do it does not count, however fast.
    able = [name for name in order if ENGINES[name].largest_coeff > 2]
    assert choose(SIZE, coeff=3, memory_limit=9).name == able[0]
    assert choose(SIZE, cocycles=True, memory_limit=9).name == "ripser"
