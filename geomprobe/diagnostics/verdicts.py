"""The verdict on a diagnostic, by rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from geomprobe.diagnostics.cards import ScoreCard

#: A partial correlation worth having: what an interval must exclude to call a diagnostic useless.
WORTHWHILE = 0.3
_MARGIN, _CONFOUNDED = 0.05, 0.2


def judged(cards: Mapping[str, ScoreCard], baselines: Sequence[str]) -> dict[str, ScoreCard]:
    """Return the cards with verdicts and adjusted p-values, which depend on the other cards.

    The rule is stated in :func:`geomprobe.diagnostics.scorecard`.
    """
    adjusted = _benjamini_hochberg({name: card.p for name, card in cards.items()})
    found = {}
    for name, card in cards.items():
        others = [cards[b].psi.value for b in baselines if b in cards and b != name]
        bar = max((psi for psi in others if not math.isnan(psi)), default=None)
        verdict, reason = _verdict(card, bar)
        found[name] = replace(card, verdict=verdict, reason=reason, adjusted_p=adjusted[name])
    return found


def verdict_over_zoos(verdicts: Iterable[str]) -> str:
    """Return the verdict on a diagnostic from its verdicts by zoo.

    The rule is stated in :func:`geomprobe.diagnostics.published_scores`.
    """
    said = [verdict for verdict in verdicts if verdict != "under-powered"]
    if set(said) == {"predictive"}:
        return "predictive" if len(said) > 1 else "under-powered"
    for verdict in ("confounded", "not predictive"):
        if verdict in said:
            return verdict
    return "under-powered"


def _verdict(card: ScoreCard, bar: float | None) -> tuple[str, str]:
    if card.reason:
        return "under-powered", card.reason
    least = 0.0 if bar is None else max(0.0, bar - _MARGIN)
    agrees = max(card.psi.value, card.tau.value) > _CONFOUNDED
    if math.isnan(card.partial.value):
        reason = "the hyper-parameters explain it, or the gap, to the last rank"
        return "confounded" if agrees else "not predictive", reason
    given_all = f"given the hyper-parameters its correlation is {card.partial}"
    if card.partial.low > 0 and card.psi.low > least:
        return "predictive", f"{given_all}, and its psi of {card.psi} holds against the baselines"
    if card.partial.covers(0) and card.partial.covers(WORTHWHILE):
        return "under-powered", f"{given_all}: too wide an interval to tell"
    if agrees and card.partial.covers(0):
        most = max(card.explained, key=lambda axis: card.explained[axis], default="")
        which = f", {most} most" if most else ""
        return "confounded", f"it follows the hyper-parameters{which}: {given_all}"
    if card.partial.low > 0:
        against = "0 is not excluded" if bar is None else f"the best baseline has {bar:+.2f}"
        return "not predictive", f"{given_all}, but its psi is {card.psi}: {against}"
    return "not predictive", given_all


def _benjamini_hochberg(p: Mapping[str, float]) -> dict[str, float]:
    from scipy.stats import false_discovery_control

    known = {name: value for name, value in p.items() if not math.isnan(value)}
    adjusted = false_discovery_control([*known.values()]) if known else []
    return {**p, **dict(zip(known, map(float, adjusted), strict=True))}
