import os

from hypothesis import settings

# Deterministic, and without hypothesis's own limit on the time of an example.
settings.register_profile("geomprobe", derandomize=True, deadline=None)
settings.load_profile("geomprobe")

# No test opens a window.
os.environ.setdefault("MPLBACKEND", "Agg")
