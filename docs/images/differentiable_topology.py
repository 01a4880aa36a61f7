"""Draw differentiable_topology.png: loops grown out of noise by the gradient of H1."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from geomprobe.topology import differentiable, longest_bar

torch.manual_seed(0)
points = (0.3 * torch.randn(60, 2)).requires_grad_()
optimizer = torch.optim.Adam([points], lr=0.02)
figure, axes = plt.subplots(1, 4, figsize=(9, 2.5), width_ratios=(1, 1, 1, 1.3))
shown = dict(zip((0, 30, 200), axes, strict=False))
longest = []
for step in range(201):
    cloud = points.detach()
    longest.append(longest_bar(differentiable.diagrams(cloud)[1]))
    if step in shown:
        shown[step].scatter(*cloud.numpy().T, s=6)
        shown[step].set(title=f"step {step}", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
        shown[step].set(aspect="equal", xticks=[], yticks=[])
    optimizer.zero_grad()
    beyond = (points.norm(dim=1) - 1).clamp(min=0).sum()
    (beyond - differentiable.total_persistence(points, dim=1, alpha=2)).backward()
    optimizer.step()
axes[-1].plot(longest)
axes[-1].set(title="longest bar of H1", xlabel="step")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
