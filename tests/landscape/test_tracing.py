"""Operations in which units are easily confused: the orders of the groups are counted by hand."""

import math

import pytest
import torch
from torch import nn

from geomprobe import Samples
from geomprobe.landscape import align, random_equivalent, symmetries


class Applied(nn.Module):
    """A first and a last layer, and a function between."""

    def __init__(self, function, inside, outside=None, before=6):
        super().__init__()
        self.function = function
        self.a, self.b = nn.Linear(before, inside), nn.Linear(outside or inside, 3)

    def forward(self, x):
        return self.b(self.function(torch.relu(self.a(x))))


class Bidirectional(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(6, 5, 2, nonlinearity="relu", batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0].mean(1))


def image(*layers):
    return nn.Sequential(*layers)


CASES = {
    # Both halves see the same units, one twice as large.
    "twice": (Applied(lambda y: torch.cat([y, 2 * y], 1), 4, 8), (6,), [4]),
    "in part": (Applied(lambda y: torch.cat([2 * y[:, :3], y[:, 3:]], 1), 8), (6,), [3, 5]),
    "turned": (Applied(lambda y: y + y.flip(1), 8), (6,), []),
    "rolled": (Applied(lambda y: y + y.roll(1, 1), 8), (6,), []),
    "added up": (Applied(lambda y: y.cumsum(1), 8), (6,), []),
    "numbered": (Applied(lambda y: y * y.max(1, keepdim=True)[1], 8), (6,), []),
    "maxout": (Applied(lambda y: y.view(-1, 2, 5).amax(1), 10, 5), (6,), [5, *[2] * 5]),
    "gated": (Applied(lambda y: nn.functional.glu(y), 10, 5), (6,), [5]),
    "products": (Applied(lambda y: (y[:, :, None] * y[:, None]).flatten(1), 4, 16), (6,), []),
    "recurrent": (Bidirectional(), (4, 6), [5] * 4),
    "weight norm": (
        nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3)
        ),
        (6,),
        [8],
    ),
    # Places within groups are permuted alike in both groups.
    "transposed": (
        image(
            nn.Conv2d(2, 6, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(6, 4, 3, groups=2),
            nn.ReLU(),
            nn.Conv2d(4, 3, 1),
        ),
        (2, 8, 8),
        [2],
    ),
    # Three sets of four channels could be permuted: what becomes a place is pinned.
    "shuffled": (
        image(nn.Conv2d(2, 12, 3), nn.ReLU(), nn.PixelShuffle(2), nn.Conv2d(3, 4, 3), nn.Flatten()),
        (2, 8, 8),
        [],
    ),
    "instance norm": (
        image(nn.Conv2d(2, 5, 3), nn.InstanceNorm2d(5, affine=True), nn.GELU(), nn.Conv2d(5, 3, 1)),
        (2, 8, 8),
        [5],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_units_are_not_confused(name):
    model, shape, orders = CASES[name]
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
    samples = Samples(torch.randn(6, *shape, generator=generator))
    expected = sum(math.lgamma(n + 1) for n in orders)
    assert symmetries(model, samples).log_order == pytest.approx(expected, abs=1e-9)
    # Raises where it is another function.
    other = random_equivalent(model, samples, rescale=0.3)
    found = align(model, other, samples, rescale=True, tolerance=0)
    assert found.distance_after <= 1e-6 * max(found.distance_before, 1)
