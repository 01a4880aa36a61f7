"""Audit a network before and after training, from safetensors files, and compare the two."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from matplotlib import pyplot
from safetensors.torch import save_file
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch import nn

import geomprobe as gp
from geomprobe.auditing import load_weights


def build() -> nn.Module:
    """Return the network, untrained."""
    return nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3))


def main() -> None:
    """Train, save two checkpoints, audit each, and print what has changed most."""
    torch.manual_seed(0)
    wine = load_wine()
    x = torch.tensor(StandardScaler().fit_transform(wine.data), dtype=torch.float32)
    y = torch.tensor(wine.target)

    model = build()
    with TemporaryDirectory() as folder:
        before, after = Path(folder, "before.safetensors"), Path(folder, "after.safetensors")
        save_file(model.state_dict(), before)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(200):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        save_file(model.state_dict(), after)

        reports = [
            gp.audit(
                load_weights(build(), checkpoint),
                (x, y),
                loss=nn.functional.cross_entropy,
                n_train=len(y),
            )
            for checkpoint in (before, after)
        ]
    comparison = gp.compare(*reports)
    print(comparison.summary())

    largest = comparison.to_frame().head(10)[::-1]
    names = largest["subject"] + ": " + largest["stat"].str.replace("_", " ")
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    axes.barh(names, largest["z"])
    axes.set_xlabel("difference after - before, in standard errors")
    figure.savefig("compare_checkpoints.png", dpi=100)


if __name__ == "__main__":
    main()
