"""Search the tuning zoo for combinations of measures: which products and ratios of two rank best.

Reads T, and V to see what holds there; never a held-out zoo. What is frozen from it is in
geomprobe/diagnostics/combinations.py.

    python benchmarks/zoo/propose.py
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from geomprobe.diagnostics import granulated_kendall, partial_spearman
from geomprobe.diagnostics.measures import BASELINES, MEASURES
from geomprobe.zoos.scoring import model_zoo

RECORDS = Path(__file__).parent / "records"


def logarithms(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return log measures by cell, the gap and the levels; measures with a number everywhere."""
    zoo = model_zoo(folder)
    cells = zoo.cells
    found = {}
    for name, values in zoo.diagnostics.items():
        values = MEASURES[name].sign * values
        if np.isfinite(values).all() and (values > 0).all():
            logs = np.log(values)
            means = np.bincount(zoo.cell, logs) / np.bincount(zoo.cell)
            found[name] = means
    return found, cells.gap, cells.levels


def score(measure: np.ndarray, gap: np.ndarray, levels: np.ndarray) -> tuple[float, float]:
    """Return psi and the partial correlation."""
    psi = granulated_kendall(levels, measure, gap).psi
    return psi, partial_spearman(measure, gap, levels)


def candidates(folder: Path) -> pd.DataFrame:
    """Return every product and ratio with one of geomprobe's own measures in it, scored."""
    logs, gap, levels = logarithms(folder)
    rows = []
    for one, other in combinations(logs, 2):
        if one in BASELINES and other in BASELINES:
            continue
        for power in (1, -1):
            psi, partial = score(logs[one] + power * logs[other], gap, levels)
            sign = 1 if psi + partial > 0 else -1
            rows.append((one, other, power, sign, sign * psi, sign * partial))
    frame = pd.DataFrame(rows, columns=["one", "other", "power", "sign", "psi", "partial"])
    return frame.assign(sum=frame["psi"] + frame["partial"])


def main() -> None:
    """Print the best on T, with what they reach on V."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--best", type=int, default=20)
    chosen = parser.parse_args()
    best = candidates(chosen.records / "T").nlargest(chosen.best, "sum")
    if (chosen.records / "V" / "measures.parquet").exists():
        logs, gap, levels = logarithms(chosen.records / "V")
        on_v = [
            score(row.sign * (logs[row.one] + row.power * logs[row.other]), gap, levels)
            if {row.one, row.other} <= {*logs}
            else (np.nan, np.nan)
            for row in best.itertuples()
        ]
        best[["psi on V", "partial on V"]] = on_v
    print(best.to_string(index=False, float_format="{:+.2f}".format))


if __name__ == "__main__":
    main()
