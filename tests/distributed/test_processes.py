"""Several processes of torch.distributed (gloo) see what one process sees."""

import math
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import geomprobe as gp

N = 50
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3))


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")


def share_of(rank, processes, **options):
    """The loader of one process, over its share of the samples."""
    data = TensorDataset(X, Y)
    sampler = DistributedSampler(data, processes, rank, **options)
    return DataLoader(data, batch_size=7, sampler=sampler)


def watched(rank, processes, shuffle):
    """Clouds of the user's own passes over a distributed loader, with the samples' numbers."""
    loader = share_of(rank, processes, shuffle=shuffle)
    numbers = np.array(list(loader.sampler))
    model = DistributedDataParallel(network()) if processes > 1 else network()
    start = 0
    with gp.Probe(model, layers=["0", "2"], points=20) as probe, torch.no_grad():
        for x, y in loader:
            probe.identify(numbers[start : start + len(x)], y)
            model(x)
            start += len(x)
        return probe.gather()


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("shuffle", [False, True])
def test_reservoirs_of_many_processes_are_that_of_one(in_processes, processes, shuffle):
    # 50 samples over 4 processes: the sampler pads with two duplicates, which count once.
    first, *others = in_processes(lambda rank, count: watched(rank, count, shuffle), processes)
    assert others == [None] * (processes - 1)
    alone = watched(0, 1, shuffle)
    assert list(first) == list(alone)
    for name, cloud in alone.items():
        assert np.array_equal(first[name].sample_ids, cloud.sample_ids)
        assert len(set(cloud.sample_ids)) == 20
        assert np.array_equal(first[name].labels, cloud.labels)
        assert np.allclose(first[name].points, cloud.points, rtol=1e-6, atol=1e-6)


def test_samples_without_numbers_get_different_ones_in_each_process(in_processes):
    def watch(rank, processes):
        model = network()
        with gp.Probe(model, layers="0", points=100) as probe:
            for x, _ in share_of(rank, processes, shuffle=False):
                model(x)
            return probe.gather()

    first, _ = in_processes(watch, 2)
    # In the order of the data, as DistributedSampler deals them out.
    assert first["0"].sample_ids.tolist() == list(range(N))
    assert np.allclose(first["0"].points, network()[0](X).detach(), atol=1e-6)


class Cut(nn.Module):
    """A layer of whose output the caller says how many entries go on."""

    def __init__(self):
        super().__init__()
        self.layer, self.cut = nn.Linear(3, 4), nn.Identity()

    def forward(self, x, width):
        return self.cut(self.layer(x)[:, :width])


def sizes_and_warnings(widths, ids=None):
    """Show a model batches of five samples, and gather; the ids are those of the last."""
    model = Cut()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with gp.Probe(model, ["layer", "cut"]) as probe:
            for width in widths:
                if width == widths[-1]:
                    probe.identify(ids)
                model(X[:5], width)
        clouds = probe.gather()
    sizes = None if clouds is None else {name: len(cloud) for name, cloud in clouds.items()}
    return sizes, "; ".join(str(one.message) for one in caught)


@pytest.mark.parametrize("second", [[4, 3], [3, 3]], ids=["in one of them", "between them"])
def test_a_layer_that_gives_no_cloud_in_one_process_gives_none_of_all(in_processes, second):
    def job(rank, processes):
        return sizes_and_warnings(second if rank else [4, 4])

    (sizes, said), _ = in_processes(job, 2)
    assert sizes == {"layer": 20}
    assert "layer 'cut' gives no cloud: its" in said


def test_a_probe_that_was_detached_in_one_process_is_told_of_on_the_first(in_processes):
    def job(rank, processes):
        return sizes_and_warnings([4, 2], ids=np.arange(9) if rank else None)

    (_, said), (_, here) = in_processes(job, 2)
    assert "the probe is detached" in here
    assert "the clouds lack some of what process 1 has seen: observing layer" in said


class Spread:
    """Standard deviation of each cloud, how many inputs there are, and what they sum to."""

    name = "spread"
    needs = frozenset({"activations", "data"})
    readings = {"sd": "How far the points spread."}

    def __call__(self, evidence):
        for layer, cloud in evidence.clouds.items():
            values = {
                "sd": cloud.points.astype(float).std(),
                "inputs": len(evidence.data),
                "sum": evidence.data.inputs.double().sum().item(),
            }
            scalars = {name: gp.Estimate(float(v), exact=True) for name, v in values.items()}
            yield gp.Finding(self.name, layer, scalars)


def trained(rank, processes, *, data=None, tap=False, **options):
    """Scalars of every observation of a training, and the weights at its end."""
    model = network()
    wrapped = DistributedDataParallel(model) if processes > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    usual = {"every": "2 steps", "budget": None, "points": 20, "samples": 9, "analyzers": Spread()}
    options = {**usual, **options}
    probe_data = (X, Y) if data is None else data(rank, processes)
    with gp.Monitor(wrapped, probe_data, tap=tap, **options) as monitor:
        for step in range(4):
            rows = torch.arange(step * 8, step * 8 + 8) % N
            mine = rows[rank::processes]
            loss = nn.functional.cross_entropy(wrapped(X[mine]), Y[mine])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss.item())
    history = [
        (record.step, f.subject, f.failed, {k: e.value for k, e in f.scalars.items()})
        for record in monitor.history
        for f in record.findings
    ]
    return history, [p.detach().numpy() for p in model.parameters()]


def agree(one, other):
    assert len(one) == len(other) > 0
    for (step, subject, failed, values), theirs in zip(one, other, strict=True):
        assert (step, subject, failed) == theirs[:3]
        assert values == pytest.approx(theirs[3], rel=1e-5)


@pytest.mark.parametrize("processes", [2, 4])
def test_a_monitor_finds_the_same_in_every_process_and_as_in_one(in_processes, processes):
    outcomes = in_processes(trained, processes)
    for history, _ in outcomes:
        assert history == outcomes[0][0]
    alone, weights = trained(0, 1)
    agree(outcomes[0][0], alone)
    for a, b in zip(weights, outcomes[-1][1], strict=True):
        assert np.allclose(a, b, atol=1e-6)


def test_only_the_first_process_analyzes(in_processes):
    def job(rank, processes):
        looked = []

        class Looking(Spread):
            def __call__(self, evidence):
                looked.append(evidence.step)
                return super().__call__(evidence)

        history, _ = trained(rank, processes, analyzers=Looking())
        return looked, history

    (first, told), (second, also) = in_processes(job, 2)
    assert (first, second) == ([2, 4], [])
    assert told == also


def test_a_distributed_loader_as_probe_data_is_read_in_shares(in_processes):
    def job(rank, processes):
        return trained(rank, processes, data=lambda r, p: share_of(r, p, shuffle=True))

    (first, _), (second, _) = in_processes(job, 2)
    assert first == second
    agree(first, job(0, 1)[0])


def test_tapped_training_batches_of_all_processes_count(in_processes):
    def job(rank, processes):
        return trained(rank, processes, tap=True, layers="0#in", points=100, every="4 steps")

    (first, _), (second, _) = in_processes(job, 2)
    assert first == second
    ((_, _, failed, values),) = first
    assert failed is None
    assert values["sd"] == pytest.approx(X[:32].double().std(unbiased=False).item(), rel=1e-5)


def test_a_process_that_fails_to_collect_is_named_and_none_hangs(in_processes):
    class Fragile(nn.Module):
        def __init__(self, rank):
            super().__init__()
            self.fc, self.rank = nn.Linear(3, 2), rank

        def forward(self, x):
            if self.rank == 1 and not self.training:
                raise RuntimeError("only here")
            return self.fc(x)

    def job(rank, processes):
        monitor = gp.Monitor(Fragile(rank), X, every="1 step", analyzers=Spread(), samples=4)
        monitor._source._data = [(X[:5],), (X[5:9],)]
        with pytest.warns(gp.GeomprobeWarning, match="only here"):
            monitor.step()
        return [f.failed for f in monitor.history[0].findings]

    first, second = in_processes(job, 2)
    assert first == second
    assert "process 1: ValueError" in first[0]


def test_weights_that_hold_nan_in_one_process_are_told_of_in_all(in_processes):
    def job(rank, processes):
        model = network()
        if rank == 1:
            nn.init.constant_(model[0].weight, math.nan)
        monitor = gp.Monitor(model, (X, Y), every="1 step", analyzers=Spread())
        with pytest.warns(gp.GeomprobeWarning, match="hold NaN. They are: 0.weight"):
            monitor.step()
        return [f.failed for f in monitor.history[0].findings]

    first, second = in_processes(job, 2)
    assert first == second != [None]


def test_the_first_process_decides_what_can_be_afforded(in_processes):
    def job(rank, processes):
        monitor = gp.Monitor(network(), (X, Y), every="1 step", analyzers=Spread(), budget=0.5)
        monitor.step()
        # The first has spent all its time, the others none.
        monitor._budget.book(math.inf if rank == 0 else -math.inf)
        monitor.step()
        monitor.step()
        monitor.close()
        return [record.step for record in monitor.history]

    assert in_processes(job, 2) == [[1, 3], [1, 3]]


def test_fully_sharded_models_are_shown_all_data_by_every_process(in_processes):
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("this PyTorch has no fully_shard")

    def job(rank, processes):
        model = network()
        mesh = dist.init_device_mesh("cpu", (processes,))
        for part in (model[0], model[2], model):
            fsdp.fully_shard(part, mesh=mesh)
        monitor = gp.Monitor(model, (X, Y), every="1 step", analyzers=Spread(), points=20)
        model(X[:4]).sum().backward()
        monitor.step()
        return [
            (0, f.subject, f.failed, {k: e.value for k, e in f.scalars.items()})
            for f in monitor.history[0].findings
        ]

    first, second = in_processes(job, 2)
    assert first == second
    monitor = gp.Monitor(network(), (X, Y), analyzers=Spread(), points=20, workers=0)
    alone = [
        (0, f.subject, f.failed, {k: e.value for k, e in f.scalars.items()})
        for f in monitor.observe()
    ]
    agree(first, alone)


def test_without_torch_distributed_there_is_one_process():
    model = network()
    with gp.Probe(model, layers="0") as probe:
        model(X)
    assert dict(probe.gather()) == dict(probe.clouds)
