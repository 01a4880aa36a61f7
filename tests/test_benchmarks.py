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
def test_regions_are_counted_beside_other_packages(tmp_path):
    result = tmp_path / "tropical.json"
    options = ["--quick", "--rounds", "1", "--cases", "20-16-16-3", "--output", result]
    command = [sys.executable, BENCHMARKS / "tropical.py", *options]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (rows,) = json.loads(result.read_text())["cases"].values()
    assert rows["geomprobe"]["regions"] >= rows["grid"]["regions"] > 10
    # A peer that is not installed is told of.
    assert rows["regioncam"].get("difference", 0) == 0


@pytest.mark.long
def test_ranks_of_neurovarieties_are_taken_beside_other_ways(tmp_path):
    result = tmp_path / "neurovarieties.json"
    command = [sys.executable, BENCHMARKS / "neurovarieties.py", "--quick", "--output", result]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (case,) = json.loads(result.read_text())["cases"].values()
    # Finkel, Rodriguez, Wu and Yahl (2024): L n^2 - (L - 1) n for widths (n, ..., n).
    assert case["rank"] == 3 * 10**2 - 2 * 10
    assert {"geomprobe", "whole", "plain"} <= set(case["seconds"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "case", "peer"),
    [("homology.py", "H1", "ripser"), ("mst.py", "500 x 64", "scipy_dense")],
)
def test_one_case_beside_one_peer_is_measured_and_the_answers_agree(tmp_path, script, case, peer):
    result = tmp_path / "figures.json"
    choice = ["--cases", case, "--peers", peer, "--rounds", "1", "--output", result]
    command = [sys.executable, BENCHMARKS / script, "--quick", *choice]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (rows,) = json.loads(result.read_text())["cases"].values()
    assert rows["geomprobe"]["seconds"]["median"] > 0
    assert rows[peer]["difference"] < 1e-6


@pytest.mark.long
def test_fisher_informations_are_measured_and_those_of_peers_are_the_same(tmp_path):
    result = tmp_path / "fisher.json"
    command = [sys.executable, BENCHMARKS / "fisher.py", "--quick", "--cases", "Gram"]
    command += ["--output", result]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (rows,) = json.loads(result.read_text())["cases"].values()
    assert rows["geomprobe"]["seconds"]["median"] > 0
    assert rows["torch_func"]["difference"] < 1e-5


@pytest.mark.long
def test_surfaces_are_measured_and_losses_are_those_of_plain_passes(tmp_path):
    result = tmp_path / "surfaces.json"
    options = ["--quick", "--rounds", "1", "--peers", "plain", "--output", result]
    command = [sys.executable, BENCHMARKS / "surfaces.py", *options]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (rows,) = json.loads(result.read_text())["cases"].values()
    assert rows["geomprobe"]["seconds"]["median"] > 0
    assert rows["plain"]["difference"] < 1e-5


@pytest.mark.long
def test_a_watched_training_is_timed_beside_the_same_training(tmp_path):
    result = tmp_path / "callbacks.json"
    choice = ["--cases", "plain", "--rounds", "1", "--output", result]
    command = [sys.executable, BENCHMARKS / "callbacks.py", "--quick", *choice]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (row,) = json.loads(result.read_text())["cases"].values()
    assert row["ratio_counted"]["median"] > 0
    assert row["observations"][0] >= 1
    assert row["difference"] == 0


@pytest.mark.long
def test_networks_are_aligned_beside_a_peer(tmp_path):
    result = tmp_path / "landscape.json"
    options = ["--quick", "--rounds", "1", "--cases", "align", "--output", result]
    command = [sys.executable, BENCHMARKS / "landscape.py", *options]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (rows,) = json.loads(result.read_text())["cases"].values()
    assert rows["geomprobe"]["measure"] <= rows["unaligned"]["measure"]
    # A peer that is not installed is told of.
    assert rows["rebasin"]["failed"] or rows["rebasin"]["difference"] > -0.1


@pytest.mark.long
def test_audits_by_several_workers_are_timed_and_are_those_of_one(tmp_path):
    result = tmp_path / "scaling.json"
    options = ["--quick", "--rounds", "1", "--cases", "serial", "loky", "--output", result]
    command = [sys.executable, BENCHMARKS / "scaling.py", *options]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    cases = json.loads(result.read_text())["cases"]
    assert cases["serial"]["seconds"]["median"] > 0
    assert cases["loky"]["same_findings"]


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
