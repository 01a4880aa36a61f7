"""Conditions on the numbers of a report, for continuous integration: ``geom/.../trace > 3``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from geomprobe.exceptions import LayerSelectionError
from geomprobe.findings import Estimate
from geomprobe.hooks.patterns import matcher, nothing_matches


@dataclass(frozen=True)
class Condition:
    """What must not hold of the numbers whose metric names match a pattern.

    Parameters
    ----------
    pattern : str
        A metric name ``geom/<analyzer>/<layer>/<stat>``, a glob of such, or ``re:...``.
    sign : str
        One of ``<``, ``<=``, ``>``, ``>=``.
    bound : float
    """

    pattern: str
    sign: str
    bound: float

    _SIGNS: ClassVar[dict[str, Callable[[float, float], bool]]] = {
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition such as ``"geom/effective_dimension/model/local > 50"``.

        Raises
        ------
        ValueError
            It does not read like this.
        """
        match = re.fullmatch(
            r"\s*((?:geom/|re:)\S.*?[^\s<>=])\s*(<=|>=|<|>)\s*([^\s<>=]+)\s*", text
        )
        try:
            if match is None or math.isnan(bound := float(match[3])):
                raise ValueError
            return cls(match[1], match[2], bound)
        except ValueError:
            raise ValueError(
                "a condition must read like 'geom/effective_dimension/model/local > 50', with one "
                f"of < <= > >= and a number, got {text!r}"
            ) from None

    def violations(self, metrics: Mapping[str, Estimate]) -> list[str]:
        """Return a line for each number that the condition holds of.

        One that is undefined cannot be judged, and counts.

        Raises
        ------
        LayerSelectionError
            No number matches; the message lists near names.
        """
        matches = matcher(self.pattern)
        found = {name: estimate for name, estimate in metrics.items() if matches(name)}
        if not found:
            raise LayerSelectionError(nothing_matches("number", self.pattern, list(metrics)))
        holds = self._SIGNS[self.sign]
        return [
            f"{name} is {estimate}, and must not be {self.sign} {self.bound:g}"
            for name, estimate in found.items()
            if math.isnan(estimate.value) or holds(estimate.value, self.bound)
        ]
