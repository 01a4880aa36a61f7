"""Combinations of measures, found on the tuning zoo and frozen before held-out zoos opened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geomprobe.findings import Estimate

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Combination:
    """A product of measures over a product of others.

    Parameters
    ----------
    name : str
    sign : int
        1 where larger numbers go with larger gaps.
    factors, divisors : tuple of str
        Measures, as they are.
    """

    name: str
    sign: int
    factors: tuple[str, ...]
    divisors: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the measures that are combined."""
        return self.factors + self.divisors

    @property
    def formula(self) -> str:
        """What it is, in the names of the measures."""
        return " / ".join([" * ".join(self.factors), *self.divisors])

    def of(self, measures: Mapping[str, Estimate]) -> Estimate:
        """Combine estimates; NaN where one is NaN or a divisor is 0."""
        for name in self.parts:
            if math.isnan(measures[name].value):
                return Estimate.undefined(f"{name}: {measures[name].note}")
        below = math.prod(measures[name].value for name in self.divisors)
        if below == 0:
            return Estimate.undefined(f"{' * '.join(self.divisors)} is 0")
        value = math.prod(measures[name].value for name in self.factors) / below
        if math.isnan(value):
            return Estimate.undefined(f"{self.formula} is not a number")
        return Estimate(value)

    def of_table(self, table: pd.DataFrame) -> pd.Series:
        """Combine columns of a table in the same way."""
        below = table[[*self.divisors]].prod(axis=1, skipna=False)
        above = table[[*self.factors]].prod(axis=1, skipna=False)
        combined: pd.Series = above / below.where(below != 0, np.nan)
        return combined


#: The two that held best on the check zoo, of five that were looked at there.
COMBINATIONS: tuple[Combination, ...] = (
    Combination("within_class_times_loops", 1, ("within_class", "loops_by_scale")),
    Combination("kernel_over_local_complexity", 1, ("kernel_complexity",), ("local_complexity",)),
)
