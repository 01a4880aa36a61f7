"""The benchmarks run, also without the peers; what they measure is another matter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.long
def test_capture_is_measured_and_its_answers_are_those_of_plain_hooks(tmp_path):
    result = tmp_path / "capture.json"
    command = [sys.executable, BENCHMARKS / "capture.py", "--quick", "--output", result]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    cases = json.loads(result.read_text())["cases"]
    assert cases
    for case in cases.values():
        assert case["largest_difference"]["hooks that store a copy"] < 1e-6
        assert case["ratio_to_plain"]["geomprobe, filling"]["median"] > 0


@pytest.mark.long
def test_fisher_informations_are_measured_and_those_of_peers_are_the_same(tmp_path):
    result = tmp_path / "fisher.json"
    command = [sys.executable, BENCHMARKS / "fisher.py", "--quick", "--cases", "Gram"]
    command += ["--output", result]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (rows,) = json.loads(result.read_text())["cases"].values()
    assert rows["geomprobe"]["seconds"]["median"] > 0
    assert rows["torch_func"]["difference"] < 1e-5


def test_results_are_committed_with_versions_and_without_names_of_machines():
    for path in BENCHMARKS.glob("results/*.json"):
        document = json.loads(path.read_text())
        assert not document["quick"]
        assert {"python", "geomprobe", "torch", "numpy"} <= set(document["versions"])
        assert set(document["machine"]) <= {
            "system",
            "cpu",
            "cores",
            "threads",
            "load_at_start",
            "load_at_end",
        }
