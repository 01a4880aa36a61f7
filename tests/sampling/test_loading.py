import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from geomprobe.evidence import Samples
from geomprobe.sampling.loading import iterate_batches, number_of_batches

X, Y = torch.arange(10.0).reshape(5, 2), torch.arange(5)


@pytest.mark.parametrize(
    "data",
    [
        X,
        X.numpy(),
        (X, Y),
        (X.numpy(), Y.numpy()),
        TensorDataset(X, Y),
        DataLoader(TensorDataset(X, Y), batch_size=2),
        [(X[:3], Y[:3]), (X[3:], Y[3:])],
        [{"x": X, "labels": Y}],
        (pair for pair in [(X, Y)]),
        [[X]],
    ],
    ids=lambda data: type(data).__name__,
)
def test_every_way_to_hold_data_gives_the_same_samples(data):
    batches = list(iterate_batches(data, batch_size=2))
    inputs = torch.cat([b.inputs["x"] if isinstance(b.inputs, dict) else b.inputs for b in batches])
    assert torch.equal(inputs, X)
    assert torch.equal(torch.cat([b.ids for b in batches]), Y)
    if batches[0].targets is not None:
        assert torch.equal(torch.cat([b.targets for b in batches]), Y)


def test_several_inputs_stay_together():
    (batch,) = iterate_batches([((X, X + 1), Y)])
    assert torch.equal(batch.inputs[1], X + 1)
    assert len(batch) == 5


@pytest.mark.parametrize("empty", [[], DataLoader(TensorDataset(X[:0], Y[:0])), iter([])])
def test_an_empty_loader_is_refused(empty):
    with pytest.raises(ValueError, match="hold no batches"):
        list(iterate_batches(empty))


def test_batches_that_cannot_be_read_say_what_they_are():
    with pytest.raises(ValueError, match="3 parts is ambiguous"):
        list(iterate_batches([(X, Y, Y)]))
    with pytest.raises(ValueError, match="holds no samples: its inputs are str;"):
        list(iterate_batches([("text", Y)]))
    with pytest.raises(ValueError, match=r"give a tuple \(inputs, targets\)"):
        list(iterate_batches([X, Y]))
    with pytest.raises(ValueError, match="LabelEncoder"):
        list(iterate_batches((X, np.array(["a", "b", "c", "d", "e"]))))
    with pytest.raises(ValueError, match="5 samples and 3 targets"):
        list(iterate_batches([(X, Y[:3])]))
    with pytest.raises(ValueError, match="the data have 5 samples and 3 targets"):
        next(iterate_batches((X, Y[:3]), batch_size=2))
    with pytest.raises(ValueError, match="give a Dataset or a DataLoader"):
        list(iterate_batches([{"x": X[0], "labels": 1}]))
    with pytest.raises(TypeError, match="got int"):
        list(iterate_batches(3))


def test_arrays_become_tensors():
    (batch,) = iterate_batches(np.ones((3, 2), np.float32))
    assert isinstance(batch.inputs, torch.Tensor)


def test_the_number_of_batches_is_told_where_it_is_known():
    loader = DataLoader(TensorDataset(X, Y), batch_size=2)
    assert number_of_batches(loader) == len(list(iterate_batches(loader))) == 3
    assert number_of_batches([(X, Y)]) == 1
    assert number_of_batches((X, Y)) is None


def test_the_stream_of_a_loader_of_its_own_is_put_back():
    # One generator for all loaders is what PyTorch's notes on reproducibility advise.
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(TensorDataset(X), batch_size=2, shuffle=True, generator=generator)
    before = generator.get_state()
    first = [batch.inputs for batch in iterate_batches(loader)]
    assert torch.equal(generator.get_state(), before)
    next(iter(iterate_batches(loader)))
    assert torch.equal(generator.get_state(), before)
    again = [batch.inputs for batch in iterate_batches(loader)]
    assert all(map(torch.equal, first, again))


@pytest.mark.long
def test_a_loader_with_persistent_workers_that_is_in_use_goes_on():
    loader = DataLoader(TensorDataset(X), batch_size=1, num_workers=1, persistent_workers=True)
    seen = []
    for number, (batch,) in enumerate(loader):
        seen.append(batch)
        if number == 1:
            assert len(list(iterate_batches(loader))) == 5
    assert torch.equal(torch.cat(seen), X)


@pytest.mark.parametrize("size", [None, 2])
def test_an_iterable_dataset_yields_samples_or_batches_with_as_many_targets(size):
    class Stream(IterableDataset):
        def __iter__(self):
            if size is None:
                return iter(zip(X, Y, strict=True))
            return iter(zip(X.split(size), Y.split(size), strict=True))

    batches = list(iterate_batches(Stream(), batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), X)
    assert torch.equal(torch.cat([batch.targets for batch in batches]), Y)


@pytest.mark.parametrize("inputs", [(X, 2 * X), [X, 2 * X], {"a": X, "b": 2 * X}], ids=str)
def test_several_inputs_and_targets(inputs):
    batches = list(iterate_batches((inputs, Y), batch_size=3))
    assert [len(batch) for batch in batches] == [3, 2]
    assert torch.equal(batches[1].targets, Y[3:])
    second = batches[0].inputs["b" if isinstance(inputs, dict) else 1]
    assert torch.equal(second, 2 * X[:3])


def test_a_default_device_does_not_reach_sample_ids():
    with torch.device("meta"):
        assert [batch.ids.device.type for batch in iterate_batches((X, Y))] == ["cpu"]


def test_a_model_that_works_in_place_changes_nobody_s_samples():
    kept = Samples(torch.ones(5, 2), torch.zeros(5))
    for batch in (*kept.batches(2), kept.take(slice(None))):
        batch.inputs.zero_()
    assert torch.equal(kept.inputs, torch.ones(5, 2))
