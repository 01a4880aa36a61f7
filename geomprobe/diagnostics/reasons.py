"""A number that cannot be computed is NaN with the reason."""

from __future__ import annotations

from collections.abc import Callable

from geomprobe.findings import Estimate


def or_reason(compute: Callable[[], Estimate]) -> Estimate:
    """Return what is computed, or why it cannot be."""
    try:
        return compute()
    except ValueError as error:
        return Estimate.undefined(str(error))
