from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def whole_precision(monkeypatch):
    """Convolve in float32 proper, as the CPU does."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
