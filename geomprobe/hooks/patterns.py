"""Names by pattern: a name, a glob, or a regular expression after ``re:``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from geomprobe.exceptions import LayerSelectionError


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a dotted name matches; ``*`` crosses dots, ``re:`` searches.

    Raises
    ------
    LayerSelectionError
        What stands after ``re:`` is no regular expression.
    """
    if not pattern.startswith("re:"):
        return lambda name: name == pattern or fnmatchcase(name, pattern)
    try:
        search = re.compile(pattern[3:]).search
    except re.error as error:
        raise LayerSelectionError(f"{pattern!r} is no regular expression: {error}") from error
    return lambda name: search(name) is not None


def nothing_matches(what: str, pattern: Any, names: Sequence[str]) -> str:
    """Say that no layer, or no parameter, matches, which names are near, and which there are."""
    message = f"no {what} matches {pattern!r}."
    near = get_close_matches(pattern, names, n=3, cutoff=0.4) if isinstance(pattern, str) else []
    if near:
        message += f" Near names: {', '.join(near)}."
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"{message} The model has {len(names)} {what}s: {listed}"
