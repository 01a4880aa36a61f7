"""A third party's package, installed for real, brings an analyzer of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "plugin"
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"

USE = """
import json
import numpy as np
from geomprobe import CloudSet, Evidence, PointCloud, analyze, load_analyzer, registered_analyzers

points = np.array([[3, 4], [6, 8], [np.nan, 0]])
evidence = Evidence(CloudSet([PointCloud(points, layer="layer")]))
by_name = list(analyze(evidence, "mean_norm", strict=True))
with_parameter = list(analyze(evidence, load_analyzer("mean_norm", p=1), strict=True))
among_all = [f for f in analyze(evidence) if f.analyzer == "mean_norm"]
findings = [f.to_dict() for f in by_name + with_parameter + among_all]
print(json.dumps({"registered": sorted(registered_analyzers()), "findings": findings}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the plugin installed in it."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(folder)]
    subprocess.run([*pip, *offline, str(PLUGIN)], check=True)
    return folder


def run(script: str, **variables: str) -> str:
    environment = {**os.environ, **variables}
    command = [sys.executable, "-W", "ignore", "-c", script]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_an_installed_plugin_is_found_run_by_name_and_right(installed):
    result = json.loads(run(USE, PYTHONPATH=str(installed)))
    assert "mean_norm" in result["registered"]
    assert "persistent_homology" in result["registered"]

    by_name, with_parameter, among_all = result["findings"]
    assert (by_name["analyzer"], by_name["subject"]) == ("mean_norm", "layer")
    assert by_name["notes"] == ["1 points with NaN or infinity left out"]
    # Norms 5 and 10: mean 7.5, standard error (5/sqrt 2)/sqrt 2.
    assert by_name["scalars"]["mean_norm"] == {
        "value": 7.5,
        "stderr": pytest.approx(2.5),
        "n": 2,
        "exact": False,
        "method": "mean 2-norm",
        "note": "",
    }
    assert with_parameter["scalars"]["mean_norm"]["value"] == 10.5  # (3 + 4 + 6 + 8)/2
    assert among_all["scalars"] == by_name["scalars"]


def test_without_the_plugin_there_is_no_such_analyzer():
    script = "import geomprobe as gp; print('mean_norm' in gp.registered_analyzers())"
    assert run(script).strip() == "False"


@pytest.mark.parametrize("file", ["geomprobe_mean_norm.py", "pyproject.toml"])
def test_the_five_steps_of_contributing_show_the_plugin_as_it_is(file):
    blocks = re.findall(r"```\w+\n(.*?)```", CONTRIBUTING.read_text(encoding="utf-8"), re.DOTALL)
    assert (PLUGIN / file).read_text(encoding="utf-8") in blocks
