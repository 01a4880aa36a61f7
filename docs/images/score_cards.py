"""The picture of score_cards.md: diagnostics whose worth is known, as their cards see them."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from geomprobe.diagnostics import ModelZoo, scorecard

axes = ["learning rate", "batch size", "width", "depth", "decay"]
table = pd.DataFrame([*product(range(3), range(3), range(3), range(2), range(2))], columns=axes)
generator = np.random.default_rng(4)
luck, noise = generator.standard_normal((2, len(table)))
design = table["learning rate"] + 0.5 * table["width"]
table["gap"] = design + 0.5 * luck
table["knows both parts of the gap"] = table["gap"] + 0.2 * generator.standard_normal(len(table))
table["knows what is not in the design"] = luck + 0.3 * generator.standard_normal(len(table))
table["stands for the design"] = design + 0.3 * generator.standard_normal(len(table))
table["the learning rate itself"] = table["learning rate"].astype(float)
table["noise"] = noise

zoo = ModelZoo.from_frame(table, axes=axes)
axis = scorecard(zoo, baselines=["the learning rate itself"]).plot()
axis.figure.tight_layout()
axis.figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)
