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


def allowed_bytes(limit: int | None = None, *, share: float = 0.5) -> int | None:
    """Return how much a computation may take: the limit, or else a share of what is available."""
    if limit is not None:
        return limit
    available = available_bytes()
    return None if available is None else int(share * available)


def require_memory(
    needed: int, what: str, remedy: str, *, share: float = 0.5, limit: int | None = None
) -> None:
    """Raise where a computation would take over a share of the available memory, or a limit.

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
    limit : int, optional
        Bytes to take at most, in place of that share.

    Raises
    ------
    MemoryEstimateError
        With the estimate, what is available, and the remedy.
    """
    allowed = allowed_bytes(limit, share=share)
    if allowed is not None and needed > allowed:
        whose = "the limit" if limit is not None else f"{share:.0%} of what is available"
        raise MemoryEstimateError(
            f"{what} needs about {needed / 2**30:.2f} GiB, which is more than {whose}, "
            f"{allowed / 2**30:.2f} GiB. {remedy}"
        )
