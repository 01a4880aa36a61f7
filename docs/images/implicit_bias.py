"""The picture of implicit_bias.md: logistic regression on its way to the largest margin."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from geomprobe import Samples
from geomprobe.dynamics import margin_growth, max_margin

rng = np.random.default_rng(0)
y = np.arange(40) % 2
x = rng.normal(size=(40, 5))
x[:, 0] = (2 * y - 1) * (0.3 + rng.uniform(size=40))
best = max_margin(x, y)
marks = np.unique(np.geomspace(1, 1e5, 60).astype(int))
states, w, signed = [], np.zeros(5), (2 * y - 1)[:, None] * x
for step in range(1, marks[-1] + 1):
    w += 0.5 * (signed / (1 + np.exp(signed @ w))[:, None]).mean(axis=0)
    if step in marks:
        states.append({"weight": torch.from_numpy(w[None].copy())})
model = nn.Linear(5, 1, bias=False)
found = margin_growth(model, Samples(torch.from_numpy(x), torch.from_numpy(y)), states, marks)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
found.plot(left)
left.axhline(best.margin, color="k", ls="--", label="largest margin")
left.legend(fontsize=8)
angles = [best.angle(one["weight"][0]) for one in states]
right.loglog(marks, angles, label="angle with the support vector machine")
late = marks > 100
right.loglog(
    marks[late],
    angles[-1] * np.log(marks[-1]) / np.log(marks[late]),
    "k--",
    label="1 / log t",
)
right.set(xlabel="step", ylabel="degrees")
right.legend(fontsize=8)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
