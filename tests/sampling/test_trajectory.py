import io
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.nn.utils import parametrizations

from geomprobe import Samples
from geomprobe.sampling import SparseProjection, TrajectoryRecorder


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def walk(recorder, model, steps, start=0):
    """Move every parameter by 1 at each step."""
    for step in range(start, start + steps):
        recorder.record(step, loss=float(step))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1.0)


def network():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


# --- Points and lengths -------------------------------------------------------------------------


def test_the_exact_path_of_a_straight_walk():
    model = nn.Linear(3, 2)
    start = flat(model).numpy()
    recorder = TrajectoryRecorder(model)
    walk(recorder, model, 5)
    trajectory = recorder.trajectory
    assert np.allclose(trajectory.points, start + np.arange(5)[:, None], atol=1e-5)
    assert trajectory.steps.tolist() == [0, 1, 2, 3, 4]
    assert trajectory.losses.tolist() == [0, 1, 2, 3, 4]
    # Every step moves 8 coordinates by 1: its length is sqrt(8).
    assert np.allclose(trajectory.meta["arc_length"], np.arange(5) * math.sqrt(8), rtol=1e-6)
    assert trajectory.meta["step_norms"][0] is None
    assert np.allclose(trajectory.meta["step_norms"][1:], math.sqrt(8), rtol=1e-6)
    assert trajectory.meta["unmeasured_steps"] == [0] * 5


def test_the_lengths_of_a_random_walk_far_from_the_origin_are_exact():
    # Steps of +-h in each of p coordinates have length h sqrt(p), whatever the signs; squared norms
    # of such points, near 1e6 p, tell nothing of differences of h^2 p = 2^-20 p in float32.
    model = nn.Linear(600, 500, bias=False)
    h, generator = 2.0**-10, torch.Generator().manual_seed(0)
    nn.init.constant_(model.weight, 1024.0)
    recorder = TrajectoryRecorder(model, dim=32)
    for step in range(6):
        recorder.record(step)
        with torch.no_grad():
            model.weight += h * (2.0 * torch.randint(2, (500, 600), generator=generator) - 1)
    length = h * math.sqrt(300_000)
    assert recorder.trajectory.meta["step_norms"][1:] == pytest.approx([length] * 5, rel=1e-12)
    assert recorder.trajectory.meta["arc_length"][-1] == pytest.approx(5 * length, rel=1e-12)


def test_squares_are_summed_in_double_precision():
    # 1 + 4 + ... + n^2 = n (n + 1) (2n + 1) / 6, some 9e15 here: a whole number of 53 bits.
    n = 300_000
    model = nn.Linear(600, 500, bias=False)
    nn.init.zeros_(model.weight)
    recorder = TrajectoryRecorder(model, dim=32)
    recorder.record(0)
    model.weight.data = torch.arange(1.0, n + 1).reshape(500, 600)
    recorder.record(1)
    expected = math.sqrt(n * (n + 1) * (2 * n + 1) // 6)
    assert recorder.trajectory.meta["step_norms"][1] == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("dim", "nonzeros"), [(16, 4), (18, 2), (17, 1)], ids=["four", "two", "one"]
)
def test_projection_is_that_of_the_flat_parameters_and_arc_length_is_not_projected(dim, nonzeros):
    model = nn.Linear(30, 20)
    recorder = TrajectoryRecorder(model, dim=dim, seed=4)
    start = flat(model)[None]
    walk(recorder, model, 2)
    expected = SparseProjection(620, dim, seed=4, nonzeros=nonzeros)(start)
    assert np.array_equal(recorder.trajectory.points[:1], expected)
    assert recorder.trajectory.meta["arc_length"][1] == pytest.approx(math.sqrt(620))
    assert recorder.trajectory.meta["projection"] == dim


def test_distances_between_projected_points_are_those_of_the_parameters():
    model = nn.Sequential(nn.Linear(300, 900), nn.Linear(900, 50))
    exact, projected = TrajectoryRecorder(model), TrajectoryRecorder(model, dim=1024)
    optimizer = torch.optim.Adam(model.parameters())
    x, y = torch.randn(64, 300), torch.randn(64, 50)
    for step in range(20):
        exact.record(step)
        projected.record(step)
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    d, k = (torch.pdist(torch.tensor(r.trajectory.points)) for r in (exact, projected))
    assert ((k / d - 1).abs() < projected.trajectory.meta["distortion"]).all()
    assert exact.trajectory.meta["arc_length"] == projected.trajectory.meta["arc_length"]


def test_many_small_and_few_large_parameters_are_read_alike():
    model = nn.ModuleList([nn.Linear(700, 600), *(nn.Linear(3, 3) for _ in range(20))])
    recorder = TrajectoryRecorder(model)
    recorder.record(0)
    assert np.array_equal(recorder.trajectory.points[0], flat(model))


@pytest.mark.parametrize("dim", [None, 2], ids=["exact", "projected"])
def test_double_precision_is_kept_and_half_is_read_as_float32(dim):
    model = nn.Linear(3, 2)
    for dtype, expected in (
        (torch.float64, np.float64),
        (torch.bfloat16, np.float32),
        (torch.float16, np.float32),
    ):
        recorder = TrajectoryRecorder(model.to(dtype), dim=dim)
        recorder.record(0)
        assert recorder.trajectory.points.dtype == expected
        if dim is None:
            assert np.array_equal(recorder.trajectory.points[0], flat(model).double())


def test_a_layout_of_memory_does_not_change_the_order():
    model = nn.Conv2d(3, 4, 2)
    before = flat(model).clone()
    recorder = TrajectoryRecorder(model.to(memory_format=torch.channels_last))
    recorder.record(0)
    assert np.array_equal(recorder.trajectory.points[0], before)


# --- Which steps --------------------------------------------------------------------------------


def test_memory_is_bounded_the_record_spans_the_run_and_lengths_are_of_every_step():
    model = nn.Linear(1, 1)
    recorder = TrajectoryRecorder(model, points=10)
    walk(recorder, model, 1000)
    steps = recorder.trajectory.steps
    assert len(steps) <= 10
    assert steps[0] == 0
    assert steps[-1] >= 872
    assert set(np.diff(steps)) == {recorder.trajectory.meta["stride"]}
    assert np.allclose(recorder.trajectory.meta["arc_length"], steps * math.sqrt(2))
    assert np.allclose(recorder.trajectory.meta["step_norms"][1:], math.sqrt(2))


def test_a_zigzag_has_its_full_length_though_its_turns_are_dropped():
    model = nn.Linear(2, 2, bias=False)
    recorder = TrajectoryRecorder(model, points=4)
    nn.init.zeros_(model.weight)
    for step in range(65):
        recorder.record(step)
        nn.init.constant_(model.weight, float(1 - step % 2))
    trajectory = recorder.trajectory
    assert np.array_equal(trajectory.points, np.zeros((len(trajectory), 4)))
    assert trajectory.meta["arc_length"] == [2.0 * step for step in trajectory.steps]


def test_thinning_counts_records_so_that_odd_steps_alone_still_span_the_run():
    recorder = TrajectoryRecorder(nn.Linear(1, 1), points=5)
    for step in range(1, 200, 2):
        recorder.record(step)
    steps = recorder.trajectory.steps
    assert 3 <= len(steps) <= 5
    assert steps[0] == 1
    assert len(set(np.diff(steps))) == 1


def test_a_window_keeps_the_last_points_and_the_whole_arc_length():
    model = nn.Linear(3, 2)
    recorder = TrajectoryRecorder(model, every=3, window=4)
    walk(recorder, model, 50)
    trajectory = recorder.trajectory
    assert trajectory.steps.tolist() == [39, 42, 45, 48]
    assert np.allclose(trajectory.meta["arc_length"], trajectory.steps * math.sqrt(8))
    assert np.allclose(trajectory.meta["step_norms"], 3 * math.sqrt(8))
    assert trajectory.meta["window"] == 4


def test_a_repeated_step_stays_as_it_was_first_recorded():
    # Trainers that accumulate gradients report one optimizer step several times.
    model = nn.Linear(3, 2)
    recorder = TrajectoryRecorder(model)
    walk(recorder, model, 2)
    before = recorder.trajectory
    recorder.record(1, loss=100.0)
    assert recorder.trajectory == before
    recorder.record(2)
    assert recorder.trajectory.meta["arc_length"][2] == pytest.approx(2 * math.sqrt(8))


def test_going_back_is_refused_and_leaves_the_record():
    model = nn.Linear(3, 2)
    recorder = TrajectoryRecorder(model)
    walk(recorder, model, 5)
    before = recorder.trajectory
    with pytest.raises(ValueError, match=r"step 3 comes after step 4 was recorded.*checkpoint"):
        recorder.record(3)
    assert recorder.trajectory == before


def test_nothing_recorded_is_no_trajectory():
    recorder = TrajectoryRecorder(nn.Linear(1, 1), every=2)
    recorder.record(1)
    assert recorder.trajectory is None


# --- What is no number --------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [None, 4], ids=["exact", "projected"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_steps_to_and_from_nonfinite_parameters_have_no_length_and_spoil_no_later_one(
    dim, bad, tmp_path
):
    model = nn.Linear(3, 2)
    recorder = TrajectoryRecorder(model, dim=dim)
    weight = model.weight.detach().clone()
    for step in range(6):
        with torch.no_grad():
            model.weight.copy_(weight + step)
            if step == 2:
                model.weight[0, 0] = bad
        recorder.record(step)
    trajectory = recorder.trajectory
    step_of = math.sqrt(6)
    assert not np.isfinite(trajectory.points[2]).all()
    assert np.isfinite(np.delete(trajectory.points, 2, axis=0)).all()
    assert trajectory.meta["unmeasured_steps"] == [0, 0, 1, 2, 2, 2]
    assert trajectory.meta["step_norms"][:1] + trajectory.meta["step_norms"][2:4] == [None] * 3
    assert trajectory.meta["step_norms"][4] == pytest.approx(step_of, rel=1e-6)
    lengths = [0, step_of, step_of, step_of, 2 * step_of, 3 * step_of]
    assert trajectory.meta["arc_length"] == pytest.approx(lengths, rel=1e-6)
    trajectory.save(tmp_path / "path.safetensors")  # Strict JSON has no NaN.


def test_a_loss_that_was_not_given_is_nan():
    recorder = TrajectoryRecorder(nn.Linear(1, 1))
    recorder.record(0)
    assert math.isnan(recorder.trajectory.losses[0])


# --- Learning rates -----------------------------------------------------------------------------


def test_the_learning_rates_of_each_group_stand_beside_the_points():
    model = network()
    optimizer = torch.optim.SGD(
        [
            {"params": model[0].parameters(), "name": "first"},
            {"params": model[3].parameters(), "lr": torch.tensor(0.25)},
        ],
        lr=1.0,
    )
    recorder = TrajectoryRecorder(model, every=2, optimizer=optimizer)
    for step in range(5):
        recorder.record(step)
        optimizer.param_groups[0]["lr"] /= 2
    assert recorder.trajectory.meta["parameter_groups"] == ["first", 1]
    assert recorder.trajectory.meta["learning_rates"] == [[1.0, 0.25], [0.25, 0.25], [0.0625, 0.25]]


def test_without_an_optimizer_there_are_no_learning_rates():
    recorder = TrajectoryRecorder(nn.Linear(1, 1))
    recorder.record(0)
    assert recorder.trajectory.meta["learning_rates"] is None
    assert recorder.trajectory.meta["parameter_groups"] is None
    with pytest.raises(TypeError, match="optimizer must have param_groups"):
        TrajectoryRecorder(nn.Linear(1, 1), optimizer=0.1)


# --- Answers to samples -------------------------------------------------------------------------


def some(n):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    return dict(samples=Samples(x, torch.arange(n) % 2), loss=nn.functional.cross_entropy)


def test_the_loss_of_each_sample_and_whether_it_is_right():
    model = network()  # Batch norm and train mode: the passes are in evaluation mode.
    told = some(300)
    (x, y, _), recorder = told["samples"].parts, TrajectoryRecorder(model, every=2, **told)
    expected = []
    for step in range(6):
        recorder.record(step)
        if step % 2 == 0:
            outputs = model.eval()(x).detach()
            model.train()
            losses = nn.functional.cross_entropy(outputs, y, reduction="none")
            expected.append((losses.numpy(), (outputs.argmax(dim=1) == y).numpy()))
        with torch.no_grad():
            model[3].weight += 0.1
    trajectory = recorder.trajectory
    assert trajectory.sample_losses.shape == (3, 300)
    for (losses, correct), row, right in zip(
        expected, trajectory.sample_losses, trajectory.sample_correct, strict=True
    ):
        assert np.allclose(row, losses, atol=1e-5)
        assert np.array_equal(right, correct)


def test_targets_that_are_no_classes_have_losses_alone():
    x = torch.randn(5, 4)
    samples = Samples(x, x[:, :2])
    recorder = TrajectoryRecorder(network(), samples=samples, loss=nn.functional.mse_loss)
    recorder.record(0)
    assert recorder.trajectory.sample_losses.shape == (1, 5)
    assert recorder.trajectory.sample_correct is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "samples need a loss"),
        ({"samples": Samples(torch.zeros(3, 4)), "loss": max}, "and their targets"),
        (
            {"loss": lambda outputs, targets: outputs},
            r"loss of a sample must be a tensor of one number, got \(1, 2\)",
        ),
        ({"loss": lambda outputs, targets: 1.0}, "tensor of one number, got float"),
    ],
    ids=["no loss", "no targets", "many numbers", "no tensor"],
)
def test_samples_without_targets_or_losses_are_refused_at_once(options, message):
    samples = Samples(torch.zeros(3, 4), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=message):
        TrajectoryRecorder(network(), **{"samples": samples, **options})


# --- Which parameters ---------------------------------------------------------------------------


def recorded(model, **options):
    recorder = TrajectoryRecorder(model, **options)
    recorder.record(0)
    return recorder.trajectory.points[0]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("0.weight", ["0.weight"]),
        ("*.bias", ["0.bias", "1.bias", "3.bias"]),
        (r"re:^[03]\.w", ["0.weight", "3.weight"]),
        (["3.*", "0.bias"], ["0.bias", "3.weight", "3.bias"]),
    ],
    ids=["name", "glob", "regex", "several"],
)
def test_parameters_are_selected_by_name_in_the_order_of_the_model(pattern, names):
    model = network()
    expected = torch.cat([model.get_parameter(name).detach().reshape(-1) for name in names])
    assert np.array_equal(recorded(model, parameters=pattern), expected)


def test_parameters_are_selected_by_the_group_of_an_optimizer():
    model = network()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters()}, {"params": model[3].parameters()}], lr=0.1
    )
    chosen = recorded(model, parameters=optimizer.param_groups[1]["params"])
    assert np.array_equal(chosen, flat(model[3]))


def test_frozen_parameters_are_left_out_unless_named_and_none_is_refused():
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    assert np.array_equal(recorded(model), model.weight.detach().reshape(-1))
    assert np.array_equal(recorded(model, parameters="bias"), model.bias)
    model.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameters"):
        TrajectoryRecorder(model)


def test_floating_buffers_are_recorded_when_asked_for():
    model = network()
    model[1].running_var.fill_(7)
    assert len(recorded(model)) == sum(p.numel() for p in model.parameters())
    with_buffers = recorded(model, buffers=True)
    # running_mean and running_var; num_batches_tracked counts, and is left out.
    assert len(with_buffers) == sum(p.numel() for p in model.parameters()) + 12
    chosen = recorded(model, parameters="1.running_*", buffers=True)
    assert chosen.tolist() == [0] * 6 + [7] * 6
    with pytest.raises(ValueError, match=r"no parameter matches '1\.running_var'"):
        recorded(model, parameters="1.running_var")


def test_tied_parameters_count_once_and_go_by_either_name():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    assert len(recorded(model)) == 15
    assert len(recorded(model, parameters="1.weight")) == 15
    assert len(recorded(model, parameters=["1.weight", "0.weight"])) == 15


def test_parametrized_weights_are_recorded_as_what_is_trained():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 2)))
    chosen = recorded(model, parameters="0.parametrizations.weight.original*")
    assert len(chosen) == 2 + 6


def test_wrappers_of_the_model_leave_the_names_as_they_are():
    model = nn.Sequential(nn.Linear(2, 2))
    expected = recorded(model, parameters="0.weight")
    whole = torch.compile(model, backend="eager")
    part = nn.Sequential(torch.compile(model[0], backend="eager"))
    assert np.array_equal(recorded(whole, parameters="0.weight"), expected)
    assert np.array_equal(recorded(part, parameters="0.weight"), expected)


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("0.wieght", ValueError, r"no parameter matches '0.wieght'. Near names: 0.weight"),
        ("re:(", ValueError, "no regular expression"),
        ([], ValueError, "parameters names none"),
        (torch.zeros(7), ValueError, r"shape \(7,\) in parameters is none of the model's"),
        ([nn.Linear], TypeError, "cannot select parameters by"),
    ],
)
def test_patterns_that_select_nothing_are_refused(pattern, error, message):
    with pytest.raises(error, match=message):
        TrajectoryRecorder(network(), parameters=pattern)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.LazyLinear(3), {}, "'weight' cannot be recorded: it is not initialised yet"),
        (nn.Linear(2, 2, device="meta"), {}, "meta device"),
        (nn.Linear(2, 2, dtype=torch.complex64), {}, "complex64"),
        (nn.ModuleDict({"_fsdp_wrapped_module": nn.Linear(2, 2)}), {}, "'weight'.* is sharded"),
        (nn.ParameterList([torch.empty(0)]), {}, "no entries"),
    ],
    ids=["lazy", "meta", "complex", "fsdp", "empty"],
)
def test_parameters_that_cannot_be_read_are_refused_with_the_reason(model, options, message):
    with pytest.raises(ValueError, match=message):
        TrajectoryRecorder(model, **options)


@pytest.mark.skipif(not distributed.is_available(), reason="torch without distributed")
def test_a_parameter_sharded_over_processes_is_refused():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model = nn.Linear(4, 4)
        mesh = init_device_mesh("cpu", (1,))
        model.weight = nn.Parameter(distribute_tensor(model.weight.detach(), mesh))
        with pytest.raises(ValueError, match="'weight' cannot be recorded: it is sharded"):
            TrajectoryRecorder(model)
        assert len(recorded(model, parameters="bias")) == 4
    finally:
        distributed.destroy_process_group()


def test_a_parameter_object_put_in_the_place_of_another_is_followed():
    model = nn.Linear(3, 2)
    recorder = TrajectoryRecorder(model)
    recorder.record(0)
    model.weight = nn.Parameter(model.weight.detach() + 1)
    recorder.record(1)
    assert recorder.trajectory.meta["arc_length"][1] == pytest.approx(math.sqrt(6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: setattr(model, "0", nn.Linear(5, 6)), r"0.weight was \(6, 4\).*is \(6, 5\)"),
        (lambda model: parametrizations.weight_norm(model[0]), "0.weight.*is not there any more"),
        (lambda model: model.__delitem__(3), "3.weight.*is not there any more"),
    ],
    ids=["resized", "parametrized", "deleted"],
)
def test_a_parameter_that_is_gone_or_resized_ends_the_record_and_leaves_it(change, message):
    model = network()
    recorder = TrajectoryRecorder(model)
    recorder.record(0)
    before = recorder.trajectory
    change(model)
    with pytest.raises(ValueError, match=message):
        recorder.record(1)
    assert recorder.trajectory == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be >= 1"),
        ({"points": 1}, "points >= 2"),
        ({"window": 1}, "window must be >= 2"),
        ({"dim": 0}, "dim must be positive"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrajectoryRecorder(nn.Linear(1, 1), **options)


# --- Neutrality ---------------------------------------------------------------------------------


def train(model, recorder, steps=12, start=0):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(start, start + steps):
        x = torch.randn(16, 4)
        nn.functional.mse_loss(model(x), x[:, :2]).backward()
        if recorder is not None:
            recorder.record(step, loss=0.5)
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("dim", [None, 16])
def test_training_is_the_same_with_a_recorder(dim):
    outcomes = []
    for records in (False, True):
        torch.manual_seed(0)
        model = network()
        recorder = TrajectoryRecorder(model, dim=dim, buffers=True, **some(20)) if records else None
        train(model, recorder)
        outcomes.append((model, torch.random.get_rng_state()))
    (plain, stream), (watched, stream_watched) = outcomes
    assert torch.equal(stream, stream_watched)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name
    for p, q in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_modes_around_a_record_change_nothing():
    torch.manual_seed(0)
    records = []
    for mode in (torch.enable_grad(), torch.inference_mode(), torch.autocast("cpu")):
        torch.manual_seed(0)
        model = network()
        recorder = TrajectoryRecorder(model, dim=16)
        with mode:
            recorder.record(0)
        train(model, recorder, start=1)
        records.append(recorder.trajectory)
    assert records[0] == records[1] == records[2]


# --- Interrupted and resumed --------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"points": 5}, {"window": 4}], ids=["all", "thin", "last"])
@pytest.mark.parametrize("dim", [None, 16], ids=["exact", "projected"])
@pytest.mark.parametrize("cut", [0, 8, 31])
def test_an_interrupted_run_has_the_record_of_an_uninterrupted_one(cut, dim, options):
    torch.manual_seed(1)
    path = torch.randn(40, 4, 6)
    path[17, 0, 0] = math.nan

    def run(recorder, model, optimizer, steps):
        for step in steps:
            optimizer.param_groups[0]["lr"] = 1 / (step + 1)
            with torch.no_grad():
                model.weight.copy_(path[step])
            recorder.record(step, loss=float(step) if step % 2 else None)

    def begin():
        model = nn.Linear(6, 4, bias=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        samples = Samples(torch.eye(6), torch.arange(6) % 4)
        recorder = TrajectoryRecorder(
            model,
            dim=dim,
            every=3,
            optimizer=optimizer,
            samples=samples,
            loss=nn.functional.cross_entropy,
            **options,
        )
        return recorder, model, optimizer

    whole = begin()
    run(*whole, range(40))

    first = begin()
    run(*first, range(cut))
    state = first[0].state_dict()
    run(*first, range(cut, 40))  # What goes on here must not reach the state.
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second = begin()
    second[0].load_state_dict(state)
    run(*second, range(cut, 40))
    assert second[0].trajectory == first[0].trajectory == whole[0].trajectory

    third = begin()  # Nor must the run that was resumed have changed the state.
    third[0].load_state_dict(state)
    run(*third, range(cut, 40))
    assert third[0].trajectory == whole[0].trajectory


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Linear(4, 2), {"dim": 3}, r"dim is 2 here, 3 in the state"),
        (nn.Linear(4, 2), {"dim": 2, "seed": 1}, r"seed is 0 here, 1 in the state"),
        (nn.Linear(4, 2), {"dim": 2, "every": 2}, r"every is 1 here, 2 in the state"),
        (nn.Linear(4, 2), {"dim": 2, "window": 9}, r"window is None here, 9 in the state"),
        (nn.Linear(5, 2), {"dim": 2}, r"'weight': \[2, 4\].* here, .*'weight': \[2, 5\]"),
        (nn.Linear(4, 2).double(), {"dim": 2}, r"float32' here, 'torch.float64' in the state"),
    ],
    ids=["dim", "seed", "every", "window", "size", "dtype"],
)
def test_the_state_of_another_recorder_is_refused_and_changes_nothing(model, options, message):
    other = TrajectoryRecorder(model, **options)
    other.record(0)
    recorder = TrajectoryRecorder(nn.Linear(4, 2), dim=2)
    recorder.record(0, loss=3.0)
    before = recorder.trajectory
    with pytest.raises(ValueError, match=message):
        recorder.load_state_dict(other.state_dict())
    assert recorder.trajectory == before


# --- Memory -------------------------------------------------------------------------------------

PEAK = """
import torch
from torch import nn
from geomprobe.sampling import TrajectoryRecorder

def memory(line):
    with open("/proc/self/status") as file:
        return 1024 * next(int(row.split()[1]) for row in file if row.startswith(line))

# What is compiled is loaded once in a process, and is no matter of the model's size.
TrajectoryRecorder(nn.Linear(64, 64), dim=64).record(0)
model = nn.Sequential(*(nn.Linear(2500, 2500, bias=False) for _ in range(4)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
before = memory("VmRSS")
recorder = TrajectoryRecorder(model, dim=1024, points=50, optimizer=optimizer)
for step in range(3):
    recorder.record(step)
assert recorder.trajectory.points.shape == (3, 1024)
print(memory("VmHWM") - before)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_25_million_parameters_take_a_copy_of_them_and_little_more():
    done = subprocess.run(
        [sys.executable, "-c", PEAK], capture_output=True, text=True, check=True, timeout=600
    )
    copy = 4 * 25_000_000
    assert copy < int(done.stdout) < 1.3 * copy
