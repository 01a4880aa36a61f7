"""The picture of effective_degree.md: errors by degree as a network learns digits, and a fit."""

from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe.algebraic import effective_degree, slice_polynomial
from geomprobe.evidence import Samples

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x = x.float() / 16
data = Samples(x[:500])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6))
done = 0
for steps in (0, 30, 300):
    for _ in range(steps - done):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    done = steps
    found = effective_degree(model, data)
    found.plot(left)
    degree = found.degree
    left.lines[-2].set_label(f"{steps} steps: degree {degree.value:.0f} ± {degree.stderr:.1f}")
left.legend()
left.set_title("mean over 64 segments")
ends = x[[0, 9]]
fit = slice_polynomial(model, ends)
t = np.linspace(0, 1, 400)
along = ends[0] + torch.from_numpy(t).float()[:, None] * (ends[1] - ends[0])
with torch.no_grad():
    values = model(along)[:, 9].numpy()
line = fit(t, 1)[:, 9]
right.plot(t, values - line, "k", lw=1, label="network")
for degree in (2, 4, 12):
    right.plot(t, fit(t, degree)[:, 9] - line, label=f"degree {degree}")
right.set(xlabel="from a 0 to a 9", ylabel="logit of 9 less its best line", title="one segment")
right.legend()
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
