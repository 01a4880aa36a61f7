import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import geomprobe as gp
from geomprobe.callbacks import History
from geomprobe.exceptions import DetachedProbeWarning
from tests.callbacks.watched import Spread, X, Y, network


def monitored(steps, model=None, probe_data=(X, Y), **options):
    options = {"budget": None, "workers": 0, "analyzers": Spread(), **options}
    monitor = gp.Monitor(model or network(), probe_data, **options)
    for step in range(steps):
        monitor.step(loss=float(step))
    return monitor


def test_every_so_many_steps():
    assert [r.step for r in monitored(10, every="3 steps").history] == [3, 6, 9]


def test_every_so_many_epochs_by_their_length():
    records = monitored(12, every="2 epochs", steps_per_epoch=3).history
    assert [(r.step, r.epoch) for r in records] == [(6, 2.0), (12, 4.0)]


def test_every_epoch_by_hand():
    monitor = monitored(0)
    for _ in range(2):
        monitor.step()
        monitor.step()
        monitor.epoch_end()
    assert [(r.step, r.epoch) for r in monitor.history] == [(2, 1.0), (4, 2.0)]


def test_findings_are_those_of_the_model_at_that_step():
    monitor = monitored(1, every="1 step", layers="2")
    with torch.no_grad():
        monitor._model[2].weight.mul_(0)
        monitor._model[2].bias.mul_(0)
    monitor.step()
    values = [record.findings[0].scalars["sd"].value for record in monitor.history]
    assert values[0] > 0
    assert values[1] == 0


def test_a_loader_or_a_dataset_serves_as_probe_data():
    data = TensorDataset(X, Y)
    for source in (data, DataLoader(data, batch_size=7)):
        monitor = monitored(0, probe_data=source, every="1 step")
        monitor.step()
        monitor.step()
        first, second = (record.findings[0].scalars["sd"] for record in monitor.history)
        assert first == second
        assert first.n == 40


def test_a_monitor_that_never_observed_says_so_when_it_is_closed():
    monitor = gp.Monitor(network(), (X, Y), analyzers=Spread())
    monitor.close()
    monitor.step()
    with pytest.warns(gp.GeomprobeWarning, match="no observation was made in 1 steps"):
        monitor.close()


def test_over_budget_an_observation_is_put_off_and_made_up_for_at_the_end():
    class Slow(Spread):
        def __call__(self, evidence):
            torch.linalg.eigvalsh(torch.randn(300, 300))
            yield from super().__call__(evidence)

    model = network()
    with monitored(0, model, analyzers=Slow(), every="1 step", budget=1e-9) as monitor:
        for _ in range(5):
            monitor.step()
        assert [r.step for r in monitor.history] == [1]
        assert monitor.overhead > 1e-9
    assert [r.step for r in monitor.history] == [1, 5]


def test_history_as_a_frame_and_saved(tmp_path):
    history = monitored(4, every="2 steps", layers=["1", "2"]).history
    frame = history.to_frame()
    assert frame["metric"].tolist() == ["geom/spread/1/sd", "geom/spread/2/sd"] * 2
    assert frame["step"].tolist() == [2, 2, 4, 4]
    assert frame["loss"].tolist() == [1, 1, 3, 3]
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == history
    assert len(history[1:]) == 1


def test_a_failing_analyzer_is_a_failed_finding_and_training_goes_on():
    class Broken(Spread):
        name = "broken"

        def __call__(self, evidence):
            yield from list(super().__call__(evidence))[:1]
            raise RuntimeError("no luck")

    monitor = monitored(0, every="1 step", analyzers=[Broken(), Spread()], layers=["1", "2"])
    with pytest.warns(gp.GeomprobeWarning, match="no luck"):
        monitor.step()
    findings = monitor.history[0].findings
    assert [f.failed for f in findings] == [None, "RuntimeError: no luck", None, None]


def test_a_failing_pass_is_a_failed_finding_and_strict_raises():
    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            if not self.training:
                raise RuntimeError("cannot evaluate")
            return self.fc(x)

    monitor = monitored(0, Fragile(), X, every="1 step")
    with pytest.warns(DetachedProbeWarning, match="observation at step 1 failed.*cannot evaluate"):
        monitor.step()
    assert monitor.history[0].findings[0].failed.endswith(": cannot evaluate")
    (row,) = monitor.history.rows()
    assert row["metric"] == "geom/monitor/model/failed"
    assert math.isnan(row["value"])
    assert row["note"].endswith("cannot evaluate")
    strict = monitored(0, Fragile(), X, every="1 step", strict=True)
    with pytest.raises(ValueError, match=r"raised RuntimeError.*cannot evaluate"):
        strict.step()


def test_weights_that_hold_nan_are_named_and_training_goes_on():
    model = network()
    monitor = monitored(1, model, every="1 step")
    with torch.no_grad():
        model[2].bias[0] = math.nan
    with pytest.warns(DetachedProbeWarning, match="step 2 failed.*hold NaN. They are: 2.bias"):
        monitor.step()
    with torch.no_grad():
        model[2].bias[0] = 0
    monitor.step()
    assert [record.findings[0].failed is None for record in monitor.history] == [True, False, True]


def test_probe_data_that_raise_half_way_are_a_failed_finding_and_training_goes_on():
    class Loader:
        gone = False

        def __iter__(self):
            yield X[:20]
            if self.gone:
                raise OSError(5, "the disk of the data is gone")
            yield X[20:]

    data = Loader()
    monitor = monitored(1, probe_data=data, every="1 step", layers="0")
    data.gone = True
    with pytest.warns(DetachedProbeWarning, match="step 2 failed.*the disk of the data is gone"):
        monitor.step()
    data.gone = False
    monitor.step()
    whole, failed, again = (record.findings[0] for record in monitor.history)
    assert "the disk of the data is gone" in failed.failed
    assert whole.scalars == again.scalars
    assert whole.scalars["sd"].n == 40


def test_outputs_that_are_nan_of_finite_weights_fail_alone_with_the_reason():
    class Log(nn.Module):
        def forward(self, x):
            return torch.log(-1 - x.square())

    model = nn.Sequential(nn.Linear(3, 2), Log())
    options = {"analyzers": "persistent_homology", "layers": ["0", "1"], "points": 20}
    with pytest.warns(gp.GeomprobeWarning, match="finite"):
        monitor = monitored(1, model, every="1 step", **options)
    first, second = monitor.history[0].findings
    assert first.failed is None
    assert second.subject == "1"
    assert "finite" in second.failed


def test_the_trajectory_is_recorded_and_reaches_the_analyzers():
    class Length(Spread):
        needs = frozenset({"trajectory"})

        def __call__(self, evidence):
            points = gp.Estimate(len(evidence.trajectory), exact=True)
            yield gp.Finding("length", "model", {"points": points})

    monitor = monitored(4, every="2 steps", analyzers=Length(), trajectory=8)
    assert [r.findings[0].scalars["points"].value for r in monitor.history] == [2, 4]
    assert monitor.trajectory.points.shape == (4, 8)


def test_losses_of_probe_samples_are_recorded_beside_the_trajectory():
    cross_entropy = nn.functional.cross_entropy
    options = dict(every="9 steps", trajectory=8, loss=cross_entropy)
    model = network()
    recorded = monitored(3, model, trajectory_samples=40, **options).trajectory
    losses = cross_entropy(model(X), Y, reduction="none").detach()
    assert recorded.sample_losses.shape == recorded.sample_correct.shape == (3, 40)
    # All samples of the probe data, in whatever order.
    assert np.allclose(np.sort(recorded.sample_losses), np.sort(losses), atol=1e-6)
    with pytest.raises(ValueError, match="takes a positive number, a trajectory, probe_data"):
        monitored(0, trajectory_samples=4)
    with pytest.raises(ValueError, match="and their targets"):
        monitored(0, probe_data=X, trajectory_samples=4, **options)


def test_a_trajectory_that_cannot_be_recorded_ends_and_keeps_what_it_has():
    monitor = monitored(1, every="5 steps", trajectory=8)
    with torch.no_grad():
        monitor._model[0].weight.data = torch.zeros(1)
    with pytest.warns(DetachedProbeWarning, match="trajectory ends before step 2"):
        monitor.step()
    monitor.step()
    assert monitor.trajectory.steps.tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": "often"}, "every must read like '5 steps' or '1 epoch', got 'often'"),
        ({"every": "0 steps"}, "must read like"),
        ({"budget": 0}, "budget must be a share"),
        ({"budget": 3}, "budget must be a share"),
        ({"workers": -1}, "workers must be 0 or more, got -1"),
        ({"probe_data": None}, "give probe_data, or tap=True"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1"),
        ({"layers": "missing"}, "no layer matches 'missing'"),
        ({"points": 0}, "points must be at least 1"),
        ({"pool": "max"}, "pool must be one of"),
        ({"analyzers": "unheard_of"}, "no analyzer 'unheard_of'"),
        ({"probe_data": (X[:0], Y[:0])}, "hold no batches"),
        ({"probe_data": iter([(X, Y)])}, "can be read only once"),
        ({"every": 100}, "must read like '5 steps' or '1 epoch', got 100"),
    ],
)
def test_bad_parameters_are_refused_at_construction(options, message):
    arguments = {"probe_data": (X, Y), **options}
    with pytest.raises(ValueError, match=message):
        gp.Monitor(network(), **arguments)


def test_no_loss_is_none_and_a_loss_of_nan_is_kept():
    monitor = monitored(0, every="1 step")
    monitor.step()
    monitor.step(loss=math.nan)
    assert monitor.history[0].loss is None
    assert math.isnan(monitor.history[1].loss)


def tapped(steps, model=None, **options):
    """A monitor that has heard training batches of 4 samples each, the k-th filled with k."""
    model = model or network()
    monitor = monitored(0, model, None, tap=True, **options)
    for step in range(steps):
        model(torch.full((4, 3), float(step)))
        monitor.step()
    return monitor


def test_with_tap_the_clouds_are_those_of_the_training_batches_since_the_last_observation(tmp_path):
    monitor = tapped(6, every="3 steps", layers="0#in", store=tmp_path / "clouds")
    monitor.close()
    first, second = (record.findings[0] for record in monitor.history)
    assert first.scalars["sd"].value == pytest.approx(np.std(np.repeat([0, 1, 2], 12)))
    assert second.scalars["sd"].value == pytest.approx(np.std(np.repeat([3, 4, 5], 12)))
    assert first.notes == ("from the training batches as they passed, in train mode",)
    cloud = gp.CloudStore(tmp_path / "clouds")[6]["0#in"]
    assert sorted(set(cloud.points.ravel())) == [3, 4, 5]
    assert cloud.meta["source"] == first.notes[0]
    assert not monitor._model._forward_hooks


def test_with_tap_passes_in_eval_mode_do_not_count():
    model = network()
    monitor = tapped(2, model, every="4 steps", layers="0#in")
    model.eval()(torch.full((4, 3), 100.0))
    model.train()
    monitor.step()
    monitor.step()
    assert monitor.history[0].findings[0].scalars["sd"].value == pytest.approx(0.5)


def test_with_tap_probe_data_serve_the_analyzers_that_run_the_model():
    class Runs(Spread):
        needs = frozenset({"activations", "model", "data"})

        def __call__(self, evidence):
            estimate = gp.Estimate(float(len(evidence.data)), exact=True)
            yield gp.Finding("runs", "model", {"inputs": estimate})

    model = network()
    monitor = monitored(0, model, (X, Y), tap=True, analyzers=Runs(), every="1 step", samples=7)
    model(X)
    monitor.step()
    assert monitor.history[0].findings[0].scalars["inputs"].value == 7


class Clock:
    """Time that passes only when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def takes(self, seconds, value=None):
        self.now += seconds
        return value


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def test_the_overhead_is_all_time_that_the_monitor_takes_and_no_other(clock):
    class Slow(Spread):
        def __call__(self, evidence):
            clock.takes(3.0)
            return super().__call__(evidence)

    def numbers():  # Read once by the monitor as it is made, and then at each observation.
        yield clock.takes(0.5, X)

    data = type("Numbers", (), {"__iter__": lambda self: numbers()})()
    monitor = monitored(0, None, data, every="2 steps", analyzers=Slow())
    assert monitor.overhead == 1.0
    clock.takes(10.0)
    monitor.step()
    assert monitor.overhead == 0.5 / 10.5
    clock.takes(10.0)
    monitor.step()
    assert monitor.overhead == 4.0 / 24.0
    monitor.observe()
    assert monitor.overhead == 7.5 / 27.5
    monitor.close()
    assert [record.seconds for record in monitor.history] == [3.5, 3.5]


def test_with_tap_the_time_within_the_training_passes_counts(clock):
    model = network()
    given = torch.zeros(4, 2, 3)
    mask = lambda _: clock.takes(1.0, torch.ones(4, 2))  # noqa: E731
    monitor = tapped(0, model, every="9 steps", layers=["0", "2"], mask=mask)
    for _ in range(20):
        model(given)
        clock.takes(4.0)
    assert monitor.overhead == 0.0
    monitor.step()
    assert monitor.overhead == 0.2


def test_with_tap_ids_and_labels_can_be_given_and_without_are_refused():
    model = network()
    monitor = monitored(0, model, None, tap=True, every="9 steps", layers="0")
    monitor.identify(ids=[5, 9], labels=[1, 0])
    model(torch.zeros(2, 3))
    assert monitor._source._probe.clouds["0"].sample_ids.tolist() == [5, 9]
    with pytest.raises(ValueError, match="only a monitor with tap=True"):
        monitored(0).identify(ids=[1])


def test_a_compiled_model_cannot_be_tapped_but_be_shown_probe_data():
    model = torch.compile(network(), backend="eager")
    with pytest.raises(ValueError, match="compiled code calls no hooks"):
        gp.Monitor(model, tap=True)
    assert monitored(1, model, every="1 step").history[0].findings[0].scalars["sd"].value > 0


def test_the_clouds_of_every_observation_can_be_kept(tmp_path):
    monitored(4, every="2 steps", layers="0", points=10, store=tmp_path / "clouds")
    store = gp.CloudStore(tmp_path / "clouds")
    assert list(store.steps) == [2, 4]
    assert store[2]["0"].points.shape == (10, 8)


def test_clouds_that_can_be_kept_no_longer_do_not_stop_the_training(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monitor = monitored(1, every="1 step", store=tmp_path / "clouds")
    monkeypatch.setattr(gp.CloudStore, "append", full)
    with pytest.warns(DetachedProbeWarning, match="kept no longer, from step 2.*No space left"):
        monitor.step()
    monitor.step()
    assert all(record.findings[0].failed is None for record in monitor.history)
    assert list(gp.CloudStore(tmp_path / "clouds").steps) == [1]


def run(steps, path=None, start=0, state=None, tap=False):
    """Train for some steps from a checkpoint, and leave one."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    options = dict(every="4 steps", trajectory=8, seed=3, points=12, tap=tap)
    options |= dict(trajectory_samples=5, loss=nn.functional.cross_entropy)
    monitor = monitored(0, model, **options)
    if state is not None:
        state = torch.load(state, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        monitor.load_state_dict(state["monitor"])
    for step in range(start, start + steps):
        rows = torch.arange(step, step + 8) % 40
        loss = nn.functional.cross_entropy(model(X[rows]), Y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.step(loss=loss.item())
    if path is not None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "monitor": monitor.state_dict()}, path)
    return monitor


@pytest.mark.parametrize("tap", [False, True])
@pytest.mark.parametrize("interrupted", [3, 4, 9])
def test_an_interrupted_run_and_its_continuation_are_the_uninterrupted_run(
    tmp_path, tap, interrupted
):
    whole = run(14, tap=tap)
    run(interrupted, tmp_path / "state.pt", tap=tap)
    rest = run(14 - interrupted, start=interrupted, state=tmp_path / "state.pt", tap=tap)

    def facts(monitor):
        return [
            (r.step, r.epoch, r.loss, [replace(f, seconds=0.0) for f in r.findings])
            for r in monitor.history
        ]

    assert facts(whole) == facts(rest)
    assert len(whole.history) == 3
    assert rest.trajectory == whole.trajectory
    assert rest.overhead > 0


def test_a_state_of_another_kind_of_monitor_is_refused():
    state = monitored(1).state_dict()
    with pytest.raises(ValueError, match="made with trajectory, the state was not"):
        monitored(0, trajectory=4).load_state_dict(state)
    with pytest.raises(ValueError, match="made with tap, the state was not"):
        monitored(0, tap=True).load_state_dict(state)


def test_a_loss_that_is_not_finite_survives_the_file(tmp_path):
    monitor = gp.Monitor(
        nn.Linear(2, 2), torch.randn(10, 2), analyzers=(), every="1 steps", budget=None, workers=0
    )
    for loss in (math.nan, math.inf, None, 0.5):
        monitor.step(loss=loss)
    monitor.history.save(tmp_path / "history.json")
    losses = [record.loss for record in History.load(tmp_path / "history.json")]
    assert math.isnan(losses[0])
    assert losses[1:] == [math.inf, None, 0.5]


class Checkpointed(nn.Module):
    """A network whose hidden layer is run again in the backward pass, by training's own choice."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(checkpoint(self.body, x, use_reentrant=False))


def test_training_with_checkpoints_and_augmented_data_does_not_reach_what_is_observed():
    model = Checkpointed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    options = dict(analyzers=Spread(), layers=["body.0", "head"], workers=0, budget=None)
    with gp.Monitor(model, X, every="1 step", **options) as monitor:
        for _ in range(3):
            loss = nn.functional.cross_entropy(model(X + torch.randn_like(X)), Y)
            loss.backward()
            optimizer.step()
            monitor.step(loss)
    with torch.no_grad():
        hidden = model.body[0](X)
        expected = [hidden.numpy().std(), model.head(hidden.relu()).numpy().std()]
    for record in monitor.history:
        found = [finding.scalars["sd"].value for finding in record.findings]
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_loader_that_shuffles_shows_the_same_samples_every_time():
    x = torch.arange(60.0).reshape(30, 2)
    loader = DataLoader(TensorDataset(x), batch_size=10, shuffle=True)
    seen = []

    class Keeps:
        name, needs, readings = "keeps", frozenset({"activations"}), {}

        def __call__(self, evidence):
            seen.append(evidence.clouds["(root)"])
            return ()

    monitor = gp.Monitor(
        nn.Identity(),
        loader,
        layers="(root)",
        analyzers=Keeps(),
        every="1 steps",
        workers=0,
        budget=None,
    )
    for _ in range(2):
        torch.rand(7)
        monitor.step()
    assert np.array_equal(seen[0].points, seen[1].points)
    assert np.array_equal(seen[0].sample_ids, seen[1].sample_ids)


def test_a_pass_that_is_cut_short_makes_no_finding_of_what_came_before():
    calls = []

    def mask(given):
        calls.append(given)
        if len(calls) == 2:
            raise RuntimeError("no mask today")
        return torch.ones(4, 3)

    model = nn.Sequential(nn.Linear(2, 2))
    data = [torch.randn(4, 3, 2) for _ in range(5)]
    monitor = gp.Monitor(model, data, mask=mask, every="1 steps", workers=0, budget=None)
    with pytest.warns(DetachedProbeWarning):
        monitor.step()
    ((finding,),) = (record.findings for record in monitor.history)
    assert "a part of the data" in finding.failed
    assert "no mask today" in finding.failed


def test_what_the_trajectory_leaves_no_time_for_is_told(monkeypatch):
    model = nn.Linear(2, 2)
    monitor = gp.Monitor(
        model,
        torch.randn(10, 2),
        analyzers=(),
        trajectory=2,
        every="1 steps",
        workers=0,
        budget=1e-9,
    )
    for _ in range(3):
        monitor.step(loss=torch.tensor(1.0, requires_grad=True))
    with pytest.warns(gp.GeomprobeWarning, match="2 observations were left out, since recording"):
        monitor.close()
