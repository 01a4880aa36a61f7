"""Traps of what a model is, or is in, when it is called: copies, transformations, modes."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

import geomprobe as gp
from geomprobe.exceptions import SkippedLayerWarning
from geomprobe.sampling import collect

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


X = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
Y = torch.arange(6) % 2


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


TWINS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved_and_loaded,
    "EMA": lambda model: AveragedModel(model, use_buffers=True),
}


@pytest.mark.parametrize("way", TWINS)
def test_trap_16_copies_of_a_hooked_model(way):
    model, heard = mlp(), []
    with model[0].register_forward_hook(lambda *_: heard.append(1)):
        if way in ("pickle", "torch.save"):
            with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
                TWINS[way](model)
        else:
            TWINS[way](model)(X)
            assert heard == [1]
    with gp.Probe(model, layers=["0", "2", "2#in"]) as probe:
        twin = TWINS[way](model)
        assert torch.equal(twin(X), model(X))
        assert probe.samples_seen == 6
        copied = [*vars(twin)["_modules"].values()] if way == "EMA" else [twin]
        hooked = [m for one in copied for m in one.modules() if m._forward_hooks]
        assert not hooked  # Its first pass has taken them off.
        with gp.Probe(twin, layers="*2") as another:
            twin(X)
        assert another.samples_seen == 6
        assert probe.samples_seen == 6
    del probe, another
    assert torch.equal(twin(X), model(X))


def test_trap_17_values_inside_torch_func_are_not_data(bare_hook):
    model = mlp()
    shapes = []
    with model[0].register_forward_hook(lambda m, args, out: shapes.append(tuple(out.shape))):
        torch.func.vmap(model)(X)
    assert shapes == [(4,)]  # One sample without its axis, in place of (6, 4).
    weights = dict(model.named_parameters())

    def loss_at(weights, x):
        return torch.func.functional_call(model, weights, (x,)).sum()

    def inside():
        torch.func.vmap(model)(X)
        torch.func.jvp(model, (X,), (X,))
        torch.func.grad(loss_at)(weights, X)
        torch.func.grad(loss_at)({"2.bias": weights["2.bias"]}, X)
        torch.func.vmap(torch.func.grad(loss_at), in_dims=(None, 0))(weights, X)
        torch.func.hessian(lambda x: model(x).sum())(X[0])

    probe = gp.Probe(model, layers=["0", "2"])
    with pytest.warns(SkippedLayerWarning, match="'0': called inside torch.func"), probe:
        inside()
    assert not probe.clouds
    with probe:
        probe.identify(ids=np.arange(60, 66), labels=Y.numpy())
        inside()
        model(X)
    assert probe.clouds["2"].sample_ids.tolist() == list(range(60, 66))
    assert np.array_equal(probe.clouds["2"].labels, Y)
    # No transformation: a pass of the model like any other, with the weights that it is given.
    doubled = {name: 2 * weight for name, weight in weights.items()}
    with torch.no_grad(), gp.Probe(model, layers="0") as probe:
        torch.func.functional_call(model, doubled, (X,))
        assert np.allclose(probe.clouds["0"].points, 2 * model[0](X), atol=1e-6)


def test_trap_19_parametrizations_are_modules():
    model = nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(3, 4)),
        nn.ReLU(),
        parametrizations.weight_norm(nn.Linear(4, 2)),
    )
    assert sum("parametrizations" in name for name, _ in model.named_modules()) == 6
    for layers in ("*", nn.Module, lambda name, module: True):
        with torch.no_grad(), gp.Probe(model.eval(), layers=layers) as probe:
            out = model(X)
        assert set(probe.clouds) == {"(root)", "0", "1", "2"}
        assert np.array_equal(probe.clouds["2"].points, out)
    # A look at `weight` would be a step of power iteration; a trajectory reads what is trained.
    model.train()
    before = copy.deepcopy(model.state_dict())
    recorder = gp.TrajectoryRecorder(model)
    recorder.record(0)
    gp.Monitor(model, (X, Y), points=6, workers=0, trajectory=8).step()
    originals = np.concatenate([p.detach().ravel() for p in model.parameters()])
    assert np.array_equal(recorder.trajectory.points, originals[None])
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantize_per_tensor")
def test_trap_20_quantized_modules_have_no_parameters():
    quantization = pytest.importorskip("torch.ao.quantization")
    model = quantization.quantize_dynamic(mlp(), {nn.Linear})
    assert not list(model.parameters())
    assert callable(model[0].weight)
    with pytest.raises(ValueError, match="the model has no trainable parameters"):
        gp.TrajectoryRecorder(model)
    with gp.Probe(model, layers=["0", "1", "2"]) as probe:
        out = model(X)
    assert len(probe.clouds) == 3
    assert np.array_equal(probe.clouds["2"].points, out)
    findings = gp.Monitor(model, (X, Y), layers="*", exclude="*params", workers=0).observe()
    assert [finding.failed for finding in findings] == [None] * 4


@pytest.mark.parametrize("model_in_inference_mode", [False, True])
def test_trap_21_tensors_of_inference_mode_are_useless_to_autograd(model_in_inference_mode):
    with torch.inference_mode():
        x = torch.randn(12, 3)
    with pytest.raises(RuntimeError, match="Inference tensors"):
        nn.functional.linear(x, torch.ones(2, 3, requires_grad=True)).sum().backward()
    y, loss = torch.arange(12) % 2, nn.functional.cross_entropy
    truth = collect(gp.Probe(mlp()), (x.clone(), y), loss=loss, n_train=100)
    (expected,) = gp.analyze(truth, "fisher_information", strict=True)
    with torch.inference_mode(model_in_inference_mode):
        model = mlp()
    with torch.inference_mode():
        with gp.Probe(model, layers="2") as probe:
            out = model(x)
        evidence = collect(gp.Probe(model), (x, y), loss=loss, n_train=100)
        (within,) = gp.analyze(evidence, "fisher_information", strict=True)
    (after,) = gp.analyze(evidence, "fisher_information", strict=True)
    assert np.array_equal(probe.clouds["2"].points, out.numpy())
    # Parameters of inference mode leave only torch.func, and its float32 products.
    for found in (within, after):
        assert found.scalars["trace"].value == pytest.approx(expected.scalars["trace"].value)


def test_trap_22_passes_of_training_validation_and_sanity_check():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))

    def fit(probe):
        with torch.no_grad(), probe:
            with probe.phase("sanity check"):
                checked = model.eval()(X[:2])
            trained = model.train()(X)
            validated = model.eval()(X)
            model.train()[1].eval()  # A frozen BatchNorm is not an evaluation.
            frozen = model(X)
        return checked, trained, validated, frozen

    probe = gp.Probe(model, layers="2")
    checked, trained, validated, frozen = fit(probe)
    assert probe.phases == ("sanity check", "train", "eval")
    with pytest.raises(ValueError, match="kept apart"):
        _ = probe.clouds
    points = {phase: probe.clouds_of(phase)["2"].points for phase in probe.phases}
    assert np.array_equal(points["sanity check"], checked)
    assert np.array_equal(points["train"], torch.cat([trained, frozen]))
    assert np.array_equal(points["eval"], validated)
    chosen = gp.Probe(model, layers="2", phases=("eval",))
    fit(chosen)
    assert len(chosen.clouds["2"]) == 6
