"""Warnings and errors of geomprobe's own, so that a caller can filter or catch them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class GeomprobeWarning(UserWarning):
    """Parent of every warning that geomprobe issues."""


class SkippedLayerWarning(GeomprobeWarning):
    """A selected layer gave no cloud; the message says which one and why."""


class DetachedProbeWarning(GeomprobeWarning):
    """Observing failed and was switched off; the observed model runs on."""


class FailedAnalysisWarning(GeomprobeWarning):
    """An analyzer failed; its finding says why."""


class LayerSelectionError(ValueError):
    """A selection of layers or parameters matches nothing, or cannot be observed."""


class FileFormatError(ValueError):
    """A file is not what was expected: foreign, truncated, or unsafe to open."""


class MemoryEstimateError(MemoryError):
    """A computation was refused because it would not fit in memory."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a long run, with what was finished by then.

    Parameters
    ----------
    message : str
    done : list
        The finished results, in order.
    """

    def __init__(self, message: str, done: list[Any]) -> None:
        super().__init__(message)
        self.done = done


@contextmanager
def needing(package: str, extra: str) -> Iterator[None]:
    """Name the extra to install where importing an optional package fails.

    Raises
    ------
    ImportError
        The package is missing.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"this needs {package}, which cannot be imported ({error}): "
            f"pip install 'geomprobe[{extra}]'"
        ) from error
