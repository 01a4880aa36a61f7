import numpy as np
import pytest
import torch
from torch import nn

from geomprobe import CloudSet, Evidence, PointCloud, Samples, Trajectory
from geomprobe.evidence import NEEDS, forward, leading_size, require_samples

CLOUDS = CloudSet([PointCloud(np.zeros((2, 1)), layer="a")])
PATH = Trajectory(np.zeros((1, 1)), [0], [0.0])
DATA = Samples(torch.zeros(2, 1))


class Sum(nn.Module):
    def forward(self, left, right):
        return left + 2 * right


@pytest.mark.parametrize(
    "inputs",
    [
        {"right": torch.ones(3), "left": torch.zeros(3)},
        (torch.zeros(3), torch.ones(3)),
        [torch.zeros(3), torch.ones(3)],
    ],
)
def test_a_batch_of_several_inputs_reaches_the_model_by_place_or_by_name(inputs):
    assert torch.equal(forward(Sum(), inputs), 2 * torch.ones(3))


def test_a_batch_of_one_tensor_reaches_the_model_whole():
    assert torch.equal(forward(nn.Identity(), torch.arange(4)), torch.arange(4))


@pytest.mark.parametrize(
    ("tree", "size"),
    [
        (torch.zeros(5, 2), 5),
        ({"scale": torch.tensor(1.0), "x": [torch.zeros(4)]}, 4),
        (("text", torch.zeros(0, 3)), 0),
        (torch.tensor(1.0), None),
        ({}, None),
    ],
)
def test_the_size_of_a_batch_is_that_of_its_first_tensor_with_rows(tree, size):
    assert leading_size(tree) == size


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([torch.zeros(2, 1)], TypeError, "must be Samples.*got list"),
        (Samples(np.zeros((2, 1))), TypeError, "inputs must be tensors.*got ndarray"),
        (Samples("text"), TypeError, "inputs must be tensors.*got str"),
        (Samples(torch.zeros(2, 1), [0, 1]), TypeError, "targets must be tensors.*got list"),
        (Samples(torch.zeros(0, 1), torch.zeros(0)), ValueError, "no samples"),
        (DATA, ValueError, "targets are needed"),
    ],
)
def test_what_are_no_samples_of_tensors_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        require_samples(data, targets=True)


def test_evidence_says_what_it_can_serve():
    assert Evidence().available == frozenset()
    assert Evidence(clouds=CLOUDS).available == {"activations"}
    assert Evidence(trajectory=PATH).available == {"trajectory"}
    assert Evidence(model=nn.Linear(1, 1)).available == {"model"}
    assert Evidence(data=Samples(torch.zeros(0, 1))).available == frozenset()
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    every = Evidence(CLOUDS, PATH, model, DATA, optimizer=optimizer, others={"b": model})
    assert every.available == NEEDS


def test_shared_computes_once_a_key_and_for_each_evidence_anew():
    calls = []

    def compute(value):
        def record():
            calls.append(value)
            return value

        return record

    evidence = Evidence()
    assert [evidence.shared("key", compute(None)) for _ in range(3)] == [None, None, None]
    assert evidence.shared(("key", 2), compute(2)) == 2
    assert Evidence().shared("key", compute(3)) == 3
    assert calls == [None, 2, 3]


def test_a_shared_computation_that_fails_is_not_kept():
    evidence = Evidence()
    with pytest.raises(ZeroDivisionError):
        evidence.shared("key", lambda: 1 / 0)
    assert evidence.shared("key", lambda: 1) == 1


def test_samples_are_taken_through_any_nesting_and_scalars_stay():
    inputs = {"x": torch.arange(4), "more": (torch.arange(8).reshape(4, 2), torch.tensor(7.0))}
    samples = Samples(inputs, torch.arange(4) + 10, torch.arange(4) + 20)
    taken = samples.take(torch.tensor([3, 1]))
    assert taken.inputs["x"].tolist() == [3, 1]
    assert taken.inputs["more"][0].tolist() == [[6, 7], [2, 3]]
    assert taken.inputs["more"][1] == 7
    assert (taken.targets.tolist(), taken.ids.tolist()) == ([13, 11], [23, 21])
    assert Samples(inputs).take(slice(0, 2)).targets is None


def test_batches_hold_every_sample_once_and_in_order():
    samples = Samples(torch.arange(7), torch.arange(7))
    batches = list(samples.batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert torch.cat([batch.inputs for batch in batches]).tolist() == list(range(7))
    assert list(Samples(torch.zeros(0)).batches(3)) == []


def test_samples_move_whole_to_a_device():
    samples = Samples((torch.zeros(2), "text"), torch.zeros(2)).to("meta")
    assert samples.inputs[0].device.type == samples.targets.device.type == "meta"
    assert samples.inputs[1] == "text"
    assert samples.ids is None
