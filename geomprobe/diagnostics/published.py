"""The scores that geomprobe ships: what each measure was worth in the zoos it was scored on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from geomprobe.diagnostics.cards import Score, ScoreCard
from geomprobe.diagnostics.measures import MEASURES
from geomprobe.diagnostics.verdicts import verdict_over_zoos
from geomprobe.exceptions import FileFormatError
from geomprobe.storage import PathLike, decode_number, encode, read_json, write_json

#: Where the scores are that were measured for this version; there may be none yet.
SCORES = Path(__file__).with_name("scores.json")

_KIND = "geomprobe scores"
_SCHEMA_VERSION = 1
_AXES = {"lr": "learning rate", "wd": "weight decay"}


@dataclass(frozen=True)
class ZooScore:
    """What a measure was worth in one zoo: the main numbers of its :class:`ScoreCard`.

    Parameters
    ----------
    verdict : str
    psi, partial : Score
    tau : float
    models : int
        How many of the zoo's models it has a number for.
    held_out : bool
        Whether the zoo was kept for one look.
    follows : str
        The hyper-parameter that explains most of the variance of the measure's ranks.
    share : float
        How much of it.
    """

    verdict: str
    psi: Score
    partial: Score
    tau: float
    models: int
    held_out: bool
    follows: str
    share: float

    @classmethod
    def of(cls, card: ScoreCard, n_models: int, *, held_out: bool) -> ZooScore:
        """Return the main numbers of a card in a zoo of so many models."""
        known = {axis: share for axis, share in card.explained.items() if share == share}
        follows = max(known, key=lambda axis: known[axis], default="")
        return cls(
            verdict=card.verdict,
            psi=card.psi,
            partial=card.partial,
            tau=card.tau.value,
            models=round(n_models * (1 - card.failed)),
            held_out=held_out,
            follows=follows,
            share=known.get(follows, 0.0),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the score in JSON types; :meth:`from_dict` gives it back."""
        scores = {
            name: encode([score.value, score.low, score.high])
            for name, score in (("psi", self.psi), ("partial", self.partial))
        }
        return {**vars(self), **scores, "tau": encode(self.tau)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ZooScore:
        """Give back what :meth:`to_dict` wrote."""
        scores = {name: Score(*map(decode_number, document[name])) for name in ("psi", "partial")}
        return cls(**{**document, **scores, "tau": decode_number(document["tau"])})


@dataclass(frozen=True)
class PublishedScore:
    """What a measure was worth in all zoos it was scored on.

    Parameters
    ----------
    measure : str
    sign : int
        1 where larger numbers are expected of models with larger gaps, -1 where smaller ones are.
    verdict : str
        Over the zoos: see :func:`published_scores`.
    zoos : mapping of str to ZooScore
    """

    measure: str
    sign: int
    verdict: str
    zoos: Mapping[str, ZooScore]

    @classmethod
    def of(cls, measure: str, zoos: Mapping[str, ZooScore]) -> PublishedScore:
        """Judge a measure over zoos."""
        verdict = verdict_over_zoos(zoo.verdict for zoo in _deciding(zoos).values())
        return cls(measure, MEASURES[measure].sign, verdict, dict(zoos))

    @property
    def formula(self) -> str:
        """What was scored."""
        return MEASURES[self.measure].formula

    @property
    def in_words(self) -> str:
        """The verdict in words, such as ``"confounded: follows the learning rate"``."""
        if self.verdict != "confounded":
            return self.verdict
        zoos = [zoo for zoo in _deciding(self.zoos).values() if zoo.verdict == "confounded"]
        most = max(zoos, key=lambda zoo: zoo.share)
        if not most.follows:
            return "confounded: follows the hyper-parameters"
        axis = f"the {_AXES.get(most.follows, most.follows.replace('_', ' '))}"
        mostly = axis if most.share >= 0.5 else f"the hyper-parameters, {axis} most"
        return f"confounded: follows {mostly}"

    @property
    def psi_in_words(self) -> str:
        """Psi with its interval in every zoo that decided the verdict."""
        return "; ".join(
            f"Ψ {signed(zoo.psi)} on {name}" for name, zoo in _deciding(self.zoos).items()
        )

    def __str__(self) -> str:
        return f"{self.in_words} ({self.psi_in_words}, for: {self.formula})"


def published_scores() -> dict[str, PublishedScore]:
    """Return the scores that this version of geomprobe ships, by measure.

    Returns
    -------
    dict of str to PublishedScore
        Empty where none have been measured yet; a measure that was not scored is not in it.

    Notes
    -----
    The verdict over zoos follows a rule. Held-out zoos decide, or all where none is held out; one
    that is *under-powered* cannot say, and is set aside. Of the others

    * *predictive*: predictive in every one, and they are two at least;
    * *confounded*: confounded in one or more;
    * *not predictive*: not predictive in one or more;
    * *under-powered*: none is left, or a single one that is predictive.
    """
    return dict(read_scores(SCORES)) if SCORES.exists() else {}


def score_of(name: str) -> PublishedScore | None:
    """Return the score of a measure; None where it has not been scored.

    Parameters
    ----------
    name : str
        A measure, such as ``"fisher_trace"``, or the number of an analyzer that is the same
        quantity, ``"fisher_information/trace"``.
    """
    return published_scores().get(_BY_STAT.get(name, name))


@cache
def read_scores(path: Path) -> Mapping[str, PublishedScore]:
    """Read the scores of the measures there are from a file that :func:`write_scores` wrote.

    Raises
    ------
    FileFormatError
        It is something else, or of another schema.
    """
    document = read_json(path)
    known = {"kind": _KIND, "schema_version": _SCHEMA_VERSION}
    if not isinstance(document, dict) or not known.items() <= document.items():
        raise FileFormatError(f"{path} does not hold {_KIND} of schema version {_SCHEMA_VERSION}")
    try:
        return {
            name: PublishedScore(
                name,
                row["sign"],
                row["verdict"],
                {zoo: ZooScore.from_dict(score) for zoo, score in row["zoos"].items()},
            )
            for name, row in document["measures"].items()
            if name in MEASURES
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{path} holds damaged scores: {error!r}") from error


def write_scores(
    path: PathLike, scores: Mapping[str, PublishedScore], facts: Mapping[str, Any]
) -> Path:
    """Write scores by measure as a JSON file, with facts about the zoos."""
    measures = {
        name: {
            "sign": score.sign,
            "verdict": score.verdict,
            "zoos": {zoo: one.to_dict() for zoo, one in score.zoos.items()},
        }
        for name, score in scores.items()
    }
    head = {"kind": _KIND, "schema_version": _SCHEMA_VERSION, "facts": encode(facts)}
    return write_json(path, {**head, "measures": measures})


def signed(score: Score) -> str:
    """Write a score for a reader, with its interval and true minus signs."""
    return "undefined" if math.isnan(score.value) else str(score).replace("-", "−")


def _deciding(zoos: Mapping[str, ZooScore]) -> dict[str, ZooScore]:
    held_out = {name: zoo for name, zoo in zoos.items() if zoo.held_out}
    return held_out or dict(zoos)


_BY_STAT = {measure.stat: name for name, measure in MEASURES.items() if measure.stat}
