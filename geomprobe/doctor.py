"""What is installed, and whether it works."""

from __future__ import annotations

import importlib
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from geomprobe.analyzer import load_analyzer, registered_analyzers
from geomprobe.memory import available_bytes

_REQUIRED = {
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "ripser": "ripser",
    "numba": "numba",
    "threadpoolctl": "threadpoolctl",
    "joblib": "joblib",
    "cloudpickle": "cloudpickle",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "pandas": "pandas",
    "matplotlib": "matplotlib",
    "pillow": "PIL",
    "jinja2": "jinja2",
    "typer": "typer",
}
_OPTIONAL = {
    "giotto-tda": "gtda",
    "giotto-ph": "gph",
    "redzed-tda": "redzed_tda",
    "tda": "tda",
    "gudhi": "gudhi",
    "quitefastmst": "quitefastmst",
}


@dataclass(frozen=True)
class Check:
    """One thing examined: ``status`` is ``"ok"``, ``"absent"`` (optional) or ``"broken"``."""

    name: str
    status: str
    detail: str


def examine() -> list[Check]:
    """Examine the machine, the packages geomprobe stands on, and every registered analyzer.

    Packages are imported, since an installed package can still fail to import.
    """
    memory = available_bytes()
    memory_text = "unknown" if memory is None else f"{memory / 2**30:.1f} GiB available"
    machine = f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"
    checks = [Check("machine", "ok", machine), Check("memory", "ok", memory_text)]
    checks += [_package(name, module, "broken") for name, module in _REQUIRED.items()]
    checks += [_package(name, module, "absent") for name, module in _OPTIONAL.items()]
    checks += [_analyzer(name) for name in registered_analyzers()]
    return checks


def _package(name: str, module: str, when_missing: str) -> Check:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, when_missing, "not installed")
    try:
        importlib.import_module(module)
    except Exception as error:
        return Check(name, "broken", f"{found} is installed but does not import: {error}")
    return Check(name, "ok", found)


def _analyzer(name: str) -> Check:
    try:
        analyzer = load_analyzer(name)
    except Exception as error:
        return Check(name, "broken", f"{type(error).__name__}: {error}")
    return Check(name, "ok", f"analyzer, needs {', '.join(sorted(analyzer.needs))}")
