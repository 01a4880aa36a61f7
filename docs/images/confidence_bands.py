"""Draw confidence_bands.png: bars beyond the band, and bars that may be noise."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from geomprobe.topology import bottleneck_band

rng = np.random.default_rng(0)


def circle(n: int) -> np.ndarray:
    """Return points on the unit circle."""
    angles = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


clouds = {
    "60 on a circle": circle(60),
    "300 on a circle": circle(300),
    "300 in a square": rng.uniform(-1, 1, size=(300, 2)),
}
figure, axes = plt.subplots(2, 3, figsize=(9, 6), height_ratios=(1, 1.3))
for (title, points), (above, below) in zip(clouds.items(), axes.T, strict=True):
    above.scatter(*points.T, s=4)
    above.set(title=title, aspect="equal", xticks=[], yticks=[])
    band = bottleneck_band(points)
    band.plot(below)
    below.set_title(f"{len(band.significant(1))} significant in H1")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
