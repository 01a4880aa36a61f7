import copy

import numpy as np
import pytest
import torch
from torch import nn

import geomprobe as gp
from geomprobe.topology.analyzers.weights import NeuralPersistence
from geomprobe.topology.neural_persistence import neural_persistence, shuffled_control


def examine(model, *, seed=0, **options):
    evidence = gp.Evidence(model=model, seed=seed)
    return {found.subject: found for found in gp.analyze(evidence, NeuralPersistence(**options))}


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5, bias=False))


def test_the_numbers_are_those_of_the_weights_by_the_networks_largest():
    model = seeded(small)
    findings = examine(model, shuffles=4, seed=7)
    assert list(findings) == ["0", "3", "model"]
    weights = [model[0].weight.detach().numpy(), model[3].weight.detach().numpy()]
    largest = max(float(np.abs(weight).max()) for weight in weights)
    for index, (name, weight) in enumerate(zip("03", weights, strict=True)):
        scalars = findings[name].scalars
        expected = neural_persistence(weight, largest=largest)
        assert scalars["neural_persistence"].value == pytest.approx(expected)
        assert scalars["neural_persistence"].exact
        control = shuffled_control(weight, largest=largest, shuffles=4, seed=(7, index))
        assert scalars["shuffled"].value == pytest.approx(control.mean)
        assert scalars["shuffled"].stderr == pytest.approx(control.spread / 2)
        assert scalars["difference"].value == pytest.approx(control.difference)
        z = control.difference / control.spread
        assert scalars["z_score"].value == pytest.approx(z)
        assert scalars["z_score"].stderr == pytest.approx((1 / 4 + z**2 / 6) ** 0.5)
        assert np.array_equal(findings[name].arrays["shuffled"], control.shuffled)
    for scalar in ("neural_persistence", "shuffled", "difference"):
        mean = np.mean([findings[name].scalars[scalar].value for name in "03"])
        assert findings["model"].scalars[scalar].value == pytest.approx(mean)


def test_initial_weights_cannot_be_told_from_their_shuffles_and_gathered_ones_can():
    model = seeded(lambda: nn.Sequential(nn.Linear(60, 60), nn.Linear(60, 60)))
    with torch.no_grad():
        model[1].weight[6:] *= 0.05
    findings = examine(model, shuffles=30)
    assert abs(findings["0"].scalars["z_score"].value) < 4
    assert findings["1"].scalars["z_score"].value > 10


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.grouped = nn.Conv1d(8, 8, 3, groups=2)
        self.lazy = nn.LazyLinear(3)
        self.normal = nn.utils.parametrizations.weight_norm(nn.Linear(8, 6))
        self.transposed = nn.ConvTranspose1d(6, 3, 2).double()
        self.brief = nn.Linear(3, 4).bfloat16()
        self.table = nn.Parameter(torch.ones(2, 3))
        self.vector = nn.LayerNorm(5)


def test_what_is_left_out_is_named():
    model = seeded(Odd)
    findings = examine(model)
    used = {"attention.out_proj", "normal", "transposed", "brief"}
    assert set(findings) == {*used, "model"}
    (note,) = (note for note in findings["model"].notes if note.startswith("Left out"))
    for name in (
        "embedding.weight (Embedding)",
        "attention.in_proj_weight (MultiheadAttention)",
        "grouped (2 groups)",
        "lazy (without weights yet)",
        "(root).table (Odd)",
    ):
        assert name in note
    assert "vector" not in note
    assert "parametrizations" not in note
    rounded = model.brief.weight.detach().float().numpy()
    largest = float(findings["model"].notes[0].rpartition(" ")[2].rstrip("."))
    assert findings["brief"].scalars["neural_persistence"].value == pytest.approx(
        neural_persistence(rounded, largest=largest), rel=1e-3
    )


def test_large_layers_are_left_out_but_count_for_the_largest_weight():
    model = seeded(small)
    whole = examine(model)
    some = examine(model, max_weights=50)
    assert set(some) == {"0", "model"}
    assert "3 (80 weights)" in some["model"].notes[1]
    assert some["0"].scalars == whole["0"].scalars


def test_the_model_is_left_as_it_was_and_the_same_seed_gives_the_same():
    model = seeded(small)
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    first = examine(model, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    second = examine(model, seed=3)
    assert all(first[name].scalars == second[name].scalars for name in first)
    assert first["0"].scalars != examine(model, seed=4)["0"].scalars


def test_where_places_make_no_difference_there_is_no_z_score():
    # Every tree of one output holds all its edges.
    findings = examine(seeded(lambda: nn.Linear(6, 1)))
    assert "wherever the weights are" in findings["(root)"].scalars["z_score"].note
    assert findings["(root)"].scalars["difference"].value == pytest.approx(0, abs=1e-7)


def test_layers_that_cannot_be_used_fail_alone():
    model = seeded(small)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.warns(gp.GeomprobeWarning, match="NaN or infinity"):
        findings = examine(model)
    assert findings["0"].failed == "the weights hold NaN or infinity"
    alone = examine(nn.Sequential(model[3]))["0"].scalars["neural_persistence"]
    assert findings["3"].scalars["neural_persistence"] == alone
    with torch.no_grad():
        model[3].weight.zero_()
    with pytest.warns(gp.GeomprobeWarning, match=r"NaN|weights are 0|no linear"):
        assert examine(model)["3"].failed == "all weights are 0"
    with pytest.warns(gp.GeomprobeWarning, match="no linear or conv"):
        assert set(examine(nn.Embedding(3, 2))) == {"model"}


def test_every_scalar_has_a_reading():
    findings = examine(seeded(small))
    for finding in findings.values():
        assert set(finding.scalars) == set(NeuralPersistence.readings)


@pytest.mark.parametrize("bad", [{"p": 0.5}, {"shuffles": 1}, {"max_weights": 0}])
def test_bad_parameters_are_refused_at_construction(bad):
    with pytest.raises(ValueError, match="must be at least"):
        NeuralPersistence(**bad)
