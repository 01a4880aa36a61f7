"""The picture of natural_angle.md: SGD and Adam between gradient and natural gradient."""

from pathlib import Path

import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe import Samples
from geomprobe.dynamics import natural_angle

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x, loss = x.float() / 16, nn.functional.cross_entropy
data, vector = Samples(x, y), nn.utils.parameters_to_vector
optimizers = {
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.003),
}
figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
for axes, (name, make) in zip(panels, optimizers.items(), strict=True):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer, steps, found = make(model.parameters()), [], []
    for step in range(151):
        before = vector(model.parameters()).detach().clone()
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        if step % 15 == 0:
            after = vector(model.parameters()).detach().clone()
            nn.utils.vector_to_parameters(before, model.parameters())
            found.append(natural_angle(model, data, after - before, loss=loss, damping=1e-2))
            nn.utils.vector_to_parameters(after, model.parameters())
            steps.append(step)
    for number, label in (
        ("to_gradient", "step and gradient"),
        ("to_natural", "step and natural gradient"),
        ("between", "gradient and natural gradient"),
    ):
        axes.plot(steps, [getattr(one, number) for one in found], marker=".", label=label)
    axes.set(title=name, xlabel="step", ylim=(0, 100))
panels[0].set_ylabel("degrees")
panels[1].legend()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
