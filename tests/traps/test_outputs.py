"""Traps of what layers return: containers, precision, memory layout, padding."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import geomprobe as gp
from geomprobe.exceptions import SkippedLayerWarning


@dataclass
class Hidden:
    hidden: object
    tokens: object = None


Pair = namedtuple("Pair", "tokens hidden")


class ModelOutput(OrderedDict):
    """Entries by name, by attribute and by number, as in transformers."""

    def __getattr__(self, name):
        if name in self.keys():
            return super().__getitem__(name)
        raise AttributeError(name)

    def __getitem__(self, key):
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


class Layer(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, *, states, scale=1.0):
        return self.form(states * scale)


class Wrapped(nn.Module):
    """Calls a layer by keywords, and passes on whatever it returns."""

    def __init__(self, form):
        super().__init__()
        self.layer = Layer(form)

    def forward(self, x):
        return self.layer(states=x, scale=2.0)


FORMS = {
    "dict": (lambda h: {"tokens": h.argmax(1), "hidden": h}, "layer#out.hidden"),
    "tuple": (lambda h: (h.argmax(1), h), "layer#out.1"),
    "namedtuple": (lambda h: Pair(h.argmax(1), h), "layer#out.hidden"),
    "dataclass": (lambda h: Hidden(h), "layer#out.0"),
    "model output": (lambda h: ModelOutput(loss=None, hidden=h, rest=(h + 1,)), "layer#out.1"),
    "dict of dataclasses": (lambda h: {"a": Hidden(h)}, "layer#out.a.hidden"),
    "tuple with a dataclass": (lambda h: (Hidden(h), h + 1), "layer#out.0.hidden"),
    "dataclass of model outputs": (lambda h: Hidden(ModelOutput(x=h)), "layer#out.hidden.x"),
}


@pytest.mark.parametrize("form", FORMS)
def test_trap_09_modules_whose_output_is_no_tensor(bare_hook, form):
    make, port = FORMS[form]
    model, x = Wrapped(make), torch.randn(5, 3)
    stored = bare_hook(model.layer)
    layers = ["layer", port, "layer#in.states"]
    with gp.Probe(model, layers=layers) as probe:
        model(x)
    assert not isinstance(stored[0], torch.Tensor)
    assert np.array_equal(probe.clouds["layer"].points, 2 * x)
    assert np.array_equal(probe.clouds[port].points, 2 * x)
    assert np.array_equal(probe.clouds["layer#in.states"].points, x)


def test_outputs_of_transformers_are_read_by_their_names():
    outputs = pytest.importorskip("transformers.modeling_outputs")

    def form(h):
        return outputs.BaseModelOutput(last_hidden_state=h, attentions=(h + 1,))

    model, x = Wrapped(form), torch.randn(5, 3)
    with gp.Probe(model, layers=["layer", "layer#out.attentions.0"]) as probe:
        model(x)
    assert np.array_equal(probe.clouds["layer"].points, 2 * x)
    assert np.array_equal(probe.clouds["layer#out.attentions.0"].points, 2 * x + 1)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (lambda h: {"tokens": h.argmax(1)}, "no dense floating-point tensor .* only int64"),
        (lambda h: h.to(torch.complex64), "only complex64"),
        (lambda h: h.to_sparse(), "no dense floating-point tensor"),
        (lambda h: h.sum(), "no dense floating-point tensor"),
        (lambda h: None, "no tensor in an output of type NoneType"),
        (lambda h: "text", "no tensor in an output of type str"),
        (lambda h: h[:2], "2 rows for 5 samples"),
    ],
    ids=["integers", "complex", "sparse", "scalar", "None", "str", "fewer rows"],
)
def test_outputs_that_cannot_become_points_have_a_reason(form, reason):
    model = Wrapped(form)
    probe = gp.Probe(model, layers=["layer", "layer#in.states"])
    expected = f"layer 'layer' gives no cloud: .*{reason}"
    with pytest.warns(SkippedLayerWarning, match=expected), probe:
        model(torch.randn(5, 3))
    assert list(probe.clouds) == ["layer#in.states"]


@pytest.mark.parametrize("layer", [nn.Linear(3, 4), nn.Conv2d(6, 4, 1)], ids=["tokens", "maps"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_trap_11_autocast_and_half_precision(bare_hook, dtype, layer):
    model, x = nn.Sequential(layer, nn.LayerNorm(4)), torch.randn(5, 6, 3)
    positions = (1,)
    if isinstance(layer, nn.Conv2d):
        x, positions = torch.randn(5, 6, 7, 4), (2, 3)
    stored = bare_hook(model[0])
    probe = gp.Probe(model, layers=["0", "1"], pool="mean")
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype), probe:
        model(x)
    assert stored[0].dtype == dtype
    cloud = probe.clouds["0"]
    assert cloud.points.dtype == np.float32
    assert cloud.meta["dtype"] == str(dtype).removeprefix("torch.")
    # The mean of the rounded values, not a rounded mean.
    assert np.allclose(cloud.points, stored[0].double().mean(dim=positions), atol=1e-6)


def test_trap_12_channels_last(bare_hook):
    model = nn.Sequential(nn.Conv2d(2, 3, 3)).to(memory_format=torch.channels_last)
    x = torch.randn(4, 2, 6, 5).to(memory_format=torch.channels_last)
    stored = bare_hook(model[0])
    clouds = {}
    for pool in ("flatten", "mean", "positions"):
        with torch.no_grad(), gp.Probe(model, layers="0", pool=pool) as probe:
            model(x)
        clouds[pool] = probe.clouds["0"].points
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        stored[0].view(4, -1)
    output = stored[0].contiguous()
    assert np.array_equal(clouds["flatten"], output.view(4, -1))
    assert np.allclose(clouds["mean"], output.mean(dim=(2, 3)), atol=1e-6)
    # Points of one sample are in no particular order.
    positions = output.movedim(1, -1).reshape(-1, 3).numpy()
    by_value = [points[np.lexsort(points.T)] for points in (clouds["positions"], positions)]
    assert np.array_equal(*by_value)


LENGTHS = torch.tensor([2, 5, 1, 3])
PADDING = torch.arange(5) >= LENGTHS[:, None]
SAMPLES = np.repeat(np.arange(4), LENGTHS)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 8)

    def forward(self, x, attention_mask=None):
        return self.layer(x)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.GRU(3, 8, batch_first=True)

    def forward(self, x):
        packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
        return self.layer(packed)[1][-1]


class Encoder(nn.Module):
    def __init__(self, batch_first=True, nested=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first)
        self.embed, self.batch_first = nn.Linear(3, 8), batch_first
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
        self.layer = self.encoder.layers[0]

    def forward(self, x, src_key_padding_mask=None):
        return self.encoder(self.embed(x), src_key_padding_mask=src_key_padding_mask)


def padded_pass(kind, **options):
    """One pass over padded sequences; the clouds of the tokens, and what a bare hook counts."""
    torch.manual_seed(0)
    x, given = torch.randn(4, 5, 3), {}
    if kind == "attention_mask":
        model, given = Tagger(), {"attention_mask": (~PADDING).long()}
    elif kind == "float attention_mask":
        model, given = Tagger(), {"attention_mask": (~PADDING).float()}
    elif kind == "packed":
        model = Recurrent()
    else:
        model = Encoder("batch second" not in kind, "nested" in kind)
        given = {"src_key_padding_mask": PADDING}
        if "batch second" in kind:
            x, options = x.transpose(0, 1), {"layout": "tnc", **options}
    model.eval()
    options = {"layers": "layer", "pool": "tokens", **options}
    with torch.no_grad(), gp.Probe(model, **options) as probe:
        output = model(x, **given)
    return model, probe, output


@pytest.mark.filterwarnings("ignore:.*nested:UserWarning")
@pytest.mark.parametrize(
    "kind",
    [
        "attention_mask",
        "float attention_mask",
        "packed",
        "src_key_padding_mask",
        "src_key_padding_mask, batch second",
        "src_key_padding_mask, nested",
    ],
)
def test_trap_26_padding_enters_the_cloud(kind):
    _, probe, _ = padded_pass(kind)
    name = "encoder.layers.0" if kind.startswith("src") else "layer"
    cloud = probe.clouds[name]
    assert cloud.sample_ids.tolist() == SAMPLES.tolist()
    assert cloud.meta["masked"]
    if "mask" in kind and "nested" not in kind:  # The trap itself.
        _, careless, _ = padded_pass(kind, mask=None)
        assert len(careless.clouds[name]) == 20


def test_padding_masks_that_do_not_fit_the_batch_are_not_passed_over():
    # The samples run along the second axis, and the probe was not told.
    reason = "those of the padding mask the other way round: give layout='tnc'"
    options = {"layout": "ntc", "layers": "layer.linear1"}
    with pytest.warns(SkippedLayerWarning, match=reason):
        _, probe, _ = padded_pass("src_key_padding_mask, batch second", **options)
    assert not probe.clouds


def test_clouds_of_nested_tensors_are_those_of_padded_ones():
    _, nested, fast = padded_pass("src_key_padding_mask, nested")
    _, padded, plain = padded_pass("src_key_padding_mask")
    assert torch.allclose(fast[~PADDING], plain[~PADDING], atol=1e-5)
    one, other = nested.clouds["encoder.layers.0"], padded.clouds["encoder.layers.0"]
    assert np.allclose(one.points, other.points, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*nested:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=["strided", "jagged"])
def test_a_model_that_is_given_a_nested_tensor(layout):
    model, parts = nn.Sequential(nn.Linear(3, 4)), [torch.randn(2, 3), torch.randn(5, 3)]
    ragged = torch.nested.nested_tensor(parts, layout=layout)
    with torch.no_grad():
        with gp.Probe(model, layers="0", pool="mean") as probe:
            model(ragged)
        means = torch.stack([model(part).mean(dim=0) for part in parts])
    assert np.allclose(probe.clouds["0"].points, means, atol=1e-6)
