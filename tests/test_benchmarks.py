"""The benchmarks run, also without the peers; what they measure is another matter."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def measured(folder, script, *options):
    """Run a benchmark with small data, and return the figures by case."""
    result = folder / "figures.json"
    command = [sys.executable, BENCHMARKS / script, "--quick", "--output", result, *options]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return json.loads(result.read_text())["cases"]


@pytest.mark.long
def test_capture_is_measured_and_its_answers_are_those_of_plain_hooks(tmp_path):
    cases = measured(tmp_path, "capture.py")
    assert cases
    for case in cases.values():
        assert case["largest_difference"]["hooks that store a copy"] < 1e-6
        assert case["ratio_to_plain"]["geomprobe, filling"]["median"] > 0


@pytest.mark.long
def test_regions_are_counted_beside_other_packages(tmp_path):
    cases = measured(tmp_path, "tropical.py", "--rounds", "1", "--cases", "20-16-16-3")
    (rows,) = cases.values()
    assert rows["geomprobe"]["regions"] >= rows["grid"]["regions"] > 10
    # A peer that is not installed is told of.
    assert rows["regioncam"].get("difference", 0) == 0


@pytest.mark.long
def test_ranks_of_neurovarieties_are_taken_beside_other_ways(tmp_path):
    (case,) = measured(tmp_path, "neurovarieties.py").values()
    # Finkel, Rodriguez, Wu and Yahl (2024): L n^2 - (L - 1) n for widths (n, ..., n).
    assert case["rank"] == 3 * 10**2 - 2 * 10
    assert {"geomprobe", "whole", "plain"} <= set(case["seconds"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "case", "peer"),
    [("homology.py", "H1", "ripser"), ("mst.py", "500 x 64", "scipy_dense")],
)
def test_one_case_beside_one_peer_is_measured_and_the_answers_agree(tmp_path, script, case, peer):
    cases = measured(tmp_path, script, "--cases", case, "--peers", peer, "--rounds", "1")
    (rows,) = cases.values()
    assert rows["geomprobe"]["seconds"]["median"] > 0
    assert rows[peer]["difference"] < 1e-6


@pytest.mark.long
def test_cases_of_a_file_are_renewed_if_it_is_of_the_same_versions(tmp_path):
    (tmp_path / "figures.json").write_text('{"quick": false, "cases": {}}')
    with pytest.raises(subprocess.CalledProcessError) as failed:
        measured(tmp_path, "mst.py", "--cases", "500 x 64")
    assert b"is of quick False, not True: measure all of its cases" in failed.value.stderr
    (tmp_path / "figures.json").unlink()
    case = ("mst.py", "--cases", "500 x 64", "--peers", "scipy_dense", "--rounds", "1")
    measured(tmp_path, *case)
    result = json.loads((tmp_path / "figures.json").read_text())
    result["cases"]["another"] = {"geomprobe": {}}
    (tmp_path / "figures.json").write_text(json.dumps(result))
    assert measured(tmp_path, *case)["another"] == {"geomprobe": {}}


def test_a_contender_that_was_left_out_is_compared_in_its_first_rounds(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    peers, mst = importlib.import_module("peers"), importlib.import_module("mst")
    late = "over 60 s"
    runs = {
        "lower_blocks": peers.Runs([2.0, 4.0, 1.0]),
        "all_blocks": peers.Runs([2.0], failed=late),
        "geomprobe": peers.Runs([3.0, 8.0], answer={"lengths": 1.0}, failed=late),
        "ripser": peers.Runs(failed=late),
    }
    rows = peers.table(runs, "geomprobe", lambda answer: 0.0)
    assert rows["lower_blocks"]["ratio_to_geomprobe"]["median"] == (2 / 3 + 4 / 8) / 2
    assert rows["ripser"] == {"failed": late}
    # The floor is half of two seconds, then four, then one.
    ratios = mst.to_floor(runs)
    assert set(ratios) == set(mst.FLOORS) | {"geomprobe"}
    assert (ratios["geomprobe"]["min"], ratios["geomprobe"]["max"]) == (2, 3)
    # Without a run of geomprobe there are seconds, but nothing to compare them with.
    runs["geomprobe"] = peers.Runs(failed=late)
    rows = peers.table(runs, "geomprobe", lambda answer: 0.0)
    assert set(rows["lower_blocks"]) == {"seconds", "peak_mib"}
    peers.show("late", rows)


@pytest.mark.long
def test_fisher_informations_are_measured_and_those_of_peers_are_the_same(tmp_path):
    (rows,) = measured(tmp_path, "fisher.py", "--cases", "Gram").values()
    assert rows["geomprobe"]["seconds"]["median"] > 0
    assert rows["torch_func"]["difference"] < 1e-5


@pytest.mark.long
def test_surfaces_are_measured_and_losses_are_those_of_plain_passes(tmp_path):
    (rows,) = measured(tmp_path, "surfaces.py", "--rounds", "1", "--peers", "plain").values()
    assert rows["geomprobe"]["seconds"]["median"] > 0
    assert rows["plain"]["difference"] < 1e-5


@pytest.mark.long
def test_steps_that_a_monitor_is_told_of_are_timed_beside_the_others(tmp_path):
    (row,) = measured(tmp_path, "callbacks.py", "--cases", "plain").values()
    assert row["steps"] == 99
    assert 0 < row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
    assert row["observations"] >= 1
    assert row["observing"] > 0
    assert row["difference"] == 0


@pytest.mark.long
def test_networks_are_aligned_beside_a_peer(tmp_path):
    (rows,) = measured(tmp_path, "landscape.py", "--rounds", "1", "--cases", "align").values()
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
