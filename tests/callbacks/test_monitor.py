import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import geomprobe as gp
from geomprobe.callbacks import History
from geomprobe.exceptions import DetachedProbeWarning

X, Y = torch.randn(40, 3), torch.arange(40) % 2


class Spread:
    """Standard deviation of each cloud: an analyzer with a closed form."""

    name = "spread"
    needs = frozenset({"activations"})
    readings = {"sd": "How far the points spread."}

    def __call__(self, evidence):
        for layer, cloud in evidence.clouds.items():
            estimate = gp.Estimate(cloud.points.std(), exact=True, n=len(cloud), method="numpy")
            yield gp.Finding(self.name, layer, {"sd": estimate})


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


def monitored(steps, **options):
    options = {"budget": None, "analyzers": Spread(), **options}
    monitor = gp.Monitor(network(), (X, Y), **options)
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
        monitor = gp.Monitor(network(), source, every="1 step", analyzers=Spread(), budget=None)
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
    with gp.Monitor(model, (X, Y), analyzers=Slow(), every="1 step", budget=1e-9) as monitor:
        for _ in range(5):
            monitor.step()
        assert [r.step for r in monitor.history] == [1]
        assert monitor.overhead > 1e-9
    assert [r.step for r in monitor.history] == [1, 5]


def test_overhead_is_the_share_of_time_spent():
    monitor = monitored(6, every="2 steps")
    seconds = sum(record.seconds for record in monitor.history)
    elapsed = monitor._spent / monitor.overhead
    assert seconds <= monitor._spent <= elapsed


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

    monitor = gp.Monitor(Fragile(), X, every="1 step", analyzers=Spread())
    with pytest.warns(DetachedProbeWarning, match="observation at step 1 failed.*cannot evaluate"):
        monitor.step()
    assert monitor.history[0].findings[0].failed.endswith(": cannot evaluate")
    (row,) = monitor.history.rows()
    assert row["metric"] == "geom/monitor/model/failed"
    assert math.isnan(row["value"])
    assert row["note"].endswith("cannot evaluate")
    strict = gp.Monitor(Fragile(), X, every="1 step", analyzers=Spread(), strict=True)
    with pytest.raises(ValueError, match=r"raised RuntimeError.*cannot evaluate"):
        strict.step()


def test_the_trajectory_is_recorded_and_reaches_the_analyzers():
    class Length(Spread):
        needs = frozenset({"trajectory"})

        def __call__(self, evidence):
            points = gp.Estimate(len(evidence.trajectory), exact=True)
            yield gp.Finding("length", "model", {"points": points})

    monitor = monitored(4, every="2 steps", analyzers=Length(), trajectory=8)
    assert [r.findings[0].scalars["points"].value for r in monitor.history] == [2, 4]
    assert monitor.trajectory.points.shape == (4, 8)


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
