import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe import memory
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
    assert cloud.meta["projection"]["distortion"] == pytest.approx(np.sqrt(8 * np.log(20) / 64))
    assert probe.manifest[0]["dimension"] == 500


def test_wide_layers_are_kept_as_they_are_where_that_is_asked_for():
    model, x = nn.Sequential(nn.Linear(3, 5000)), torch.randn(4, 3)
    with gp.Probe(model, layers="0", max_width=None) as probe:
        expected = model(x)
    assert np.array_equal(probe.clouds["0"].points, expected.detach())
    assert "projection" not in probe.clouds["0"].meta


def test_a_probe_that_is_taken_off_says_so_too_if_it_heard_nothing():
    model = nn.Sequential(nn.Linear(3, 4))
    probe = gp.Probe(model, layers="0").attach()
    with pytest.warns(SkippedLayerWarning, match="no forward pass"):
        probe.detach()
    probe.detach()  # Of what is off already nothing is said.


def test_a_layer_that_fires_twelve_times_has_a_cloud_a_time():
    class Shared(nn.Module):
        """As ALBERT: one layer, run over and over."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            for _ in range(12):
                x = self.layer(x)
            return x

    model, x = Shared(), torch.randn(5, 3)
    with gp.Probe(model, layers="layer") as probe:
        model(x)
    assert len(probe.clouds) == 12
    for cloud in probe.clouds.values():
        x = model.layer(x)
        assert np.array_equal(cloud.points, x.detach())


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


def test_phases_are_kept_apart():
    model = mlp().train()
    x = torch.randn(6, 3)
    with gp.Probe(model, layers="2") as probe:
        assert probe.clouds == {}
        model(x[:2])
        assert probe.clouds["2"].meta["phase"] == "train"
        model.eval()
        model(x[2:5])
        with probe.phase("sanity check"):
            model(x[5:])
    assert probe.phases == ("train", "eval", "sanity check")
    ids = [probe.clouds_of(phase)["2"].sample_ids.tolist() for phase in probe.phases]
    assert ids == [[0, 1], [2, 3, 4], [5]]
    assert probe.manifest[0]["points"] == 3
    with pytest.raises(ValueError, match=r"kept apart.*probe\.clouds_of\('train'\)"):
        _ = probe.clouds
    with pytest.raises(ValueError, match="no pass of the phase 'test' was seen"):
        probe.clouds_of("test")


def test_pools_are_chosen_by_the_first_pattern_that_matches():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(nn.Conv2d(3, 2, 3)), nn.ReLU())
    pools = {"1.*": "positions", "[01]": "mean"}
    with gp.Probe(model, layers="*", exclude="(root)", pool=pools) as probe:
        model(torch.randn(2, 1, 6, 6))
    shapes = {name: cloud.points.shape for name, cloud in probe.clouds.items()}
    assert shapes == {"0": (2, 3), "1": (2, 2), "1.0": (8, 2), "2": (2, 8)}
    used = {name: cloud.meta["pool"] for name, cloud in probe.clouds.items()}
    assert used == {"0": "mean", "1": "mean", "1.0": "positions", "2": "flatten"}
    with pytest.raises(ValueError, match="pool names 'head', which matches none of the layers"):
        gp.Probe(model, layers="0", pool={"head": "mean"})


def test_parts_of_inputs_and_outputs_are_chosen_by_ports():
    model = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    x = torch.randn(5, 7, 3)
    layers = ["0#in.input", "0", "0#out.1.0"]
    probe = gp.Probe(model, layers=layers, pool="last")
    with probe:
        model(x)
    outputs, (hidden, _) = model(x)
    assert np.array_equal(probe.clouds["0#in.input"].points, x[:, -1])
    assert np.allclose(probe.clouds["0"].points, outputs[:, -1].detach(), atol=1e-6)
    assert np.allclose(probe.clouds["0#out.1.0"].points, hidden[0].detach(), atol=1e-6)
    assert [row["type"] for row in probe.manifest] == ["LSTM"] * 3


def test_padding_told_by_the_attention_mask_stays_out():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

        def forward(self, input_ids, attention_mask=None):
            return self.head(self.embed(input_ids))

    model = Tagger()
    words = torch.tensor([[5, 6, 0], [7, 0, 0]])
    with gp.Probe(model, layers=["embed", "head"], pool={"embed": "tokens"}) as probe:
        model(words, attention_mask=(words != 0).long())
    embedded = model.embed(words).detach()
    assert probe.clouds["embed"].sample_ids.tolist() == [0, 0, 1]
    assert np.array_equal(
        np.sort(probe.clouds["embed"].points, axis=0),
        np.sort(embedded[words != 0], axis=0),
    )
    mean = torch.stack([embedded[0, :2].mean(dim=0), embedded[1, 0]])
    assert np.allclose(probe.clouds["head"].points, model.head(mean).detach(), atol=1e-6)
    assert probe.clouds["head"].meta["masked"]
    with gp.Probe(model, layers="head", mask=None, pool="tokens") as probe:
        model(words, attention_mask=(words != 0).long())
    assert len(probe.clouds["head"]) == 6


LENGTHS = torch.tensor([[4, 1, 3], [2, 4, 1]])  # Of the first and of the second sequences.
REAL, REAL_SECOND = (torch.arange(4) < lengths[:, None] for lengths in LENGTHS)


class Translator(nn.Module):
    """An encoder and a decoder of as many positions, and layers of which the names do not tell."""

    def __init__(self):
        super().__init__()
        self.embed, self.both = nn.Embedding(9, 8), nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
        self.head = nn.Linear(8, 9)

    def forward(self, src, tgt, **masks):
        return self.head(self.both(self.embed(src), self.embed(tgt), **masks))


def test_of_two_sequences_each_layer_has_the_padding_of_its_own():
    model, words = Translator().eval(), torch.randint(9, (3, 4))
    layers = ["both.encoder.layers.0", "both.decoder.layers.0", "head"]
    first, second = {"src_key_padding_mask": ~REAL}, {"tgt_key_padding_mask": ~REAL_SECOND}

    def tokens_of_each(positions=4, mask="auto", **masks):
        with gp.Probe(model, layers, pool="tokens", mask=mask) as probe, torch.no_grad():
            model(words, words[:, :positions], **masks)
        return [np.bincount(cloud.sample_ids).tolist() for cloud in probe.clouds.values()]

    encoder, decoder, longest = [4, 1, 3], [2, 4, 1], [4, 4, 4]
    with pytest.warns(SkippedLayerWarning, match="'head' gives no cloud: .*two sequences"):
        assert tokens_of_each(**first, **second) == [encoder, decoder]
    with pytest.warns(SkippedLayerWarning, match="'head' gives no cloud: .*two sequences"):
        assert tokens_of_each(**first) == [encoder, longest]
    assert tokens_of_each(**second) == [longest, decoder, decoder]
    assert tokens_of_each(3, **first) == [encoder, [3, 3, 3], [3, 3, 3]]
    for mask, head in ((None, longest), ("tgt_key_padding_mask", decoder)):
        assert tokens_of_each(mask={"head": mask}, **first, **second)[2] == head
    with pytest.raises(ValueError, match="mask names 'tail', which matches none of the layers"):
        gp.Probe(model, layers, mask={"tail": None})


def test_every_so_many_th_sample():
    model = mlp()
    with gp.Probe(model, layers="2", every=3) as probe:
        for size in (4, 5, 3):
            model(torch.randn(size, 3))
    assert probe.clouds["2"].sample_ids.tolist() == [0, 3, 6, 9]


def test_a_stratified_sample_has_every_label_in_equal_numbers():
    model = mlp()
    with gp.Probe(model, layers="2", points=9, sampler="stratified") as probe:
        for label in (0, 0, 0, 0, 1, 2):
            probe.identify(labels=np.full(5, label))
            model(torch.randn(5, 3))
    assert np.bincount(probe.clouds["2"].labels).tolist() == [3, 3, 3]


def test_farthest_points_cover_the_sample_and_say_how_well():
    model, x = nn.Sequential(nn.Identity()), torch.randn(400, 2)
    x[7] = math.nan
    with gp.Probe(model, layers="0", points=40, sampler="farthest") as probe:
        model(x)
    cloud = probe.clouds["0"]
    assert len(cloud) == probe.manifest[0]["points"] == 40
    assert cloud.meta["candidates"] + cloud.meta.get("nonfinite", 0) == 320
    assert 7 not in cloud.sample_ids
    with gp.Probe(model, layers="0", points=320) as probe:
        model(x)
    candidates, _ = probe.clouds["0"].finite()
    gaps = np.linalg.norm(candidates.points[:, None] - cloud.points[None], axis=2).min(axis=1)
    assert gaps.max() == pytest.approx(cloud.meta["covering_radius"], rel=1e-6)


def test_a_resumed_probe_goes_on_as_if_never_interrupted(tmp_path):
    model, x = mlp(), torch.randn(90, 3)

    def watch(probe, rows):
        with probe:
            for start in rows:
                probe.identify(labels=np.arange(10) % 3)
                model(x[start : start + 10])
        return probe

    options = dict(layers=["0", "2"], points=12, max_width=4, sampler="stratified")
    whole = watch(gp.Probe(model, **options), range(0, 90, 10))
    first = watch(gp.Probe(model, **options), range(0, 40, 10))
    torch.save(first.state_dict(), tmp_path / "probe.pt")
    resumed = gp.Probe(model, **options)
    resumed.load_state_dict(torch.load(tmp_path / "probe.pt", weights_only=True))
    watch(resumed, range(40, 90, 10))
    assert dict(resumed.clouds) == dict(whole.clouds)
    assert resumed.manifest == whole.manifest
    with pytest.raises(ValueError, match="cannot merge what was sampled with"):
        gp.Probe(model, layers=["0", "2"], points=5).load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match=r"clouds of \['0'\], which this probe does not see"):
        gp.Probe(model, **{**options, "layers": "2"}).load_state_dict(first.state_dict())


def test_a_probe_that_saw_no_pass_of_its_model_says_so():
    model = mlp()
    probe = gp.Probe(model, layers="2")
    with pytest.warns(SkippedLayerWarning, match="saw no forward pass of its model"), probe:
        pass
    with pytest.warns(SkippedLayerWarning, match="'2': called outside a forward pass"), probe:
        model[2](torch.zeros(1, 4))
    assert probe.manifest[0]["status"] == "skipped"


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


def test_a_layer_without_a_point_has_no_cloud_but_a_reason():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x, attention_mask):
            return self.layer(x)

    for options, mask in ((dict(every=100), torch.ones(5, 6)), ({}, torch.zeros(5, 6).bool())):
        probe = gp.Probe(Masked(), "layer", **options)
        with pytest.warns(SkippedLayerWarning, match="'layer': called, and gave no point"), probe:
            probe.identify(ids=range(1, 6))
            probe.model(torch.randn(5, 6, 3), attention_mask=mask)
        assert not probe.clouds
        assert probe.manifest[0]["status"] == "skipped"


def test_a_batch_of_none():
    model = nn.Sequential(nn.Conv1d(3, 4, 2), nn.Flatten(), nn.Linear(8, 2))
    with gp.Probe(model, "*") as probe:
        for size in (0, 2, 0):
            probe.identify(labels=np.arange(size))
            model(torch.zeros(size, 3, 3))
    assert {len(cloud) for cloud in probe.clouds.values()} == {2}
    assert probe.samples_seen == 2
    with (
        pytest.warns(SkippedLayerWarning, match="'2': called with no sample"),
        gp.Probe(model, "2"),
    ):
        model(torch.zeros(0, 3, 3))


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
    with pytest.raises(ValueError, match="max_width must be a positive even number, got 7"):
        gp.Probe(model, max_width=7)
    with pytest.raises(ValueError, match=r"sampler must be one of .* got 'random'"):
        gp.Probe(model, sampler="random")
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        gp.Probe(model, every=0)
    with pytest.raises(ValueError, match=r"layout must be one of .* got 'nhwc'"):
        gp.Probe(model, layout="nhwc")
    with pytest.raises(LayerSelectionError, match="no layer matches 'fc'"):
        gp.Probe(model, layers="fc")
    assert not model[0]._forward_hooks


def test_inputs_that_hide_their_tensors_are_counted():
    @dataclass
    class Words:
        ids: torch.Tensor

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, words):
            return self.relu(words.ids)

    class Draws(Model):
        def forward(self, n):
            return self.relu(torch.randn(n, 2))

    words = [Words(torch.randn(4, 2)) for _ in range(3)]
    for model, inputs in ((Model(), words), (Draws(), [4] * 3)):
        with gp.Probe(model, "relu") as probe:
            for one in inputs:
                model(one)
        assert probe.clouds["relu"].sample_ids.tolist() == list(range(12))


def test_states_and_attention_have_their_own_axes():
    lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)
    x = torch.randn(5, 7, 3)
    with gp.Probe(nn.Sequential(lstm), "0#out.1.0", pool="last") as probe:
        lstm_states = lstm(x)[1][0]
        model = probe.model
        model(x)
    assert np.allclose(probe.clouds["0#out.1.0"].points, lstm_states[-1].detach(), atol=1e-6)

    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2)

        def forward(self, x):  # (n, t, c)
            turned = x.transpose(0, 1)
            return self.attention(turned, turned, turned)[0].transpose(0, 1)

    model, x = Attends(), torch.randn(6, 3, 4)
    with gp.Probe(model, "attention#out.1", pool="flatten") as probe:
        model(x)
    assert probe.clouds["attention#out.1"].points.shape == (6, 9)


def test_a_model_that_takes_time_first_is_told_from_its_parts():
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=8, dropout=0.0)
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    model = nn.Sequential(nn.Linear(5, 8), encoder, nn.Linear(8, 4))
    x = torch.randn(10, 6, 5)  # ten tokens of six samples
    probe = gp.Probe(model, ["0", "1", "2"])
    with pytest.warns(DetachedProbeWarning, match="give layout='tnc'"), probe:
        model(x)
    assert not probe.clouds
    with gp.Probe(model, ["1", "2"], layout="tnc") as probe:
        model(x)
    shapes = {name: cloud.points.shape for name, cloud in probe.clouds.items()}
    assert shapes == {"1": (6, 8), "2": (6, 4)}


def test_labels_keep_their_values_when_their_type_widens():
    model = mlp()
    with gp.Probe(model, "2") as probe:
        for labels in (np.array([0, 1]), np.array([0.5, 1.5])):
            probe.identify(labels=labels)
            model(torch.randn(2, 3))
    assert probe.clouds["2"].labels.tolist() == [0, 1, 0.5, 1.5]


def test_memory_is_asked_for_all_layers_together(monkeypatch):
    model = nn.Sequential(*(nn.Linear(100, 100) for _ in range(8)))
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    probe = gp.Probe(model, [str(i) for i in range(8)], points=300_000)
    probe = gp.Probe(model, [str(i) for i in range(8)], points=300_000)
    with pytest.warns(DetachedProbeWarning, match="beside those of other layers"), probe:
        model(torch.randn(4, 100))


def test_a_module_whose_name_ends_like_a_repeated_call():
    model = nn.ModuleDict({"c#1": nn.ReLU()})
    model.forward = lambda x: model["c#1"](x)
    with gp.Probe(model, "c#1") as probe:
        model(torch.randn(2, 3))
    assert [row["type"] for row in probe.manifest] == ["ReLU"]


def test_a_layer_that_was_replaced_is_told():
    model = mlp()
    probe = gp.Probe(model, "2")
    model[2] = nn.Linear(4, 2)
    with pytest.warns(SkippedLayerWarning, match="no part of the model any more"), probe:
        model(torch.randn(2, 3))


class _Residual(nn.Module):
    """A block whose type does not tell its axes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3, padding=1)

    def forward(self, x):
        return torch.relu(self.conv(x)) + x


class _OfTokens(nn.Module):
    """A block of a transformer after a convolution, as speech models have them."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 3, 1), nn.LayerNorm(3)

    def forward(self, x):
        return self.norm(self.conv(x).transpose(1, 2)).relu()


def test_blocks_of_one_dimensional_convolutions_are_maps_unless_the_network_is_of_tokens():
    x = torch.randn(5, 3, 7)
    for model, layout in (
        (nn.Sequential(_Residual(), nn.ReLU()), "auto"),
        (nn.Sequential(_Residual(), nn.ReLU()), "ntc"),
        (nn.Sequential(_OfTokens(), nn.Identity()), "auto"),
    ):
        with torch.no_grad():
            outputs = [model[0](x), model(x)]
            with gp.Probe(model, ["0", "1"], layout=layout) as probe:
                model(x)
        for site, output in zip(("0", "1"), outputs, strict=True):
            expected = output.flatten(1)
            if layout == "ntc" or isinstance(model[0], _OfTokens):
                expected = output.mean(dim=1)
            found = torch.as_tensor(probe.clouds[site].points)
            torch.testing.assert_close(found, expected)
