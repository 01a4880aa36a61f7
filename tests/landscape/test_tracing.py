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


class Looking(nn.Module):
    """Code that looks at a value: of all units, or of one."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        h = torch.relu(self.a(x))
        return self.b(h) if self.looks(h) else self.b(2 * h)


@pytest.mark.parametrize(
    ("looks", "moving", "scaling"),
    [(lambda h: h.mean() > 0.1, 8, 0), (lambda h: h[0, 3].item() > 0, 7, 7)],
)
def test_units_whose_value_is_looked_at_stay(looks, moving, scaling):
    torch.manual_seed(0)
    found = symmetries(Looking(looks), Samples(torch.randn(9, 4)))
    assert found.log_order == pytest.approx(math.lgamma(moving + 1))
    assert len(found.scalings) == scaling


class Triangular(nn.Module):
    """A layer of triangular weights, or attention to places before."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention
        self.a, self.b, self.c = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x):
        h = torch.relu(self.a(x))
        if self.attention:
            return self.c((h @ x.transpose(1, 2)).tril() @ self.b(x))
        return self.c(torch.relu(nn.functional.linear(h, self.b.weight.tril())))


def test_triangular_weights_keep_their_places_and_causal_attention_moves():
    torch.manual_seed(0)
    models = [Triangular(attention=False) for _ in range(2)]
    assert align(*models, Samples(torch.randn(9, 6))).moved == 0
    found = symmetries(Triangular(attention=True), Samples(torch.randn(3, 5, 6)))
    assert found.log_order == pytest.approx(math.lgamma(7))


def test_batch_norm_without_running_statistics_is_followed_over_two_samples():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(8, track_running_stats=False)
    model = nn.Sequential(nn.Linear(4, 8), norm, nn.ReLU(), nn.Linear(8, 2))
    samples = Samples(torch.randn(9, 4))
    other = random_equivalent(model, samples)
    assert align(model, other, samples, rescale=True).distance_after < 1e-5
    assert symmetries(model, samples).log_order == pytest.approx(math.lgamma(9))
    with pytest.raises(ValueError, match="needs two samples"):
        symmetries(model, samples.take(slice(0, 1)))


def test_factors_leave_running_variances_positive():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(8, eps=0.1)
    model = nn.Sequential(nn.Linear(4, 8), norm, nn.ReLU(), nn.Linear(8, 2))
    other = random_equivalent(model, Samples(torch.randn(9, 4)), rescale=4.0)
    assert (other[1].running_var >= 0).all()
    assert other[1].running_var.max() > 10
