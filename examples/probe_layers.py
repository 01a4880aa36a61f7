"""Which layer of a trained network separates the classes best? Its activations as features."""

import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

import geomprobe as gp


def main() -> None:
    """Train on even and odd, then ask each layer for the digit itself."""
    torch.manual_seed(0)
    digits = load_digits()
    pixels = (digits.data / 16).astype("float32")
    x, is_odd = torch.tensor(pixels), torch.tensor(digits.target % 2)
    model = nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), is_odd).backward()
        optimizer.step()

    with gp.Probe(model, layers="*", exclude="(root)", points=200) as probe:
        model(x)
    for name, cloud in probe.clouds.items():
        print(f"layer {name}: {cloud.points.shape[0]} points in R^{cloud.points.shape[1]}")

    pipeline = make_pipeline(gp.ActivationCloud(model), LogisticRegression(max_iter=500))
    layers = {"activationcloud__layer": list(probe.clouds)}
    search = GridSearchCV(pipeline, layers, cv=3).fit(pixels, digits.target)
    scores = search.cv_results_["mean_test_score"]
    for layer, score in zip(probe.clouds, scores, strict=True):
        print(f"digit from layer {layer}: accuracy {score:.3f}")
    figure, axes = pyplot.subplots(figsize=(5, 3), layout="constrained")
    axes.errorbar(list(probe.clouds), scores, search.cv_results_["std_test_score"], marker="o")
    axes.set(xlabel="layer", ylabel="accuracy for the ten digits")
    figure.savefig("probe_layers.png", dpi=100)


if __name__ == "__main__":
    main()
