import re

import pytest
import torch
from torch import nn

from geomprobe.exceptions import LayerSelectionError
from geomprobe.hooks import canonical_name, select_layers


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(x + self.conv(x))


class FancyConv(nn.Conv2d):
    """A Conv2d with a child: still a Conv2d."""

    def __init__(self):
        super().__init__(1, 4, 3)
        self.extra = nn.Identity()


class Net(nn.Module):
    def __init__(self, blocks=2):
        super().__init__()
        self.stem = FancyConv()
        self.stages = nn.ModuleList(Block() for _ in range(blocks))
        self.head = nn.Linear(4, 10)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("head", ["head"]),
        ("stages.*.conv", ["stages.0.conv", "stages.1.conv"]),
        ("re:^stages\\.1$", ["stages.1"]),
        (nn.Conv2d, ["stem", "stages.0.conv", "stages.1.conv"]),
        (lambda name, module: name.endswith("relu"), ["stages.0.relu", "stages.1.relu"]),
        (["head", "stem"], ["stem", "head"]),
        ("(root)", ["(root)"]),
    ],
)
def test_each_kind_of_pattern_selects_in_the_order_of_the_model(layers, expected):
    assert list(select_layers(Net(), layers).modules) == expected


def test_a_module_selects_itself_and_exclude_takes_off():
    net = Net()
    assert list(select_layers(net, net.head).modules) == ["head"]
    selected = select_layers(net, nn.Conv2d, exclude="stages.0.*").modules
    assert list(selected) == ["stem", "stages.1.conv"]


def test_nothing_matches_names_what_is_near():
    with pytest.raises(LayerSelectionError, match=re.escape("'haed'") + ".*Near names: head"):
        select_layers(Net(), "haed")
    with pytest.raises(LayerSelectionError, match="Near names"):
        select_layers(Net(), ["head", "stages.0.cnov"])
    with pytest.raises(LayerSelectionError, match="takes off every layer"):
        select_layers(Net(), "head", exclude="*")


def test_a_pattern_of_no_known_kind_is_refused():
    with pytest.raises(TypeError, match="cannot select layers by 3"):
        select_layers(Net(), [3])


def test_auto_takes_blocks_nonlinearities_outside_them_and_the_head():
    assert list(select_layers(Net()).modules) == ["stages.0", "stages.1", "head"]
    mlp = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    assert list(select_layers(mlp).modules) == ["1", "3", "4"]
    recurrent = nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 2))
    assert list(select_layers(recurrent).modules) == ["0", "1"]
    transformer = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 3)
    assert list(select_layers(transformer).modules)[:3] == ["layers.0", "layers.1", "layers.2"]


def test_auto_looks_into_a_sequence_of_blocks():
    stages = nn.Sequential(nn.Sequential(Block(), Block()), nn.Flatten(), nn.Linear(4, 10))
    assert list(select_layers(stages).modules) == ["0.0", "0.1", "2"]


def test_auto_knows_blocks_that_are_in_no_list():
    class Net(nn.Module):
        def __init__(self, part):
            super().__init__()
            self.one, self.two, self.head = part(), part(), nn.Linear(4, 10)

    assert list(select_layers(Net(Block)).modules) == ["one", "two", "head"]
    # Two towers are no blocks where there are blocks in them, nor are short sequences of layers.
    towers = select_layers(Net(lambda: nn.Sequential(Block(), Block()))).modules
    assert list(towers) == ["one.0", "one.1", "two.0", "two.1", "head"]
    plain = select_layers(Net(lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()))).modules
    assert list(plain) == ["one.1", "two.1", "head"]
    # One transformer layer, called again and again.
    albert = nn.Module()
    albert.layer, albert.pool = nn.TransformerEncoderLayer(8, 2, 16), nn.Tanh()
    assert list(select_layers(albert).modules) == ["layer", "pool"]


def test_auto_is_capped_and_keeps_both_ends():
    selection = select_layers(Net(blocks=30))
    assert len(selection.modules) == 8
    assert {"stages.0", "head"} <= set(selection.modules)
    assert "8 of 31" in selection.explanation


def test_auto_falls_back_where_nonlinearities_are_functional():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 3), nn.Linear(3, 1)

    assert list(select_layers(Functional()).modules) == ["a", "b"]
    assert list(select_layers(nn.Linear(2, 2)).modules) == ["(root)"]


def test_tied_modules_are_selected_once_and_their_aliases_listed():
    net = nn.Module()
    net.a = nn.Linear(2, 2)
    net.b = net.a
    selection = select_layers(net, "b")
    assert list(selection.modules) == ["a"]
    assert selection.aliases == {"a": ("b",)}


def test_containers_without_forward_are_skipped_with_the_reason():
    selection = select_layers(Net(), "stages")
    assert not selection.modules
    assert "without a forward" in selection.skipped["stages"]


def test_parametrizations_are_not_layers():
    net = nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)))
    assert list(select_layers(net, "*").modules) == ["(root)", "0"]


def test_wrappers_are_looked_through_or_refused_with_the_reason():
    assert canonical_name("_orig_mod.stages._fsdp_wrapped_module.0") == "stages.0"
    assert list(select_layers(torch.compile(nn.Sequential(nn.Linear(2, 2))), "0").modules) == ["0"]
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(TypeError, match="ScriptModule does not call the hooks"):
        select_layers(scripted)
    with pytest.raises(TypeError, match=r"model\.module"):
        select_layers(nn.DataParallel(nn.Linear(2, 2)))
    with pytest.raises(TypeError, match="got the class Linear: give an instance"):
        select_layers(nn.Linear)
    with pytest.raises(LayerSelectionError, match="is no regular expression"):
        select_layers(nn.Linear(2, 2), "re:[")
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got function"):
        select_layers(lambda x: x)
