"""The picture of edge_of_stability.md: gradient descent and Adam with all data, up to the edge."""

from pathlib import Path

import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe import Evidence, Samples
from geomprobe.diagnostics.analyzers import EdgeOfStability

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x, y, loss = x.float()[:500] / 16, nn.functional.one_hot(y[:500], 10).float(), nn.MSELoss()
analyzer, data = EdgeOfStability(max_samples=500), Samples(x, y)
optimizers = {
    "gradient descent": (torch.optim.SGD, (0.5, 1.0, 2.0)),
    "Adam": (torch.optim.Adam, (0.002, 0.004, 0.008)),
}
figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
for axes, (name, (kind, rates)) in zip(panels, optimizers.items(), strict=True):
    for rate in rates:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
        optimizer, steps, ratios = kind(model.parameters(), lr=rate), [], []
        for step in range(801):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
            if step % 20 == 0:
                evidence = Evidence(model=model, data=data, loss=loss, optimizer=optimizer)
                (finding,) = analyzer(evidence)
                steps.append(step)
                ratios.append(finding.scalars["stability_ratio"].value)
        axes.plot(steps, ratios, label=f"learning rate {rate:g}")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(title=name, xlabel="step", ylim=(0, 2))
    axes.legend()
panels[0].set_ylabel("stability ratio")
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
