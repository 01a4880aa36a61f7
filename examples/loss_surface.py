"""How wide a network's basin is, and whether its path tells more than a random walk."""

import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import geomprobe as gp
from geomprobe.landscape import basin_width, loss_slice, trajectory_plane


def main() -> None:
    """Train with small and with large batches, and look around both."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    probe = gp.Samples(x[:300], y[:300])
    figure = pyplot.figure(figsize=(10, 8), layout="constrained")
    for row, batch in enumerate((16, 512)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        recorder = gp.TrajectoryRecorder(model, every=10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for step in range(500):
            recorder.record(step)
            rows = torch.randint(len(x), (batch,))
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()

        around = loss_slice(model, probe, cross_entropy, points=15)
        ax = figure.add_subplot(2, 2, 2 * row + 1, projection="3d")
        around.plot(ax, kind="surface").set_title(f"around the minimum, batches of {batch}")
        plane = trajectory_plane(recorder.trajectory)
        ax = figure.add_subplot(2, 2, 2 * row + 2)
        loss_slice(model, probe, cross_entropy, plane, points=15).plot(ax).set_title("its path")
        print(f"batches of {batch}: loss {around.centre}")
        print(f"  doubles when filters move by {basin_width(model, probe, cross_entropy)}")
        print(
            f"  plane of the path: {plane.explained.value:.0%} of the variance, of a random walk "
            f"{plane.random_walk.value:.0%}"
        )
    figure.savefig("loss_surface.png", dpi=100)


if __name__ == "__main__":
    main()
