"""The README does what it says: its Python runs, its commands and links exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from geomprobe.cli import app

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(*languages: str) -> list[str]:
    fence = rf"^```(?:{'|'.join(languages)})\n(.*?)^```"
    return re.findall(fence, README, re.DOTALL | re.MULTILINE)


def command_lines(program: str) -> list[list[str]]:
    lines = [line for block in blocks("console", "bash") for line in block.splitlines()]
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0] == program]


PYTHON = blocks("python")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def namespace():
    """Names live on from one block to the next, as they do for a reader."""
    return {"__name__": "readme"}


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_blocks_run_in_order(number, folder, namespace, monkeypatch):
    monkeypatch.chdir(folder)
    exec(compile(PYTHON[number], f"README.md, Python block {number + 1}", "exec"), namespace)


def test_there_is_something_to_run():
    assert len(PYTHON) >= 2
    assert len(command_lines("geomprobe")) >= 2
    assert len(command_lines("make")) >= 2


def test_make_commands_exist():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^(\w+):", makefile, re.MULTILINE)
    assert {line[0] for line in command_lines("make")} <= set(targets)


def test_geomprobe_commands_and_their_options_exist():
    commands = typer.main.get_command(app).commands
    for name, *arguments in command_lines("geomprobe"):
        assert name in commands
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("-")} <= known


def test_links_and_pictures_within_the_repository_exist():
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    local = [target for target in targets if "://" not in target]
    assert local
    assert [target for target in local if not (REPOSITORY / target).exists()] == []
