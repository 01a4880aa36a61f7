import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

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
    ids=str,
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
