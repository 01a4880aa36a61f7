"""Watch a model while it trains."""

from geomprobe.callbacks.history import History, Record
from geomprobe.callbacks.monitor import Monitor

__all__ = ["History", "Monitor", "Record"]
