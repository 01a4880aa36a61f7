"""Persistent homology as scikit-learn features: tell noisy circles from noisy discs."""

import numpy as np
from matplotlib import pyplot
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import geomprobe as gp
from geomprobe.topology import rips_persistence


def cloud(is_circle: bool, generator: np.random.Generator) -> np.ndarray:
    """Return 40 to 60 points, on a circle or in a disc of the same second moment."""
    n = generator.integers(40, 61)
    angle = generator.uniform(0, 2 * np.pi, n)
    radius = np.ones(n) if is_circle else np.sqrt(2 * generator.uniform(0, 1, n))
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + generator.normal(0, 0.1, points.shape)


def main() -> None:
    """Cross-validate a pipeline over clouds of different sizes."""
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 2
    clouds = [cloud(bool(label), generator) for label in labels]
    pipeline = make_pipeline(
        gp.RipsPersistence(max_dim=1),
        gp.PersistenceEntropy(),
        StandardScaler(),
        LogisticRegression(),
    )
    scores = cross_val_score(pipeline, clouds, labels, cv=5)
    print(f"Accuracy over 5 folds: {scores.mean():.2f} +- {scores.std():.2f} (chance: 0.50)")

    figure, axes = pyplot.subplots(2, 2, figsize=(6, 5.6), layout="constrained")
    for label, (left, right) in zip((1, 0), axes, strict=True):
        left.scatter(*clouds[label].T, s=8)
        left.set(title=("disc", "circle")[label], aspect="equal")
        rips_persistence(clouds[label], max_dim=1).plot(right)
    figure.savefig("classify_shapes.png", dpi=100)


if __name__ == "__main__":
    main()
