from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from geomprobe import (
    Analyzer,
    CloudSet,
    Estimate,
    Evidence,
    Finding,
    PointCloud,
    analyze,
    load_analyzer,
    registered_analyzers,
)
from geomprobe.analyzer import ENTRY_POINTS, resolve_analyzers
from geomprobe.exceptions import FailedAnalysisWarning

EVIDENCE = Evidence(CloudSet([PointCloud(np.arange(10.0).reshape(5, 2), layer="a")]))


@dataclass(frozen=True)
class Count:
    """Counts points; fails with `error` after it has spoken of the first cloud."""

    name: ClassVar[str] = "count"
    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    readings: ClassVar[dict[str, str]] = {"points": "How many points the cloud has."}

    error: BaseException | None = None

    def __call__(self, evidence: Evidence) -> Iterable[Finding]:
        for layer, cloud in evidence.clouds.items():
            yield Finding(self.name, layer, {"points": Estimate(len(cloud), exact=True)})
            if self.error is not None:
                raise self.error


class NeedsPath(Count):
    name = "needs_path"
    needs = frozenset({"trajectory", "data", "activations"})


# --- the registry -------------------------------------------------------------------------------


def test_geomprobes_own_analyzers_are_registered_and_load():
    names = registered_analyzers()
    assert {"persistent_homology", "fisher_information", "effective_dimension"} <= names.keys()
    for name in names:
        analyzer = load_analyzer(name)
        assert isinstance(analyzer, Analyzer)
        assert analyzer.name == name
        assert all(reading.endswith(".") for reading in analyzer.readings.values())


def test_parameters_reach_the_analyzer():
    assert load_analyzer("persistent_homology", max_dim=0).max_dim == 0
    with pytest.raises(TypeError, match="no_such_parameter"):
        load_analyzer("persistent_homology", no_such_parameter=1)


def test_an_unknown_name_lists_what_there_is_and_what_is_near():
    with pytest.raises(ValueError, match=r"effective_dimension.*Did you mean 'persistent_homolo"):
        load_analyzer("persistent_homologi")
    with pytest.raises(ValueError, match=r"no analyzer 'xyz'.*'persistent_homology'.*\]\.$"):
        load_analyzer("xyz")


def test_what_is_registered_but_is_no_analyzer_is_refused(monkeypatch):
    point = SimpleNamespace(name="dud", load=lambda: dict)
    monkeypatch.setattr("geomprobe.analyzer.entry_points", lambda group: [point])
    with pytest.raises(TypeError, match=r"lacks \['name', 'needs', 'readings', '__call__'\]"):
        load_analyzer("dud")


def test_one_or_many_names_or_instances_resolve_in_order():
    count = Count()
    assert resolve_analyzers(count) == [count]
    assert [one.name for one in resolve_analyzers("persistent_homology")] == ["persistent_homology"]
    mixed = resolve_analyzers(one for one in (count, "effective_dimension"))
    assert [one.name for one in mixed] == ["count", "effective_dimension"]
    assert [one.name for one in resolve_analyzers(None)] == list(registered_analyzers())
    assert resolve_analyzers([]) == []


def test_a_class_in_place_of_an_instance_is_refused():
    with pytest.raises(TypeError, match="Give an instance"):
        resolve_analyzers(Count)
    with pytest.raises(TypeError, match="Give an instance"):
        resolve_analyzers([Count])


@pytest.mark.parametrize("lacking", ["name", "needs", "readings"])
def test_what_an_analyzer_lacks_is_named(lacking):
    parts = {"name": "n", "needs": frozenset(), "readings": {}, "__call__": lambda self, e: []}
    del parts[lacking]
    with pytest.raises(TypeError, match=rf"lacks \['{lacking}'\]"):
        resolve_analyzers(type("Partial", (), parts)())


def test_something_that_cannot_be_called_is_refused():
    still = SimpleNamespace(name="still", needs=frozenset(), readings={})
    with pytest.raises(TypeError, match=r"lacks \['__call__'\]"):
        resolve_analyzers(still)


def test_an_unknown_need_is_refused_and_the_known_ones_are_listed():
    class Dreamer(Count):
        name = "dreamer"
        needs = frozenset({"activations", "gradients"})

    with pytest.raises(TypeError, match=r"'dreamer' needs \['gradients'\].*'trajectory'"):
        resolve_analyzers(Dreamer())


# --- the loop -----------------------------------------------------------------------------------


def test_findings_come_with_their_seconds():
    [finding] = analyze(EVIDENCE, Count())
    assert finding.scalars == {"points": Estimate(5, exact=True)}
    assert finding.seconds > 0
    assert finding.failed is None


def test_findings_come_one_by_one():
    findings = analyze(EVIDENCE, [Count(), Count(error=AssertionError("asked for too much"))])
    assert next(findings).analyzer == "count"
    assert next(findings).failed is None


def test_missing_needs_make_one_failed_finding_that_names_them_and_the_next_analyzer_runs():
    with pytest.warns(FailedAnalysisWarning, match="needs_path of model failed: needs data"):
        failed, done = analyze(EVIDENCE, [NeedsPath(), Count()])
    assert (failed.analyzer, failed.subject) == ("needs_path", "model")
    assert failed.failed == "needs data, trajectory, which the evidence does not hold"
    assert done.failed is None


@pytest.mark.parametrize("error", [ValueError("bad data"), MemoryError("out of memory")])
def test_a_failure_keeps_what_came_before_warns_and_goes_on(error):
    with pytest.warns(
        FailedAnalysisWarning, match=f"count of model failed: {type(error).__name__}: "
    ):
        first, failed, after = analyze(EVIDENCE, [Count(error), Count()])
    assert first.scalars["points"].value == 5
    assert failed.failed == f"{type(error).__name__}: {error}"
    assert not failed.scalars
    assert after.failed is None


def test_strict_raises_what_the_analyzer_raises_after_what_came_before():
    findings = analyze(EVIDENCE, Count(ValueError("bad data")), strict=True)
    assert next(findings).scalars["points"].value == 5
    with pytest.raises(ValueError, match="bad data"):
        next(findings)


def test_an_interrupt_is_never_swallowed():
    findings = analyze(EVIDENCE, Count(KeyboardInterrupt()))
    next(findings)
    with pytest.raises(KeyboardInterrupt):
        next(findings)


def test_no_evidence_at_all_fails_every_analyzer_that_needs_some():
    with pytest.warns(FailedAnalysisWarning):
        findings = list(analyze(Evidence()))
    assert [finding.analyzer for finding in findings] == list(registered_analyzers())
    assert all("which the evidence does not hold" in finding.failed for finding in findings)


def test_a_registered_analyzer_that_does_not_load_fails_alone(monkeypatch):
    points = [
        EntryPoint("absent", "no_such_module:Absent", ENTRY_POINTS),
        EntryPoint(
            "persistent_homology", "geomprobe.topology.analyzers:PersistentHomology", ENTRY_POINTS
        ),
    ]
    monkeypatch.setattr("geomprobe.analyzer.entry_points", lambda group: points)
    with pytest.warns(FailedAnalysisWarning, match="absent of model failed: ModuleNotFoundError"):
        absent, present = analyze(EVIDENCE)
    assert absent.analyzer == "absent"
    assert "no_such_module" in absent.failed
    assert present.failed is None
    with pytest.raises(ModuleNotFoundError):
        load_analyzer("absent")
