"""Objects named by text: ``MODULE:ATTRIBUTE``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any


def load_object(spec: str) -> Any:
    """Import what ``MODULE:ATTRIBUTE`` names; modules of the current folder are found too.

    Raises
    ------
    ValueError
        The text is not of this form, the module does not import, or it lacks the attribute; the
        message names which of the two, and why.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"expected MODULE:NAME, such as mypackage.models:build, got {spec!r}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"module {module_name!r} of {spec!r} does not import: {reason}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"module {module_name!r} has no attribute {part!r} (of {spec!r}){hint}"
            )
        found = getattr(found, part)
    return found


def made_by(spec: str, *arguments: Any) -> Any:
    """Call what ``MODULE:CALLABLE`` names, with arguments if any, and return what it returns.

    Raises
    ------
    ValueError
        There is no such callable, or it raised.
    """
    from torch import nn

    made: Callable[..., Any] = load_object(spec)
    if not callable(made) or isinstance(made, nn.Module):
        raise ValueError(
            f"{spec!r} is a {type(made).__name__}, expected a callable "
            f"{'of what it is given' if arguments else 'without arguments'} that returns it, such "
            "as a function"
        )
    try:
        return made(*arguments)
    except Exception as error:
        raise ValueError(f"{spec!r} raised {type(error).__name__}: {error}") from error
