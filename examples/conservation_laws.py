"""Find what gradient flow conserves in a digits CNN, and watch three optimizers break it or not."""

import pandas as pd
import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

import geomprobe as gp
from geomprobe.dynamics import compare_paths, conserved_quantities


def build() -> nn.Module:
    """Return the network, untrained."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def main() -> None:
    """Train with each optimizer, watched, and print drifts and paths side by side."""
    x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    x = x.float().view(-1, 1, 8, 8) / 16
    loss = nn.functional.cross_entropy
    optimizers = {
        "SGD 0.1": lambda p: torch.optim.SGD(p, lr=0.1),
        "SGD 0.05": lambda p: torch.optim.SGD(p, lr=0.05),
        "Adam": lambda p: torch.optim.Adam(p, lr=0.003),
    }
    found = conserved_quantities(build(), softmax=True)
    for one in found:
        print(f"{one.name}: {one.kind}")
    drifts, paths = {}, {}
    for name, make in optimizers.items():
        torch.manual_seed(0)
        model = build()
        optimizer = make(model.parameters())
        monitor = gp.Monitor(
            model,
            probe_data=(x[:200], y[:200]),
            every="50 steps",
            analyzers="conservation",
            loss=loss,
            trajectory=512,
            optimizer=optimizer,
            budget=None,
            workers=0,
        )
        with monitor:
            for _ in range(200):
                batch = torch.randint(len(x), (64,))
                value = loss(model(x[batch]), y[batch])
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                monitor.step(loss=value.item())
        drifts[name] = {
            finding.subject: finding.scalars["drift_per_step"].value
            for finding in monitor.history[-1].findings
            if "drift_per_step" in finding.scalars
        }
        paths[name] = monitor.trajectory
    print("\nDrift a step, over the last 50 (SGD: as the square of the learning rate)")
    print(pd.DataFrame(drifts).to_string(float_format="{:.1e}".format))
    print("\nPaths")
    print(compare_paths(paths).T.to_string(float_format="{:.3g}".format))

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    pd.DataFrame(drifts).plot.barh(ax=axes, logx=True)
    axes.set_xlabel("drift a step")
    figure.savefig("conservation_laws.png", dpi=100)


if __name__ == "__main__":
    main()
