import copy
import os
import signal
import sys
import time
import types

import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp

X, Y = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2


def monitor_of(model, analyzers="persistent_homology", **options):
    options = {"budget": None, "workers": 1, "every": "2 steps", "points": 30, **options}
    return gp.Monitor(model, (X, Y), analyzers=analyzers, **options)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


def analyzer(body):
    """An analyzer that a worker can load: what is defined in a function is sent whole."""

    class Custom:
        name = "custom"
        needs = frozenset({"activations"})
        readings = {}

        def __call__(self, evidence):
            yield from body(evidence)

    return Custom()


def train(model, monitor, steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.step(loss=loss.item())


@pytest.mark.long
def test_findings_are_those_of_the_training_process_at_the_step_they_belong_to():
    analyzers = ["persistent_homology", "fisher_information"]
    histories = []
    for workers in (0, 2):
        model = network()
        options = dict(analyzers=analyzers, loss=nn.functional.cross_entropy, samples=8)
        with monitor_of(model, workers=workers, **options) as monitor:
            train(model, monitor, 6)
        histories.append(monitor.history)
    for here, there in zip(*histories, strict=True):
        assert (here.step, here.loss) == (there.step, there.loss)
        assert len(here.findings) == len(there.findings)
        for one, other in zip(here.findings, there.findings, strict=True):
            assert one.failed is None
            assert (one.analyzer, one.subject) == (other.analyzer, other.subject)
            for name, estimate in one.scalars.items():
                assert other.scalars[name].value == pytest.approx(estimate.value, rel=1e-4)


@pytest.mark.long
def test_the_step_does_not_wait_and_the_time_of_the_worker_is_accounted_for():
    def slow(evidence):
        started = time.process_time()
        while time.process_time() - started < 1.0:
            pass
        pid = gp.Estimate(float(os.getpid()), exact=True)
        yield gp.Finding("custom", "model", {"pid": pid})

    with monitor_of(network(), analyzer(slow), every="1 step", workers=1) as monitor:
        monitor.step()
        assert len(monitor._history) == 0
        monitor.step()  # Put off: the worker is busy.
        (record,) = monitor.history
    assert record.step == 1
    assert record.findings[0].scalars["pid"].value != os.getpid()
    assert record.seconds > 1.0
    assert monitor._budget.spent > 1.0
    assert [record.step for record in monitor.history] == [1, 2]


@pytest.mark.long
def test_a_worker_that_dies_is_a_failed_finding_and_the_next_observation_gets_another():
    def die_first(evidence):
        if evidence.step == 2:
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        yield gp.Finding("custom", "model")

    monitor = monitor_of(network(), analyzer(die_first))
    monitor.step()
    monitor.step()
    with pytest.warns(gp.GeomprobeWarning, match="the process that analyzed has died"):
        first = monitor.history[0].findings
    assert "has died" in first[0].failed
    assert monitor.history[0].seconds > 0.5
    monitor.step()
    monitor.step()
    monitor.close()
    assert monitor.history[1].findings[0].failed is None


@pytest.mark.long
def test_an_analyzer_that_fails_in_the_worker_is_warned_of_here():
    def fail(evidence):
        yield gp.Finding("custom", "model")
        raise RuntimeError("no luck")

    def take_all_memory(evidence):
        if sys.platform == "linux":  # No other system keeps to the limit.
            import resource

            with open("/proc/self/statm") as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            _, most = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, most))
            np.ones(2**28)
        raise MemoryError
        yield

    monitor = monitor_of(network(), [analyzer(fail), analyzer(take_all_memory)])
    monitor.step()
    monitor.step()
    luckless = pytest.warns(gp.GeomprobeWarning, match="RuntimeError: no luck")
    with pytest.warns(gp.GeomprobeWarning, match="MemoryError"), luckless:
        monitor.close()
    first, second, third = (finding.failed for finding in monitor.history[0].findings)
    assert (first, second) == (None, "RuntimeError: no luck")
    assert "MemoryError" in third


class Local:
    name = "local"
    needs = frozenset({"activations"})
    readings = {}

    def __call__(self, evidence):
        yield gp.Finding(self.name, "model")


@pytest.mark.long
def test_what_a_worker_cannot_load_is_analyzed_here(monkeypatch):
    only_here = types.ModuleType("only_here")
    only_here.Local = Local
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    monkeypatch.setattr(Local, "__module__", "only_here")
    monitor = monitor_of(network(), Local())
    monitor.step()
    monitor.step()
    with pytest.warns(gp.GeomprobeWarning, match="the training process does it: ModuleNotFound"):
        monitor.close()
    assert monitor.history[0].findings[0].failed is None


def test_what_cannot_be_sent_at_all_is_analyzed_here():
    stuck = Local()
    stuck.lock = (n for n in range(3))  # Generators cannot be pickled.
    monitor = monitor_of(network(), stuck)
    monitor.step()
    with pytest.warns(gp.GeomprobeWarning, match="analyses run in the training process"):
        monitor.step()
    assert monitor.history[0].findings[0].failed is None


@pytest.mark.long
def test_the_snapshot_does_not_follow_the_training():
    def weight(evidence):
        time.sleep(0.5)
        value = gp.Estimate(evidence.model[0].weight[0, 0].item(), exact=True)
        yield gp.Finding("custom", "model", {"weight": value})

    one = analyzer(weight)
    type(one).needs = frozenset({"model"})
    model = network()
    before = model[0].weight[0, 0].item()
    monitor = monitor_of(model, one, every="1 step")
    monitor.step()
    with torch.no_grad():
        model[0].weight.zero_()
    monitor.close()
    assert monitor.history[0].findings[0].scalars["weight"].value == before


@pytest.mark.long
def test_a_model_with_its_monitor_can_be_copied_in_the_middle_of_the_training():
    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()
            self.monitor = monitor_of(self, layers="body.0", every="1 step")

        def forward(self, x):
            return self.body(x)

    model = Watched()
    train(model, model.monitor, 1)
    other = copy.deepcopy(model)
    train(other, other.monitor, 1)
    other.monitor.close()
    model.monitor.close()
    assert [record.step for record in model.monitor.history] == [1]
    assert [record.step for record in other.monitor.history] == [1, 2]
    assert other.monitor._model is other
    assert not any(f.failed for record in other.monitor.history for f in record.findings)


class _Unloadable:
    """Pickles, and does not unpickle."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise TypeError("this cannot be loaded")


@pytest.mark.long
def test_what_cannot_be_copied_is_a_failed_finding_and_the_training_goes_on():
    model = network()
    model.spoiled = _Unloadable()
    needy = analyzer(lambda evidence: [gp.Finding("custom", "model")])
    type(needy).needs = frozenset({"model"})
    monitor = monitor_of(model, needy, loss=nn.functional.cross_entropy)
    with pytest.warns(gp.GeomprobeWarning):
        train(model, monitor, 2)
        [finding] = monitor.history[0].findings
        assert "cannot be copied" in str(finding.failed), finding
    train(model, monitor, 2)
    monitor.close()
    # Once is enough: the next one is not sent to a worker.
    assert monitor.history[1].findings[0].failed is None


@pytest.mark.long
def test_an_analysis_that_ends_like_an_interrupt_does_not_interrupt_the_training():
    def interrupt(evidence):
        raise KeyboardInterrupt
        yield

    model = network()
    monitor = monitor_of(model, analyzer(interrupt))
    with pytest.warns(gp.GeomprobeWarning, match="KeyboardInterrupt"):
        train(model, monitor, 2)
        monitor.close()
    assert "ended by KeyboardInterrupt" in monitor.history[0].findings[0].failed
    assert monitor.state_dict()["history"]
