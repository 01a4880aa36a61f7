"""The picture of conservation_laws.md: drift by learning rate, and energies of an oscillator."""

import copy
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import nn

from geomprobe.dynamics import (
    conservation_drift,
    conserved_quantities,
    heavy_ball,
    modified_energy,
    symplectic_euler,
)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
torch.manual_seed(0)
start = nn.Sequential(*(nn.Linear(6, 6, bias=False) for _ in range(3))).double()
x, y = torch.randn(2, 50, 6, dtype=torch.float64)
quantities = conserved_quantities(start)
for lr in (0.2, 0.1, 0.05, 0.025):
    model = copy.deepcopy(start)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    states, gradients = [copy.deepcopy(model.state_dict())], []
    for _ in range(round(10 / lr)):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        optimizer.step()
        states.append(copy.deepcopy(model.state_dict()))
    found = conservation_drift(states, quantities, lr=lr, gradients=gradients)
    left.plot(found.times, found.drift["0 to 1"], label=f"learning rate {lr:g}")
    left.plot(found.times, found.predicted["0 to 1"], "k:", lw=1)
left.set(xlabel="steps times learning rate", ylabel="relative drift")
left.set_title("balance of a deep linear network\n(dotted: from the gradients)", fontsize=10)
left.legend(fontsize=8)


def bowl(q):
    return (q**2).sum() / 2


lr = 0.09
maps = {"no friction": symplectic_euler(bowl, lr), "momentum 0.98": heavy_ball(bowl, lr, 0.98)}
for name, update in maps.items():
    q, p = torch.ones(1), torch.zeros(1)
    plain, modified = [], []
    for _ in range(120):
        plain.append(float(bowl(q) + p.dot(p) / 2))
        modified.append(float(modified_energy(update, q, p, lr)))
        q, p = update(q, p)
    (line,) = right.semilogy(plain, label=name)
    right.semilogy(modified, "--", color=line.get_color())
right.set(xlabel="step", ylabel="energy")
right.set_title("an oscillator (dashed: modified energy)", fontsize=10)
right.legend(fontsize=8)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
