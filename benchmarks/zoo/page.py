"""Score the records of all zoos; write what geomprobe ships and shows of them.

    python benchmarks/zoo/page.py

Reads benchmarks/zoo/records, looks at the gaps of held-out zoos (which is recorded there), and
writes geomprobe/diagnostics/scores.json, docs/scorecards.md, and a page a zoo in docs/scorecards.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from geomprobe.diagnostics import PublishedScore
from geomprobe.diagnostics.combinations import COMBINATIONS
from geomprobe.diagnostics.measures import BASELINES, MEASURES
from geomprobe.diagnostics.published import SCORES, read_scores
from geomprobe.zoos import ZooFolder, ZooScores, publish, score_zoo

ROOT = Path(__file__).parents[2]
RECORDS = Path(__file__).parent / "records"
ZOOS = ("T", "V", "H1", "H2", "H3")

OPENING = """# Scores of every measure

*Made by `python benchmarks/zoo/page.py` from the records in `benchmarks/zoo/records`.*

{models} networks in {zoos} zoos were trained by one protocol
({{doc}}`what the numbers mean <score_cards>`), and {measures} measures were taken of each,
{baselines} of them baselines. T was there to tune on and V to choose; H1, H2 and H3 were held out,
and their gaps looked at once all else was fixed. The verdict of the last column is that over the
held-out zoos, and it is the one that a report shows beside a number.

**{sentence}**
"""

READING = """## How to read the table

Each entry is the granulated Kendall Ψ with its 95 % interval: how often the measure and the gap
agree on two models that differ in one hyper-parameter, from -1 over 0 (chance) to 1. A letter says
the verdict in that zoo: **p** predictive, *c* confounded, n not predictive, u under-powered.
Measures in italics are baselines. The sign that was declared is applied: a negative Ψ means that
the measure goes the other way than its literature says. The best Ψ of a zoo is the best of
{measures}, and flattered by that.
"""


def main() -> None:
    """Score, publish, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--replicates", type=int, default=1000)
    chosen = parser.parse_args()
    scored = Parallel(n_jobs=chosen.jobs)(
        delayed(score_zoo)(RECORDS / name, open_held_out=True, replicates=chosen.replicates)
        for name in ZOOS
    )
    publish(scored, SCORES)
    read_scores.cache_clear()
    pages = ROOT / "docs" / "scorecards"
    pages.mkdir(exist_ok=True)
    for zoo in scored:
        (pages / f"{zoo.protocol.name}.md").write_text(zoo.to_markdown(), encoding="utf-8")
    (ROOT / "docs" / "scorecards.md").write_text(
        summary(scored, read_scores(SCORES)), encoding="utf-8"
    )


def summary(scored: Sequence[ZooScores], published: Mapping[str, PublishedScore]) -> str:
    """Return the page of all zoos."""
    names = [zoo.protocol.name for zoo in scored]
    held_out = [zoo.protocol.name for zoo in scored if zoo.protocol.held_out]
    opening = OPENING.format(
        models=sum(zoo.tables["all"].n_models for zoo in scored),
        zoos=len(scored),
        measures=len(published),
        baselines=sum(name in BASELINES for name in published),
        sentence=in_one_sentence(published),
    )

    def held_out_psi(score: PublishedScore) -> float:
        found = [score.zoos[name].psi.value for name in held_out if name in score.zoos]
        return min((value for value in found if value == value), default=-2.0)

    ordered = sorted(published.values(), key=held_out_psi, reverse=True)
    lines = [
        "| measure | sign | " + " | ".join(names) + " | verdict |",
        "|---" * (len(names) + 3) + "|",
    ]
    for score in ordered:
        cells = [entry(score, name) for name in names]
        name = f"*{score.measure}*" if score.measure in BASELINES else score.measure
        sign = "+" if score.sign > 0 else "-"
        lines.append(f"| {name} | {sign} | " + " | ".join(cells) + f" | {score.in_words} |")
    parts = [
        opening,
        "\n".join(lines),
        READING.format(measures=len(published)),
        facts(scored),
        combined(),
        "## Zoo by zoo\n\n```{toctree}\n:maxdepth: 1\n\n"
        + "\n".join(f"scorecards/{name}" for name in names)
        + "\n```",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def in_one_sentence(published: Mapping[str, PublishedScore]) -> str:
    """Return what came out, for the measures that are not baselines."""
    own = [score for name, score in published.items() if name not in BASELINES]
    counts = Counter(score.verdict for score in own)
    predictive = [f"`{score.measure}`" for score in own if score.verdict == "predictive"]
    told = ", ".join(predictive) if predictive else "none"
    return (
        f"Of {len(own)} diagnostics that are not baselines, predictive in every held-out zoo that "
        f"could tell: {told}; confounded: {counts['confounded']}, not predictive: "
        f"{counts['not predictive']}, under-powered: {counts['under-powered']}."
    )


def entry(score: PublishedScore, zoo: str) -> str:
    """Return psi with its interval, and a letter for the verdict."""
    if zoo not in score.zoos or score.zoos[zoo].psi.value != score.zoos[zoo].psi.value:
        return "–"
    found = score.zoos[zoo]
    letter = {"predictive": "**p**", "confounded": "*c*"}.get(found.verdict, found.verdict[0])
    return f"{found.psi} {letter}"


def facts(scored: Sequence[ZooScores]) -> str:
    """Return three published or expected facts, confirmed or refuted on these models."""
    by_name = {zoo.protocol.name: zoo for zoo in scored}
    ratios = pd.concat([tree_over_path(name) for name in by_name])
    dimension = {name: zoo.tables["all"]["effective_dimension"] for name, zoo in by_name.items()}
    noisy = by_name["H3"].tables["all"]["pac_bayes_magnitude_flatness"]
    low, middle, high = (ratios.quantile(q) for q in (0.025, 0.5, 0.975))
    signs = ", ".join(f"{card.psi} on {name}" for name, card in dimension.items())
    return f"""## Facts checked on these models

- **The spanning tree of consecutive iterates is all but their path.** `e1_euclidean` over
  `trajectory_length` has median {middle:.3f} over {len(ratios)} models, and 95 % of them lie
  between {low:.3f} and {high:.3f}. What is said of the one holds for the other.
- **The local effective dimension** is claimed to grow with the gap (Abbas et al. 2021). Its Ψ is
  {signs}.
- **Label noise on an axis flatters sharpness.** Over all of H3, magnitude-aware flatness has a tau
  of {noisy.tau.value:+.2f} with the gap; given the hyper-parameters, its correlation is
  {noisy.partial}."""


def tree_over_path(zoo: str) -> pd.Series:
    """Return the ratio of spanning tree and path of every model of a zoo."""
    table = ZooFolder(RECORDS / zoo).measures()
    ratio: pd.Series = table["e1_euclidean"] / table["trajectory_length"]
    return ratio.dropna()


def combined() -> str:
    """Return how the combinations came about."""
    rows = [
        f"- `{one.name}` = {one.formula}, sign {'+' if MEASURES[one.name].sign > 0 else '-'}"
        for one in COMBINATIONS
    ]
    return "\n".join(
        [
            "## Combinations that were frozen before the held-out zoos were opened\n",
            "`benchmarks/zoo/propose.py` scores every product and ratio of two measures on T. Five",
            "of the best, each with a measure of geomprobe in it, were looked at on V, and the",
            "two that held best there were frozen:\n",
            *rows,
        ]
    )


if __name__ == "__main__":
    main()
