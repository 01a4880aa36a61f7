"""Two CNNs of different seeds: the barrier between them, aligned, and a curve around it."""

import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

import geomprobe as gp
from geomprobe.auditing import between
from geomprobe.landscape import align, linear_barrier, low_loss_curve
from geomprobe.landscape.analyzers import CurveBetween, LineBetween

loss = nn.functional.cross_entropy


def build() -> nn.Sequential:
    """Return the network, untrained."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def trained(seed: int, data: gp.Samples) -> nn.Module:
    """Return a network trained from a seed."""
    torch.manual_seed(seed)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(6):
        for rows in torch.randperm(len(data)).split(64):
            optimizer.zero_grad()
            loss(model(data.inputs[rows]), data.targets[rows]).backward()
            optimizer.step()
    return model.eval()


def main() -> None:
    """Train two networks, and print the barriers between them."""
    digits = load_digits()
    x = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    train, test = gp.Samples(x[:1200], y[:1200]), gp.Samples(x[1200:], y[1200:])
    a, b = trained(0, train), trained(1, train)

    aligned = align(a, b, train, match="activations")
    print(aligned, end="\n\n")
    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for title, other in (("as they are", b), ("aligned", aligned.model)):
        found = linear_barrier(a, other, train, loss, test=test, points=11, reset_bn=True)
        print(f"barrier, {title}: {found.barrier} on train, {found.test_barrier} on test")
        found.train.plot(axes, label=f"straight line, {title}")
    curve = low_loss_curve(
        a, b, train, loss, bends=1, steps=100, batch_size=128, points=11, test=test
    )
    print(f"along a curve: {curve.barrier} on train, {curve.test_barrier} on test")
    print(f"the curve is {curve.stretch:.2f} times as long as the straight line")
    curve.path.plot(axes, label="curve")
    figure.savefig("mode_connectivity.png", dpi=100)

    line = LineBetween(points=11, test=test)
    bent = CurveBetween(bends=1, steps=50, batch_size=128, points=11, test=test)
    report = between({"seed 0": a, "seed 1": b}, train, loss, analyzers=[line, bent])
    print(report.to_html("mode_connectivity.html"))


if __name__ == "__main__":
    main()
