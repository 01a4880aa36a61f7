"""The barrier between two networks shrinks with width once their units are aligned.

**Claim.** Between two networks that were trained from different seeds the loss rises, on the
straight line. Once the units of one are permuted to match those of the other, it rises far less,
and the less the wider they are: wide networks have one valley, up to permutations. Ainsworth,
S. K., Hayase, J. and Srinivasa, S. (2023), *Git Re-Basin: merging models modulo permutation
symmetries*, ICLR, section 5; Entezari, R., Sedghi, H., Saukh, O. and Neyshabur, B. (2022),
*The role of permutation invariance in linear mode connectivity of neural networks*, ICLR, who
conjectured it.

**Here.** ReLU networks of two hidden layers of 16 to 256 units on 1,000 digits of scikit-learn,
by Adam; five pairs a width, of ten networks. `geomprobe.landscape.align` matches weights, and
`geomprobe.landscape.linear_barrier` is of the cross-entropy on 797 test samples. What decides:
the rank correlation of the barrier with width after alignment, over the pairs; which share of the
barrier it leaves at the largest width; and the logarithm of the barrier without alignment at the
largest width over that at the smallest, which must not be far below 0.

**What differs.** Ainsworth et al. train MLPs of three hidden layers on MNIST, and VGGs and ResNets
on CIFAR-10. Networks that do not fit are at no minimum: a first run, at a learning rate of 0.003
instead of 0.01, left the narrowest at a training loss of 0.17. There the barrier before alignment
fell with width to 0.3 of what it was, so that the claim was not found, by the same bounds.

**What it does not show.** That all minima of wide networks are one, up to permutations: these were
found by one way of training, on an easy task. Nor that permutations are needed: the barrier falls
with width without them, too, as Ito, A., Yamada, M., Chijiwa, D. and Kumagai, A. (2025), *Do we
really need permutations?*, arXiv:2510.08023, found in wider networks.
"""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, mean, reproduce, train_together
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import nn

import geomprobe as gp
from geomprobe.landscape import LinearBarrier, align, linear_barrier

LOSS = nn.functional.cross_entropy


def network(width: int) -> nn.Sequential:
    """Return a network, untrained."""
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def lines(
    width: int, pairs: int, steps: int, train: gp.Samples, test: gp.Samples
) -> list[tuple[LinearBarrier, LinearBarrier]]:
    """Train pairs of networks; return the line between each, before and after alignment."""
    torch.manual_seed(width)
    models = [network(width) for _ in range(2 * pairs)]
    x, y = (tensor.expand(len(models), *tensor.shape) for tensor in (train.inputs, train.targets))
    train_together(models, x, y, steps=steps, lr=0.01, batch=100)
    found = []
    for a, b in zip(models[::2], models[1::2], strict=True):
        others = b, align(a, b, train).model
        found.append(tuple(linear_barrier(a, one, train, LOSS, test=test) for one in others))
    return found


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Train pairs of networks of growing width."""
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    train, test = gp.Samples(x[:1000], y[:1000]), gp.Samples(x[1000:], y[1000:])
    widths = [8, 16, 32] if smoke else [16, 32, 64, 128, 256]
    pairs, steps = (2, 200) if smoke else (5, 600)
    found = [lines(width, pairs, steps, train, test) for width in widths]
    # Of each pair and width, before and after.
    barriers = np.array(
        [[[line.test_barrier.value for line in pair] for pair in of_width] for of_width in found]
    ).transpose(1, 0, 2)
    losses = [end.value for of_width in found for pair in of_width for end in pair[0].train.ends]
    before, after = barriers[:, :, 0], barriers[:, :, 1]
    checks = [
        Check("largest training loss", max(losses), at_most=3.0 if smoke else 0.1),
        Check(
            "rank correlation of barrier and width, aligned",
            *mean([spearmanr(widths, row).statistic for row in after]),
            at_most=-0.5,
        ),
        Check(
            "share of the barrier that alignment leaves, widest",
            *mean(after[:, -1] / before[:, -1]),
            at_most=0.2,
        ),
        Check(
            "log ratio of barriers before alignment, widest over narrowest",
            *mean(np.log(before[:, -1] / before[:, 0])),
            at_least=math.log(0.5),
        ),
    ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    for values, colour, label in ((before, "C0", "as they are"), (after, "C1", "aligned")):
        left.plot(widths, values.T, color=colour, lw=0.5)
        left.plot(widths, values.mean(axis=0), color=colour, marker="o", label=label)
    left.set(xscale="log", xlabel="width", title="barrier of the test loss")
    left.set_xticks(widths, widths)
    left.minorticks_off()
    left.legend()
    for k, of_width in enumerate(found):
        for line, style in zip(of_width[0], ("--", "-"), strict=True):
            path = line.test
            assert path is not None
            label = str(widths[k]) if style == "-" else None
            right.plot(path.positions, path.mean, style, color=f"C{k}", lw=1.1, label=label)
    right.set(xlabel="position on the line", title="test loss of one pair (dashed: as it is)")
    right.title.set_fontsize(10)
    right.legend(title="width", fontsize=7)
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
