import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.exceptions import DetachedProbeWarning, LayerSelectionError, SkippedLayerWarning


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))


def test_clouds_are_the_outputs_though_the_next_layer_works_in_place():
    model, x = mlp(), torch.randn(6, 3)
    with gp.Probe(model, layers="*", exclude="(root)") as probe:
        model(x[:2])
        model(x[2:])
    expected = model[0](x).detach()
    assert np.allclose(probe.clouds["0"].points, expected, atol=1e-6)
    assert probe.clouds["0"].points.min() < 0
    assert np.allclose(probe.clouds["1"].points, expected.relu(), atol=1e-6)
    assert probe.clouds["2"].sample_ids.tolist() == list(range(6))


def test_all_layers_keep_the_same_samples_and_memory_is_bounded():
    model = mlp()
    with gp.Probe(model, layers=["0", "2"], points=10) as probe:
        for _ in range(30):
            model(torch.randn(7, 3))
    a, b = probe.clouds.values()
    assert len(a) == len(b) == 10
    assert np.array_equal(a.sample_ids, b.sample_ids)
    assert a.meta["seen"] == 210


def test_ids_and_labels_can_be_given():
    model = mlp()
    with gp.Probe(model, layers="2") as probe:
        probe.identify(ids=[7, 3], labels=[1, 0])
        model(torch.zeros(2, 3))
    cloud = probe.clouds["2"]
    assert cloud.sample_ids.tolist() == [3, 7]
    assert cloud.labels.tolist() == [0, 1]


def test_ids_and_labels_are_those_of_one_batch_and_all_batches_have_labels_or_none():
    model = mlp()
    with gp.Probe(model, layers="2") as probe:
        probe.identify(ids=[70, 30])
        model(torch.zeros(2, 3))
        model(torch.zeros(2, 3))
    assert probe.clouds["2"].sample_ids.tolist() == [2, 3, 30, 70]
    with gp.Probe(model, layers="2", strict=True) as probe:
        probe.identify(labels=[0, 1])
        model(torch.zeros(2, 3))
        with pytest.raises(ValueError, match="with labels, or none"):
            model(torch.zeros(2, 3))


def test_wide_layers_are_projected_and_say_so():
    model = nn.Sequential(nn.Linear(3, 500))
    with gp.Probe(model, layers="0", max_width=64) as probe:
        model(torch.randn(20, 3))
    cloud = probe.clouds["0"]
    assert cloud.points.shape == (20, 64)
    assert cloud.meta["width"] == 500
    assert cloud.meta["projection"]["dimensions"] == 64
    assert probe.manifest[0]["dimension"] == 500


def test_half_precision_is_kept_in_float32_and_the_source_named():
    model = nn.Sequential(nn.Linear(3, 4)).to(torch.bfloat16)
    with gp.Probe(model, layers="0") as probe:
        model(torch.zeros(2, 3, dtype=torch.bfloat16))
    assert probe.clouds["0"].points.dtype == np.float32
    assert probe.clouds["0"].meta["dtype"] == "bfloat16"


def test_positions_of_a_convolution_are_points():
    model = nn.Sequential(nn.Conv2d(1, 3, 3))
    with gp.Probe(model, layers="0", pool="positions", points=1000) as probe:
        probe.identify(labels=[4, 5])
        model(torch.randn(2, 1, 6, 6))
    cloud = probe.clouds["0"]
    assert cloud.points.shape == (32, 3)
    assert np.bincount(cloud.sample_ids).tolist() == [16, 16]
    assert np.array_equal(cloud.labels, cloud.sample_ids + 4)


def test_the_phase_is_recorded():
    model = mlp().train()
    with gp.Probe(model, layers="2") as probe:
        model(torch.zeros(2, 3))
        model.eval()
        model(torch.zeros(2, 3))
    assert probe.clouds["2"].meta["phases"] == ["eval", "train"]


class Odd(nn.Module):
    """Layers whose outputs are integers, dataclasses, of changing width, and one never called."""

    @dataclass
    class Output:
        hidden: torch.Tensor

    class Argmax(nn.Module):
        def forward(self, x):
            return x.argmax(dim=1)

    class Wrap(nn.Module):
        def forward(self, x):
            return Odd.Output(x)

    class Grow(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), len(x))

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.wrap, self.argmax, self.grow = self.Wrap(), self.Argmax(), self.Grow()
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        h = self.wrap(self.first(x)).hidden
        self.grow(h)
        return h, self.argmax(h)


def test_any_model_or_a_reason():
    model = Odd()
    with pytest.warns(SkippedLayerWarning) as caught, gp.Probe(model, layers="*") as probe:
        model(torch.randn(4, 3))
        model(torch.randn(5, 3))
    assert set(probe.clouds) == {"(root)", "first", "wrap"}
    rows = {row["name"]: row for row in probe.manifest}
    assert rows["argmax"]["reason"] == "no dense floating-point tensor in the output, only int64"
    assert "width changed from 4 to 5" in rows["grow"]["reason"]
    assert rows["unused"]["reason"].startswith("never called")
    assert all(rows[n]["status"] == "skipped" for n in ("argmax", "grow", "unused"))
    assert rows["wrap"]["status"] == "observed"
    assert len(caught) == 3


def test_out_proj_of_attention_is_used_functionally_and_listed():
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    probe = gp.Probe(model, layers=["*out_proj", "0.linear1"])
    with pytest.warns(SkippedLayerWarning, match=r"out_proj.*never called.*another module"), probe:
        model(torch.randn(2, 5, 8))
    assert list(probe.clouds) == ["0.linear1"]


def test_nan_activations_are_kept_and_can_be_told_from_the_finite():
    model = nn.Sequential(nn.Linear(3, 4))
    x = torch.randn(5, 3)
    x[2] = math.nan
    with gp.Probe(model, layers="0") as probe:
        model(x)
    cloud, dropped = probe.clouds["0"].finite()
    assert (len(cloud), dropped) == (4, 1)
    assert 2 not in cloud.sample_ids


def test_a_batch_of_one():
    model = mlp()
    with gp.Probe(model, layers="2") as probe:
        model(torch.zeros(1, 3))
    assert probe.clouds["2"].points.shape == (1, 2)


def test_ids_of_the_wrong_length_detach_the_probe_and_strict_raises():
    model = mlp()
    with gp.Probe(model, layers="2") as probe:
        probe.identify(ids=[1, 2, 3])
        with pytest.warns(
            DetachedProbeWarning, match=r"ids of shape \(3,\) were given for a batch of 2"
        ):
            model(torch.zeros(2, 3))
    with gp.Probe(model, layers="2", strict=True) as probe:
        probe.identify(ids=[1, 2, 3])
        with pytest.raises(ValueError, match=r"ids of shape \(3,\) were given for a batch of 2"):
            model(torch.zeros(2, 3))


def test_bad_parameters_are_refused_before_any_hook():
    model = mlp()
    with pytest.raises(ValueError, match="points must be at least 1, got 0"):
        gp.Probe(model, points=0)
    with pytest.raises(ValueError, match=r"pool must be one of .* got 'max'"):
        gp.Probe(model, pool="max")
    with pytest.raises(ValueError, match="max_width must be a positive multiple of 4, got 6"):
        gp.Probe(model, max_width=6)
    with pytest.raises(LayerSelectionError, match="no layer matches 'fc'"):
        gp.Probe(model, layers="fc")
    assert not model[0]._forward_hooks
