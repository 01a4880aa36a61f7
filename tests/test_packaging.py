"""What a user installs: metadata, entry points, and the contents of the wheel."""

import ast
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

import geomprobe

REPOSITORY = Path(__file__).parents[1]
SOURCES = [*REPOSITORY.glob("geomprobe/**/*.py"), *REPOSITORY.glob("examples/*.py")]
EXTRAS = {
    *("giotto", "fast", "lightning", "hf", "skorch", "ignite", "keras", "loggers", "dask", "ray"),
    *("zoo", "docs", "test", "dev"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as pip builds it: its names and the text of its METADATA."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *offline, str(REPOSITORY)], check=True)
    [path] = folder.glob("geomprobe-*.whl")
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        [metadata] = (name for name in names if name.endswith(".dist-info/METADATA"))
        return names, archive.read(metadata).decode()


def test_the_version_comes_from_one_place(wheel):
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", geomprobe.__version__)
    assert distribution("geomprobe").version == geomprobe.__version__
    assert f"\nVersion: {geomprobe.__version__}\n" in wheel[1]
    pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in pyproject
    assert geomprobe.__version__ not in pyproject


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    package = {
        path.relative_to(REPOSITORY).as_posix()
        for path in REPOSITORY.glob("geomprobe/**/*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    in_wheel = {name for name in wheel[0] if ".dist-info/" not in name}
    assert in_wheel == package
    assert "geomprobe/py.typed" in in_wheel
    assert any("/templates/" in name for name in in_wheel)


def test_the_wheel_carries_its_licence(wheel):
    assert any(name.endswith("LICENSE") for name in wheel[0])
    licence = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("MIT License")


def test_every_extra_of_the_design_is_there():
    assert set(distribution("geomprobe").metadata.get_all("Provides-Extra")) >= EXTRAS


def test_no_requirement_of_a_plain_installation_is_agpl():
    plain = [line for line in distribution("geomprobe").requires if "extra ==" not in line]
    assert plain
    assert not any(line.startswith("giotto") for line in plain)


def test_entry_points_load():
    analyzers = entry_points(group="geomprobe.analyzers")
    own = [point for point in analyzers if point.module.startswith("geomprobe.")]
    assert len(own) >= 3
    for point in own:
        assert point.load().name == point.name
    [command] = entry_points(group="console_scripts", name="geomprobe")
    assert callable(command.load())


@pytest.mark.parametrize(
    "path", SOURCES, ids=[path.relative_to(REPOSITORY).as_posix() for path in SOURCES]
)
def test_sources_are_python_3_10(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_the_grammar_check_sees_newer_syntax():
    with pytest.raises(SyntaxError):
        ast.parse("try:\n    pass\nexcept* ValueError:\n    pass", feature_version=(3, 10))
