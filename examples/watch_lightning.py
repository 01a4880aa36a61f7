"""Watch a training by Lightning: the monitor is a callback, and a number of geometry stops it.

Needs ``pip install 'geomprobe[lightning]'``.
"""

import tempfile

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from geomprobe.callbacks import CSVSink, LightningMonitor


class Digits(pl.LightningModule):
    """A perceptron for scikit-learn's digits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.logits = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of the ten digits."""
        return self.logits(self.net(x))

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        """Return the loss of a batch."""
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main() -> None:
    """Train until the dimension of the last hidden layer settles."""
    pl.seed_everything(0)
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    dimension = "geom/representation_dimension/net.3/participation_ratio"
    with tempfile.TemporaryDirectory() as folder:
        watch = LightningMonitor(
            (x[:400], y[:400]),
            analyzers="representation_dimension",
            layers=["net.1", "net.3"],
            log=dimension,
            sinks=[CSVSink(f"{folder}/geometry.csv")],
            budget=None,  # This training is shorter than its observations.
        )
        trainer = pl.Trainer(
            max_epochs=12,
            callbacks=[watch, EarlyStopping(dimension, mode="min", patience=2)],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(Digits(), DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True))
    frame = watch.monitor.history.to_frame()
    table = frame[frame["metric"] == dimension][["epoch", "step", "value", "stderr"]]
    print(f"Participation ratio of net.3, by which training stopped:\n{table.to_string()}")

    axes = table.plot(
        x="step", y="value", yerr="stderr", marker="o", figsize=(6, 3.2), legend=False
    )
    axes.set_ylabel("participation ratio of net.3")
    axes.figure.savefig("watch_lightning.png", dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()
