import sys
from pathlib import Path

import geomprobe

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "geomprobe"
author = "The geomprobe developers"
copyright = "2026, The geomprobe developers"
version = release = geomprobe.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "mathml",
    "numpydoc",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_ext", "paper"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

# One page a public name; the tables in api/ say which.
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
# Sections are known and in order, and what is described as a parameter is one.
numpydoc_validation_checks = {"GL06", "GL07", "PR02", "PR10", "SS01"}

html_theme = "furo"
html_math_renderer = "mathml"
html_title = "geomprobe"
