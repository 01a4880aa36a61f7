"""Score cards: what a diagnostic is worth in one zoo, in numbers with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


_INTERVALS = ("tau", "psi", "information", "partial", "sign_error")
_PLAIN = (
    *("cross_fitted", "within_cells", "within_cells_p", "p90_sign_error", "worst_sign_error"),
    *("p", "adjusted_p", "reliability", "failed", "reason"),
)


@dataclass(frozen=True)
class Score:
    """One number of a card with its 95 % interval from a bootstrap over cells."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        interval = "" if math.isnan(self.low) else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.value:+.2f}{interval}"

    def covers(self, value: float) -> bool:
        """Whether the interval holds a value; an unknown interval holds every one."""
        return not (self.low > value or self.high < value)


@dataclass(frozen=True)
class ScoreCard:
    """What one diagnostic is worth in one zoo.

    Parameters
    ----------
    name : str
        The diagnostic.
    tau, psi, information, partial, sign_error : Score
        Kendall's tau-b; granulated Kendall; conditional mutual information given at most two
        hyper-parameters, whose bias and interval lean upward at few cells; Spearman given all
        hyper-parameters; mean sign error, whose interval takes environments for independent.
    psi_by_axis : mapping of str to float
        Granulated Kendall along each hyper-parameter.
    explained : mapping of str to float
        Share of the variance of its ranks that each hyper-parameter explains alone (eta squared).
    cross_fitted : float
        Spearman given all hyper-parameters and their interactions in pairs, cross-fitted.
    within_cells, within_cells_p : float
        Agreement of diagnostic and gap between seeds of equal hyper-parameters, and its p by
        permutation; NaN where no cell has two seeds.
    worst_sign_error, p90_sign_error : float
        The largest sign error over environments, and its 90th percentile.
    p, adjusted_p : float
        Of the partial correlation, by permutation; adjusted over the diagnostics of the zoo by
        Benjamini and Hochberg.
    reliability : float
        Intraclass correlation over seeds.
    failed : float
        Share of models for which there is no number.
    verdict : str
        ``"predictive"``, ``"confounded"``, ``"not predictive"`` or ``"under-powered"``.
    reason : str
        Why, in a sentence.
    """

    name: str
    tau: Score
    psi: Score
    information: Score
    partial: Score
    sign_error: Score
    psi_by_axis: Mapping[str, float] = field(default_factory=dict)
    explained: Mapping[str, float] = field(default_factory=dict)
    cross_fitted: float = math.nan
    within_cells: float = math.nan
    within_cells_p: float = math.nan
    worst_sign_error: float = math.nan
    p90_sign_error: float = math.nan
    p: float = math.nan
    adjusted_p: float = math.nan
    reliability: float = math.nan
    failed: float = 0.0
    verdict: str = "under-powered"
    reason: str = ""

    def __repr__(self) -> str:
        return f"ScoreCard({self.name!r}: {self.verdict}, psi {self.psi}, partial {self.partial})"


@dataclass(frozen=True)
class ScoreTable(Mapping[str, ScoreCard]):
    """The cards of a zoo's diagnostics, and what to read them beside.

    Parameters
    ----------
    cards : mapping of str to ScoreCard
    n_cells, n_models : int
    chance : mapping of str to (float, float)
        The central 95 % of psi, information and partial for independent noise.
    oracles : mapping of float to float
        Psi of the gap with noise on it, by the noise's standard deviation.
    ceiling : float
        Psi of one half of the test set for the other; NaN where the zoo has no halves.
    """

    cards: Mapping[str, ScoreCard]
    n_cells: int
    n_models: int
    chance: Mapping[str, tuple[float, float]]
    oracles: Mapping[float, float]
    ceiling: float

    def __getitem__(self, name: str) -> ScoreCard:
        return self.cards[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.cards)

    def __len__(self) -> int:
        return len(self.cards)

    def __repr__(self) -> str:
        verdicts = ", ".join(f"{card.name} {card.verdict}" for card in self.cards.values())
        return f"ScoreTable({self.n_models} models in {self.n_cells} cells; {verdicts})"

    def to_frame(self) -> pd.DataFrame:
        """Return a row a diagnostic, best psi first."""
        import pandas as pd

        rows = []
        for card in self.cards.values():
            row: dict[str, float | str] = {"diagnostic": card.name, "verdict": card.verdict}
            for name in _INTERVALS:
                score: Score = getattr(card, name)
                row |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
            row |= {f"psi_{axis}": value for axis, value in card.psi_by_axis.items()}
            row |= {f"explained_{axis}": value for axis, value in card.explained.items()}
            row |= {name: getattr(card, name) for name in _PLAIN}
            rows.append(row)
        frame = pd.DataFrame(rows).set_index("diagnostic")
        best_first: pd.DataFrame = frame.sort_values("psi", ascending=False)
        return best_first

    def plot(self, ax: Any = None) -> Any:
        """Draw psi and the partial correlation of each diagnostic, and return the Axes.

        The grey span is where psi of independent noise lies.
        """
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(figsize=(6.4, 1.2 + 0.5 * len(self)))
        ordered = sorted(self.cards.values(), key=lambda card: (-card.psi.value, card.name))
        ax.axvspan(*self.chance["psi"], color="0.92", zorder=0)
        ax.axvline(0, color="0.5", linewidth=0.8)
        for shift, colour, name in ((-0.14, "C0", "psi"), (0.14, "C1", "partial")):
            scores: list[Score] = [getattr(card, name) for card in ordered]
            rows = [row + shift for row in range(len(scores))]
            ax.hlines(rows, [s.low for s in scores], [s.high for s in scores], colour)
            ax.plot([s.value for s in scores], rows, "o", color=colour, label=name, markersize=4)
        labels = [f"{card.name}\n{card.verdict}" for card in ordered]
        ax.set_yticks(range(len(ordered)), labels, fontsize="small")
        ax.set(
            xlim=(-1, 1), ylim=(len(ordered) - 0.5, -0.5), xlabel="rank correlation with the gap"
        )
        ax.legend(loc="lower right", fontsize="small")
        return ax
