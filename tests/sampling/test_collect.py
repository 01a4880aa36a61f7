import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import geomprobe as gp
from geomprobe.sampling import collect


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)
    )


X, Y = torch.randn(50, 3), torch.arange(50) % 2


def test_the_pass_is_in_evaluation_mode_and_leaves_the_model_as_it_was():
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    evidence = collect(gp.Probe(model, "4"), (X, Y))
    assert all(m.training for m in model.modules())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    expected = model.eval()(X).detach()
    assert np.allclose(evidence.clouds["4"].points, expected, atol=1e-6)
    assert np.array_equal(evidence.clouds["4"].labels, Y)
    assert evidence.clouds["4"].meta["phase"] == "eval"


def test_kept_samples_are_those_of_a_cloud_of_the_same_size():
    model = network()
    probe = gp.Probe(model, "4", points=12, seed=3)
    evidence = collect(
        probe, [(X[i : i + 7], Y[i : i + 7]) for i in range(0, 50, 7)], samples=12, seed=3
    )
    ids = evidence.clouds["4"].sample_ids
    assert np.array_equal(evidence.data.ids, ids)
    assert torch.equal(evidence.data.inputs, X[ids])
    assert torch.equal(evidence.data.targets, Y[ids])


def test_two_collections_with_one_seed_are_equal():
    def once():
        return collect(gp.Probe(network(), points=10), (X, Y)).clouds

    assert once() == once()


def test_dict_inputs_reach_the_model_as_keywords():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, *, values, scale):
            return self.fc(values) * scale[:, None]

    batch = {"values": X, "scale": torch.ones(50), "labels": Y}
    evidence = collect(gp.Probe(Keyword(), "fc"), [batch], samples=5)
    assert set(evidence.data.inputs) == {"values", "scale"}
    assert evidence.data.inputs["values"].shape == (5, 3)
    assert evidence.clouds["fc"].labels is not None


def test_a_model_without_parameters_can_be_observed():
    evidence = collect(gp.Probe(nn.Sequential(nn.ReLU(), nn.Tanh())), X)
    assert np.allclose(evidence.clouds["1"].points, X.relu().tanh(), atol=1e-6)


def test_double_inputs_reach_a_single_precision_model_and_a_double_one_as_they_are():
    evidence = collect(gp.Probe(network(), "4"), (X.double(), Y))
    assert evidence.data.inputs.dtype == torch.float32
    evidence = collect(gp.Probe(network().double(), "4"), (X.double(), Y))
    assert evidence.data.inputs.dtype == torch.float64


def test_what_the_model_raises_says_on_which_batch():
    with pytest.raises(
        ValueError, match=r"raised RuntimeError on a batch of float32 of shape \(50"
    ):
        collect(gp.Probe(network()), X[:, :2])


def test_lazy_parameters_are_left_for_training_to_draw():
    model = nn.Sequential(nn.LazyLinear(4))
    with pytest.raises(ValueError, match=r"lazy parameters.*run one batch"):
        collect(gp.Probe(model), X)
    model(X)
    assert len(collect(gp.Probe(model), X).clouds) == 1


def test_an_empty_loader_raises():
    with pytest.raises(ValueError, match="hold no batches"):
        collect(gp.Probe(network()), [])


def test_needs_follow_from_what_was_collected():
    evidence = collect(gp.Probe(network()), (X, Y))
    assert evidence.available == {"activations", "model", "data"}


def test_the_lines_that_a_refusal_of_dicts_names_work():
    class Rows(Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, number):
            return {"image": X[number], "labels": Y[number]}

    loader, model = DataLoader(Rows(), batch_size=8), network()
    with pytest.raises(ValueError, match="given to the model by name, here image") as refusal:
        collect(gp.Probe(model, "4"), loader)
    line = next(line for line in str(refusal.value).splitlines() if "pairs =" in line)
    names = {"loader": loader, "TARGETS": "labels"}
    exec(line.strip(), names)
    evidence = collect(gp.Probe(model, "4"), names["pairs"])
    assert np.array_equal(evidence.clouds["4"].labels, Y[:20])

    with pytest.raises(ValueError, match=r"\(batch\['x'\], batch\['y'\]\) for batch in loader"):
        collect(gp.Probe(model, "4"), [{"x": X, "y": Y}])
    with pytest.raises(
        ValueError, match=r"for TARGETS, such as\n.*\(batch\['x'\], batch\[TARGETS\]\)"
    ):
        collect(gp.Probe(model, "4"), [{"x": X, "more": X, "y": Y}])
