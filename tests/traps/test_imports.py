"""Traps of packages that are installed and do not work."""

import os
import subprocess
import sys

import pytest

REASON = "operator torchvision::nms does not exist"


@pytest.fixture
def broken(tmp_path):
    """A folder of packages that are installed, of which none can be imported."""
    packages = {
        "torchvision": "torchvision",
        "lightning": "lightning",
        "pytorch_lightning": "pytorch-lightning",
        "transformers": "transformers",
        "gtda": "giotto-tda",
    }
    for module, name in packages.items():
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text(f"raise RuntimeError({REASON!r})\n")
        metadata = tmp_path / f"{name.replace('-', '_')}-9.9.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
    return tmp_path


def run(broken, *arguments):
    path = os.pathsep.join(filter(None, [str(broken), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=broken,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_trap_28_broken_optional_packages(broken):
    trap = run(broken, "-c", "import torchvision")
    assert REASON in trap.stderr
    code = """
import torch, geomprobe as gp
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
with gp.Probe(model) as probe:
    model(torch.randn(9, 3))
(finding, *_) = gp.Monitor(model, (torch.randn(9, 3),), workers=0).observe()
print(len(probe.clouds), finding.failed, [getattr(gp, name) for name in gp.__all__] != [])
"""
    used = run(broken, "-c", code)
    assert used.returncode == 0, used.stderr
    assert used.stdout.split() == ["2", "None", "True"]
    doctor = run(broken, "-m", "geomprobe", "doctor")
    assert doctor.returncode == 1, doctor.stderr
    lines = {line.split()[1]: line for line in doctor.stdout.splitlines()}
    assert lines["giotto-tda"].startswith("broken")
    assert REASON in lines["giotto-tda"]
    assert lines["torch"].startswith("ok")
    assert "persistent_homology" in lines
