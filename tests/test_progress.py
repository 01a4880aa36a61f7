"""Bars that whoever calls does without."""

import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.information.analyzers import LearningCoefficient
from geomprobe.landscape.analyzers import LossSurface
from geomprobe.progress import progress_bar, without_progress


def test_items_pass_with_a_bar_and_without():
    with without_progress(), without_progress(silent=False):
        hidden = progress_bar([1, 2], "some")
    assert hidden.disable
    assert list(hidden) == [1, 2]
    for bar in (progress_bar([1, 2], "some"), progress_bar(None, "some", 3)):
        assert not bar.disable
        bar.close()
    assert progress_bar([1, 2], "some", show=False).disable


@pytest.mark.parametrize("progress", [True, False])
def test_an_audit_without_progress_has_no_bar_of_any_analyzer(progress, monkeypatch):
    class Bar:
        def __init__(self, items=None, desc=None, *_, disable=False, **__):
            self.items = items
            made[desc] = not disable

        def __iter__(self):
            return iter(self.items)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def set_postfix_str(self, text):
            pass

    made = {}
    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    gp.audit(
        nn.Linear(3, 2),
        (x, torch.arange(20) % 2),
        layers="*",
        loss=nn.functional.cross_entropy,
        analyzers=[LearningCoefficient(chains=2, draws=20), LossSurface(points=3, lines=2)],
        n_train=20,
        progress=progress,
        strict=True,
    )
    assert {"langevin", "loss slice"} <= made.keys()
    assert set(made.values()) == {progress}
