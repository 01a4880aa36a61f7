import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from geomprobe.exceptions import FileFormatError
from geomprobe.storage import require_safetensors
from geomprobe.weights import load_optimizer, load_weights, nan_in

needs_safe_loading = pytest.mark.skipif(
    torch.__version__ < "2.6", reason="PyTorch before 2.6 opens no pickle safely"
)


def network(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 1))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_weights_arrive_whatever_wrapped_the_model(tmp_path, prefix):
    source, target = network(), network()
    save_file({prefix + k: v for k, v in source.state_dict().items()}, tmp_path / "w.safetensors")
    assert load_weights(target, tmp_path / "w.safetensors") is target
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)


def test_tied_weights_are_stored_once_and_fit(tmp_path):
    def tied():
        net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
        net[1].weight = net[0].weight
        return net

    source, target = tied(), tied()
    save_model(source, str(tmp_path / "w.safetensors"))
    load_weights(target, tmp_path / "w.safetensors")
    assert torch.equal(source[0].weight, target[1].weight)


def test_the_safe_alternative_that_a_refusal_names_works(tmp_path, monkeypatch):
    # Tied weights share memory and channels_last strides are kept: save_file takes neither.
    source = nn.Sequential(nn.Conv2d(3, 3, 2), nn.Conv2d(3, 3, 2)).to(
        memory_format=torch.channels_last
    )
    source[1].weight = source[0].weight
    torch.save(source.state_dict(), tmp_path / "w.pt")
    with pytest.raises(FileFormatError) as refusal:
        require_safetensors(tmp_path / "w.pt")
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent(str(refusal.value).partition("\n")[2]))
    target = nn.Sequential(nn.Conv2d(3, 3, 2), nn.Conv2d(3, 3, 2))
    load_weights(target, tmp_path / "weights.safetensors")
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)


class Writes:
    """What writes a file as it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_of_other_objects_runs_only_if_it_is_trusted(tmp_path, zipped):
    path, trace = tmp_path / "w.safetensors", tmp_path / "trace"
    held = {"state_dict": network().state_dict(), "of": Writes(trace)}
    torch.save(held, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FileFormatError, match=r"can run any code.*--trust-pickle"):
        load_weights(network(), path)
    assert not trace.exists()
    load_weights(network(), path, trust_pickle=True)
    assert trace.exists()


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_text("not weights at all")
    with pytest.raises(FileFormatError, match="is not a safetensors file"):
        load_weights(network(), path)
    save_file(network().state_dict(), path)
    whole = path.read_bytes()
    for size in (4, 8, 9, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FileFormatError, match="truncated"):
            load_weights(network(), path)


def test_names_and_shapes_that_do_not_fit_are_listed(tmp_path):
    path = tmp_path / "w.safetensors"
    state = network().state_dict()
    del state["0.bias"]
    state["extra"] = torch.zeros(1)
    state["2.weight"] = torch.zeros(1, 4)
    save_file(state, path)
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(FileFormatError, match="does not fit") as error:
        load_weights(model, path)
    for part in ("Missing: 0.bias.", "Unexpected: extra.", r"2.weight is (1, 4)"):
        assert part in str(error.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@needs_safe_loading
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_and_plain_types_of_a_pickle_need_no_trust(tmp_path, zipped):
    model, trained, path = nn.Linear(2, 3), nn.Linear(2, 3), tmp_path / "w.pt"
    state = trained.state_dict()
    for held in (state, {"state_dict": {f"model.{k}": v for k, v in state.items()}, "epoch": 3}):
        torch.save(held, path, _use_new_zipfile_serialization=zipped)
        nn.init.zeros_(model.weight)
        load_weights(model, path)
        assert torch.equal(model.weight, trained.weight)
    torch.save({"epoch": 3}, path)
    with pytest.raises(FileFormatError, match="holds no state dict, nor one under state_dict"):
        load_weights(model, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileFormatError, match=r"w\.pt cannot be opened: RuntimeError"):
        load_weights(model, path)


def test_a_whole_model_is_opened_only_if_it_is_trusted(tmp_path):
    model, trained = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save(trained, tmp_path / "w.pt")
    with pytest.raises(FileFormatError, match="opening a pickle can run any code"):
        load_weights(model, tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt", trust_pickle=True)
    assert torch.equal(model.weight, trained.weight)


def test_where_loading_of_tensors_alone_runs_code_all_pickles_need_trust(tmp_path, monkeypatch):
    """CVE-2025-32434: torch.load(weights_only=True) before PyTorch 2.6."""
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.5.1+cpu"))
    torch.save(network().state_dict(), tmp_path / "w.pt")
    with pytest.raises(FileFormatError, match=r"PyTorch 2\.6 or newer opens"):
        load_weights(network(), tmp_path / "w.pt")
    load_weights(network(), tmp_path / "w.pt", trust_pickle=True)


def stepped(kind=torch.optim.Adam, model=None, **options):
    """An optimizer that has taken a step."""
    model = model or network()
    optimizer = kind(model.parameters(), **options)
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    return optimizer


def test_the_state_of_an_optimizer_arrives_alone_or_in_a_checkpoint(tmp_path):
    state = stepped(lr=0.25).state_dict()
    for held in (
        state,
        {"optimizer": state, "epoch": 3},
        {"optimizer_state_dict": state},
        {"state_dict": network().state_dict(), "optimizer_states": [state]},  # As Lightning does.
    ):
        torch.save(held, tmp_path / "state.pt")
        loaded = torch.optim.Adam(network().parameters())
        assert load_optimizer(loaded, tmp_path / "state.pt") is loaded
        assert loaded.param_groups[0]["lr"] == 0.25
        for number, one in state["state"].items():
            assert torch.equal(
                loaded.state_dict()["state"][number]["exp_avg_sq"], one["exp_avg_sq"]
            )


@pytest.mark.parametrize("kind", ["LBFGS", "Adafactor", "Adadelta", "ASGD"])
def test_states_of_other_shapes_than_the_parameters_are_loaded_too(tmp_path, kind):
    if not hasattr(torch.optim, kind):
        pytest.skip(f"this PyTorch has no {kind}")
    model = network()
    made, loaded = (getattr(torch.optim, kind)(model.parameters()) for _ in range(2))
    model(torch.randn(4, 2)).square().sum().backward()
    for _ in range(3):
        made.step(lambda: model(torch.ones(4, 2)).square().sum())
    torch.save(made.state_dict(), tmp_path / "state.pt")
    load_optimizer(loaded, tmp_path / "state.pt")
    assert len(loaded.state) == len(made.state)


class Held:
    """What is no plain type."""


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (Held(), "holds no plain state of an optimizer.*torch.save"),
        (network().state_dict(), "holds no state of an optimizer, nor one under optimizer, "),
        (stepped(model=nn.Linear(2, 2)).state_dict(), "is of another optimizer: loaded state dict"),
        (stepped(torch.optim.SGD, lr=0.1).state_dict(), "than Adam: it has no .*betas"),
        (stepped(model=network(5)).state_dict(), r"exp_avg is \(5, 2\), its parameter \(3, 2\)"),
    ],
    ids=["object", "weights", "other model", "other kind", "other shapes"],
)
def test_what_is_no_state_of_this_optimizer_is_refused(tmp_path, held, said):
    torch.save(held, tmp_path / "state.pt")
    with pytest.raises(FileFormatError, match=said):
        load_optimizer(torch.optim.Adam(network().parameters()), tmp_path / "state.pt")


def test_weights_that_hold_nan_are_named():
    model = network()
    assert nan_in(model) == ""
    with torch.no_grad():
        model[2].weight[0, 0] = torch.nan
        model[0].bias[0] = torch.inf  # As masks are, on purpose.
    assert nan_in(model).startswith("1 of 9 parameters and buffers hold NaN. They are: 2.weight.")
    assert nan_in(nn.LazyLinear(3)) == nan_in(nn.Linear(2, 2, device="meta")) == ""
    model = nn.Linear(2, 2)
    model.nested = nn.Parameter(torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]))
    model.register_buffer("unused", torch.full((2,), torch.nan))
    assert "1 of 4 parameters and buffers hold NaN. They are: unused." in nan_in(model)
    assert nan_in(model, buffers=False) == ""
