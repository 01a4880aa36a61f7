"""The main job: train a small CNN on real digits with a Monitor attached, then audit it.

Writes report.html, report.json, history.json and demo.png. Run it with ``make demo``.
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm.auto import tqdm

import geomprobe as gp

EPOCHS = 12
#: The first three run by default.
ANALYZERS = [
    "persistent_homology",
    "fisher_information",
    "effective_dimension",
    "representation_dimension",
    "region_density",
    "loss_slice",
]


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Return scikit-learn's 1797 scanned digits as 8 x 8 images, split into train and test."""
    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(data.target)
    train, test = train_test_split(range(len(labels)), test_size=0.25, random_state=0)
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


class DigitsNet(nn.Module):
    """A convolutional network of about 10,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1, stride=2)
        self.relu2 = nn.ReLU()
        self.hidden = nn.Linear(256, 32)
        self.relu3 = nn.ReLU()
        self.logits = nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of the ten digits."""
        maps = self.relu2(self.conv2(self.relu1(self.conv1(images))))
        return self.logits(self.relu3(self.hidden(maps.flatten(1))))


def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """Return the share of samples that the model classifies rightly."""
    images, labels = data.tensors
    with torch.no_grad():
        return (model(images).argmax(dim=1) == labels).float().mean().item()


def main() -> None:
    """Train, watch, audit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the report")
    out = parser.parse_args().out

    torch.manual_seed(0)
    train, test = digits()
    loader = DataLoader(train, batch_size=64, shuffle=True)
    model = DigitsNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_function = nn.functional.cross_entropy

    # An epoch of this network takes a fraction of a second, less than an observation of it: so no
    # budget here, and no worker process. In a training that takes hours leave the defaults.
    monitor = gp.Monitor(
        model,
        probe_data=test.tensors,
        every="3 epochs",
        steps_per_epoch=len(loader),
        budget=None,
        workers=0,
    )
    for _ in tqdm(range(EPOCHS), desc="training", unit="epoch"):
        for images, labels in loader:
            loss = loss_function(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss.item())

    overhead = monitor.overhead

    report = gp.audit(model, test, loss=loss_function, n_train=len(train), analyzers=ANALYZERS)
    report.to_html(out / "report.html")
    report.to_json(out / "report.json")
    monitor.history.save(out / "history.json")

    frame = monitor.history.to_frame()
    loops = frame[frame["metric"].str.endswith("/h1_total_persistence")]
    table = loops.pivot_table(index="epoch", columns="metric", values="value")
    table.columns = [name.split("/")[2] for name in table.columns]
    axes = table.plot(marker="o", ylabel="total persistence of loops", figsize=(7, 3.6))
    axes.figure.savefig(out / "demo.png", dpi=100, bbox_inches="tight")
    print("\nTotal persistence of loops (H1) in each layer while training:\n")
    print(table.round(2).to_string())
    print(f"\n{report.summary()}")
    print(f"\nAccuracy: train {accuracy(model, train):.3f}, test {accuracy(model, test):.3f}")
    print(f"The monitor took {overhead:.0%} of the training's wall time.")
    print(f"Report: {out / 'report.html'} and {out / 'report.json'}")


if __name__ == "__main__":
    main()
