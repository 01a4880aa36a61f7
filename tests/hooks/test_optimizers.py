"""The optimizer itself, out of wrappers that are known, and no others."""

import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.hooks.optimizers import unwrap_optimizer

MODEL = nn.Linear(2, 1)


class Lookahead(torch.optim.Optimizer):
    """Steps otherwise than the optimizer that it holds."""

    def __init__(self, optimizer):
        super().__init__(optimizer.param_groups, {})
        self.optimizer = optimizer


def test_the_wrappers_of_frameworks_are_taken_off_and_other_optimizers_are_themselves():
    plain = torch.optim.SGD(MODEL.parameters(), lr=0.1)
    assert unwrap_optimizer(plain) is plain
    other = Lookahead(plain)
    assert unwrap_optimizer(other) is other
    accelerate = pytest.importorskip("accelerate")
    wrapped = accelerate.Accelerator(cpu=True).prepare(plain)
    assert wrapped is not plain
    assert unwrap_optimizer(wrapped) is plain


def test_a_monitor_says_at_once_that_an_analyzer_needs_an_optimizer():
    data = torch.zeros(4, 2), torch.zeros(4, 1)
    with pytest.warns(gp.GeomprobeWarning, match="give the Monitor optimizer="):
        gp.Monitor(MODEL, data, analyzers="edge_of_stability", loss=nn.functional.mse_loss)
    with pytest.raises(TypeError, match="loss must be a callable"):
        gp.Monitor(MODEL, data, loss="mse_loss")
    with pytest.raises(TypeError, match="loss must be a callable"):
        gp.audit(MODEL, data, loss="mse_loss")


def test_what_is_no_optimizer_is_refused_before_any_work():
    data = torch.zeros(4, 2), torch.zeros(4, 1)
    for what in ("adam", MODEL, torch.optim.SGD):
        with pytest.raises(TypeError, match="optimizer must have param_groups"):
            gp.audit(MODEL, data, optimizer=what)
        with pytest.raises(TypeError, match="optimizer must have param_groups"):
            gp.Monitor(MODEL, data, optimizer=what)
