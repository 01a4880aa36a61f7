"""From the scores of several zoos to the file that geomprobe ships: every measure, every zoo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geomprobe
from geomprobe.diagnostics.published import PublishedScore, ZooScore, write_scores
from geomprobe.storage import PathLike
from geomprobe.zoos.scoring import ZooScores


def publish(scored: Sequence[ZooScores], path: PathLike) -> Path:
    """Write the scores of zoos as JSON, as :func:`~geomprobe.diagnostics.published_scores` reads.

    Of a zoo with label noise on an axis, the scores over all its models.

    Raises
    ------
    ValueError
        Two zoos have one name, or different targets.
    """
    names = [zoo.protocol.name for zoo in scored]
    targets = {zoo.target for zoo in scored}
    if len(set(names)) < len(names) or len(targets) != 1:
        raise ValueError(
            f"scores to be published are of different zoos and of one target, got zoos {names} "
            f"and targets {sorted(targets)}"
        )
    by_measure: dict[str, dict[str, ZooScore]] = {}
    facts = {}
    for zoo in scored:
        table, name = zoo.tables["all"], zoo.protocol.name
        facts[name] = {
            "protocol": zoo.protocol.digest,
            "held_out": zoo.protocol.held_out,
            "openings": zoo.openings,
            "models": table.n_models,
            "cells": table.n_cells,
            "axes": list(zoo.protocol.axes),
            "chance": table.chance,
        }
        for measure, card in table.items():
            score = ZooScore.of(card, table.n_models, held_out=zoo.protocol.held_out)
            by_measure.setdefault(measure, {})[name] = score
    judged = {measure: PublishedScore.of(measure, zoos) for measure, zoos in by_measure.items()}
    head = {"geomprobe": geomprobe.__version__, "target": targets.pop(), "zoos": facts}
    return write_scores(path, judged, head)
