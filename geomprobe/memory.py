"""Say what a computation needs before it starts, and refuse what cannot fit."""

from __future__ import annotations

import os

from geomprobe.exceptions import MemoryEstimateError


def available_bytes() -> int | None:
    """Memory that can be used without swapping, or None where the system does not tell."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return None


def require_memory(needed: int, what: str, remedy: str, *, share: float = 0.5) -> None:
    """Raise where a computation would take over a share of the available memory.

    Parameters
    ----------
    needed : int
        Estimated peak in bytes.
    what : str
        The computation, for the message.
    remedy : str
        What the caller can do instead, for the message.
    share : float
        Largest fraction of the available memory to take.

    Raises
    ------
    MemoryEstimateError
        With the estimate, what is available, and the remedy.
    """
    available = available_bytes()
    if available is not None and needed > share * available:
        raise MemoryEstimateError(
            f"{what} needs about {needed / 2**30:.2f} GiB, and {available / 2**30:.2f} GiB are "
            f"available (geomprobe takes at most {share:.0%} of it). {remedy}"
        )
