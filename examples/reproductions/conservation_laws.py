"""What gradient flow conserves drifts with the learning rate, and decays with weight decay.

**Claim.** Every continuous symmetry of the parameters gives a quantity that gradient flow
conserves: for consecutive linear layers the difference of their Gram matrices, for each hidden ReLU
unit the squared norm of its incoming weights less that of its outgoing ones. Steps of finite size
break these laws: over a fixed time the drift is proportional to the learning rate. With weight
decay λ the quantities fall as exp(-2λt). Kunin, D. et al. (2021), *Neural mechanics: symmetry and
broken conservation laws in deep learning dynamics*, ICLR; Du, S. S., Hu, W. and Lee, J. D. (2018),
NeurIPS; Marcotte, S., Gribonval, R. and Peyré, G. (2023), *Abide by the law and follow the flow:
conservation laws for gradient flows*, NeurIPS, who count them.

**Here.** A linear network of three layers and a ReLU network of two hidden layers with biases, on
200 digits of scikit-learn, full-batch SGD over a fixed time of 4 with learning rates from 0.1 down
to 0.0125, without and with weight decay 0.05 and with momentum 0.9, five seeds.
`geomprobe.dynamics.conserved_quantities` finds the quantities, `conservation_drift` measures them.
What decides: the power of the learning rate with which the largest drift grows, the same around the
exponential law, and for momentum the misfit with what its steps must make of the quantities. The
numbers of conserved quantities of factorisations U Vᵀ, (n, m, r) = (5, 4, 3), (1, 1, 3) and (2, 1,
5), are counted by the Lie algebra of gradient fields (`count_conserved`) and must be 6, 5 and 12.

**What differs.** The papers train VGG-16 on Tiny ImageNet, and watch norms of its layers.

**What it does not show.** That conserved quantities matter for generalization.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, mean, reproduce
from sklearn.datasets import load_digits
from torch import Tensor, nn

from geomprobe.dynamics import (
    ConservationDrift,
    conservation_drift,
    conserved_quantities,
    count_conserved,
    drift_order,
)

TIME = 4.0
COUNTS = {(5, 4, 3): 6, (1, 1, 3): 5, (2, 1, 5): 12}


def networks() -> dict[str, nn.Sequential]:
    """Return a linear and a ReLU network."""
    linear = [nn.Linear(64, 16, bias=False), nn.Linear(16, 16, bias=False)]
    return {
        "linear": nn.Sequential(*linear, nn.Linear(16, 10, bias=False)).double(),
        "ReLU": nn.Sequential(
            nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10)
        ).double(),
    }


def drift(
    start: nn.Module, x: Tensor, y: Tensor, lr: float, momentum: float, decay: float
) -> ConservationDrift:
    """Train over the fixed time, and return the drift of all quantities."""
    model = copy.deepcopy(start)
    quantities = conserved_quantities(model)
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum, weight_decay=decay)
    states, gradients = [], []
    for _ in range(round(TIME * (1 - momentum) / lr)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        named = dict(model.named_parameters())
        states.append({name: value.detach().clone() for name, value in named.items()})
        gradients.append({name: value.grad.clone() for name, value in named.items()})
        optimizer.step()
    states.append({name: value.detach().clone() for name, value in model.named_parameters()})
    return conservation_drift(
        states, quantities, lr=lr, gradients=gradients, momentum=momentum, weight_decay=decay
    )


def product(n: int, m: int, r: int) -> Callable[[Tensor], Tensor]:
    """Return the map from two factors, (n, r) and (m, r), one after another, to their product."""
    return lambda factors: factors[: n * r].view(n, r) @ factors[n * r :].view(m, r).T


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Train with several learning rates, with and without decay and momentum."""
    digits = load_digits()
    x = torch.tensor(digits.data[:200] / 16)
    y = torch.tensor(digits.target[:200])
    rates = [0.1, 0.05] if smoke else [0.1, 0.05, 0.025, 0.0125]
    seeds = range(2 if smoke else 5)
    ways = {"SGD": (0.0, 0.0), "weight decay": (0.0, 0.05), "momentum": (0.9, 0.0)}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
    checks = []
    for ax, kind in zip(axes, ("linear", "ReLU"), strict=True):
        for way, (momentum, decay) in ways.items():
            drifts = np.zeros((len(seeds), len(rates)))
            misfit = 0.0
            for seed in seeds:
                torch.manual_seed(seed)
                start = networks()[kind]
                for k, lr in enumerate(rates):
                    found = drift(start, x, y, lr, momentum, decay)
                    drifts[seed, k] = max(values.max() for values in found.drift.values())
                    misfit = max(misfit, *found.misfit.values())
            if way != "momentum":
                orders = [drift_order(rates, row).value for row in drifts]
                checks.append(
                    Check(f"{kind}, {way}: order of the drift", *mean(orders), 0.85, 1.15)
                )
            checks.append(Check(f"{kind}, {way}: misfit of the steps", misfit, at_most=1e-8))
            ax.loglog(rates, drifts.mean(axis=0), marker="o", label=way)
        ax.set(title=kind, xlabel="learning rate")
        ax.legend()
    axes[0].set_ylabel(f"largest drift over a time of {TIME:g}")
    for (n, m, r), expected in COUNTS.items():
        point = torch.randn((n + m) * r, dtype=torch.float64, generator=torch.manual_seed(0))
        count = count_conserved(product(n, m, r), point).conserved
        checks.append(Check(f"conserved quantities of {n, m, r}", count, 0.0, expected, expected))
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
