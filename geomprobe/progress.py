"""Progress bars of long loops, and how whoever calls them does without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_SHOWN = ContextVar("_SHOWN", default=True)


def progress_bar(
    items: Iterable[Any] | None,
    name: str,
    total: int | None = None,
    *,
    unit: str = "it",
    show: bool = True,
) -> Any:
    """Return items as ``tqdm`` does, with a bar that appears after two seconds and goes at the end.

    Parameters
    ----------
    items : iterable, optional
        Without them the bar is told by ``update()``.
    name : str
        Stands before the bar.
    total : int, optional
        How many there are, where they do not say so themselves.
    unit : str
        What one of them is.
    show : bool
        Whether there is a bar; within :func:`without_progress` there is none.
    """
    from tqdm.auto import tqdm

    hidden = not (show and _SHOWN.get())
    return tqdm(items, name, total, unit=unit, delay=2, leave=False, disable=hidden)


@contextmanager
def without_progress(silent: bool = True) -> Iterator[None]:
    """Show no :func:`progress_bar` within, unless ``silent`` is false."""
    token = _SHOWN.set(_SHOWN.get() and not silent)
    try:
        yield
    finally:
        _SHOWN.reset(token)
