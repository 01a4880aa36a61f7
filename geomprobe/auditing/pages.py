"""HTML pages that need no other file and no network.

Their one script makes tabs of their parts and sorts their tables; without it a page is whole. The
content security policy names it by its hash, and allows nothing else.
"""

from __future__ import annotations

import math
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import geomprobe
from geomprobe.auditing.notation import (
    fact_name,
    in_words,
    legible,
    number,
    spaced,
    with_error,
)
from geomprobe.diagnostics.published import signed

_TEMPLATES = Path(__file__).with_name("templates")


def page(template: str, **values: Any) -> str:
    """Return a page from one of the templates; every text in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fact_name": fact_name,
        "in_words": in_words,
        "number": number,
        "signed": signed,
        "sort_key": sort_key,
        "spaced": spaced,
        "svg": Markup,  # figures escape every text that they hold
        "with_error": with_error,
    }
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    text = environment.get_template(template).render(
        version=geomprobe.__version__, script=Markup(script), script_hash=digest, **values
    )
    return text.encode("utf-8", "replace").decode()


def sort_key(value: float) -> str:
    """Return a number as the script of a page reads it; empty for NaN, which comes last."""
    if math.isnan(value):
        return ""
    return f"{value:.6g}".replace("inf", "Infinity")


def _shown(value: Any) -> Any:
    if isinstance(value, Markup) or not isinstance(value, str):
        return "" if value is None else value
    return legible(value)
