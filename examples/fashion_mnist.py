"""Train a CNN on the complete Fashion-MNIST, and audit it on all 10,000 test images.

The data are those of Debian's package: ``apt install dataset-fashion-mnist``; ``--data`` names
another folder with the four files, ``--epochs`` a longer training.
"""

import argparse
import gzip
import struct
from pathlib import Path

import torch
from matplotlib import pyplot
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from tqdm.auto import tqdm

import geomprobe as gp

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def read_idx(path: Path) -> torch.Tensor:
    """Return the bytes of a gzipped IDX file: two zeros, 8 for bytes, the axes, their sizes."""
    with gzip.open(path) as file:
        zeros, kind, axes = struct.unpack(">HBB", file.read(4))
        if zeros or kind != 8:
            raise ValueError(f"{path} is no IDX file of bytes")
        shape = struct.unpack(f">{axes}I", file.read(4 * axes))
        return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).reshape(shape)


def images(folder: Path, part: str) -> TensorDataset:
    """Return the images, from 0 to 1, and labels of ``train`` or ``t10k``."""
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte.gz")[:, None] / 255
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz").long()
    return TensorDataset(pixels, labels)


def build() -> nn.Sequential:
    """Return the network, untrained."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def train(model: nn.Module, data: TensorDataset, epochs: int) -> None:
    """Train with Adam."""
    loader = DataLoader(data, batch_size=128, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        for pixels, labels in tqdm(loader, desc=f"epoch {epoch + 1}"):
            optimizer.zero_grad()
            cross_entropy(model(pixels), labels).backward()
            optimizer.step()


def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """Return the share of images that the model classifies rightly."""
    with torch.no_grad():
        right = [(model(x).argmax(dim=1) == y).sum() for x, y in DataLoader(data, 1000)]
    return float(sum(right)) / len(data)


def main() -> None:
    """Audit before and after the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEBIAN, help="folder of the four files")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--images", type=int, default=60_000, help="to train on")
    parser.add_argument("--out", type=Path, default=Path("fashion_mnist"))
    options = parser.parse_args()
    if not (options.data / "train-images-idx3-ubyte.gz").exists():
        raise SystemExit(
            f"There is no Fashion-MNIST in {options.data}: apt install dataset-fashion-mnist, or "
            "name the folder of its four files by --data."
        )

    torch.manual_seed(0)
    train_set, test = (images(options.data, part) for part in ("train", "t10k"))
    data = TensorDataset(*(values[: options.images] for values in train_set.tensors))
    model = build()

    def audit() -> gp.AuditReport:
        return gp.audit(
            model,
            test,
            loss=cross_entropy,
            pool="mean",  # Of a map, over its positions.
            analyzers=["representation_dimension", "fisher_information"],
        )

    before = audit()
    train(model, data, options.epochs)
    after = audit()
    options.out.mkdir(parents=True, exist_ok=True)
    after.to_html(options.out / "report.html")

    figure, panels = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for axes, stat in zip(panels, ("two_nn", "participation_ratio", "within_class"), strict=True):
        for name, report in (("untrained", before), ("trained", after)):
            rows = report.to_frame().query("analyzer == 'representation_dimension'")
            rows = rows[rows["stat"] == stat]
            axes.errorbar(rows["subject"], rows["value"], rows["stderr"], marker="o", label=name)
        axes.set(title=stat, xlabel="layer", yscale="log")
        axes.legend()
    figure.savefig(options.out / "fashion_mnist.png", dpi=100)

    print(f"Trained on {len(data)} images, audited on {len(test)}.")
    print(f"Accuracy: train {accuracy(model, data):.3f}, test {accuracy(model, test):.3f}")
    print(gp.compare(before, after).summary())
    print(f"\nReport: {options.out / 'report.html'}")


if __name__ == "__main__":
    main()
