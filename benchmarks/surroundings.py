"""Where a benchmark ran: versions, and what kind of machine it was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ALWAYS = ("geomprobe", "torch", "numpy", "scipy")


def surroundings(packages: Iterable[str], threads: int) -> dict[str, Any]:
    """Return versions of these packages and of :data:`ALWAYS`, and what kind of machine this is."""
    versions = {"python": platform.python_version()}
    for package in (*ALWAYS, *packages):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    return {
        "versions": versions,
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpu": cpu,
            "cores": os.cpu_count(),
            "threads": threads,
            "load_at_start": os.getloadavg()[0],
        },
    }
