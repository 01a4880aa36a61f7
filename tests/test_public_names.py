"""What geomprobe promises to the outside, and that the API reference tells of all of it."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import geomprobe

REFERENCE = Path(__file__).parents[1] / "docs" / "api"

#: A name enters or leaves this list on purpose, with a line in CHANGELOG.md.
PUBLIC = [
    "ActivationCloud",
    "Analyzer",
    "AuditReport",
    "CloudSet",
    "CloudStore",
    "Estimate",
    "Evidence",
    "Finding",
    "GeomprobeWarning",
    "Monitor",
    "PersistenceEntropy",
    "PointCloud",
    "Probe",
    "RipsPersistence",
    "Samples",
    "Trajectory",
    "TrajectoryRecorder",
    "analyze",
    "audit",
    "audit_many",
    "compare",
    "load_analyzer",
    "registered_analyzers",
]

PACKAGES = [
    "geomprobe",
    *(
        f"geomprobe.{path.parent.name}"
        for path in sorted(Path(geomprobe.__file__).parent.glob("*/__init__.py"))
    ),
    "geomprobe.topology.differentiable",
]
NAMES = [(package, name) for package in PACKAGES for name in import_module(package).__all__]

ANALYZERS = {
    f"{point.module}.{point.attr}"
    for point in geomprobe.registered_analyzers().values()
    if point.module.startswith("geomprobe.")
}


def documented() -> set[str]:
    """The full names in the autosummary tables of the API reference."""
    found = set()
    for page in REFERENCE.glob("*.md"):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = match[1]
            elif match := re.match(r"   (\w+)$", line):
                found.add(f"{module}.{match[1]}")
    return found


def test_public_names_are_these():
    assert sorted(geomprobe.__all__) == PUBLIC


def resolve(full_name: str) -> object:
    package, _, name = full_name.rpartition(".")
    return getattr(import_module(package), name)


@pytest.mark.parametrize(("package", "name"), NAMES, ids=[".".join(pair) for pair in NAMES])
def test_a_public_name_exists_has_a_docstring_and_is_in_the_reference(package, name):
    thing = getattr(import_module(package), name)
    # What is public in two places, as geomprobe.Probe in geomprobe.sampling, stands there once.
    assert any(thing is resolve(full_name) for full_name in documented())
    if inspect.isclass(thing) or inspect.isroutine(thing):
        assert inspect.cleandoc(thing.__doc__ or "")


@pytest.mark.parametrize("package", PACKAGES)
def test_public_methods_have_docstrings(package):
    module = import_module(package)
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) and thing.__module__.startswith("geomprobe"):
            for member, value in vars(thing).items():
                if not member.startswith("_") and inspect.isroutine(value):
                    assert inspect.getdoc(getattr(thing, member)), f"{package}.{name}.{member}"


def test_every_analyzer_is_in_the_reference():
    assert len(ANALYZERS) >= 3
    assert documented() >= ANALYZERS


def test_nothing_is_in_the_reference_that_is_not_public():
    assert documented() <= {f"{package}.{name}" for package, name in NAMES} | ANALYZERS


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_sorted_and_listed_once(package):
    names = import_module(package).__all__
    assert list(names) == sorted(set(names))


def test_what_is_reached_lazily_is_the_thing_itself_and_dir_lists_it():
    for name in geomprobe.__all__:
        thing = getattr(geomprobe, name)
        assert thing.__module__.startswith("geomprobe.")
        assert name in dir(geomprobe)
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(geomprobe, "no_such_name")  # noqa: B009


def test_a_function_does_not_share_its_name_with_a_module():
    modules = {path.stem for path in Path(geomprobe.__file__).parent.glob("*.py")}
    assert not {*modules, *(package.rpartition(".")[2] for package in PACKAGES)} & {
        *geomprobe.__all__
    }
