"""Watch a model while it trains."""

from geomprobe.callbacks.dashboards import MLflowSink, TensorBoardSink, WandbSink
from geomprobe.callbacks.delivery import Sink
from geomprobe.callbacks.files import CSVSink, JSONLinesSink
from geomprobe.callbacks.history import History, Record
from geomprobe.callbacks.hugging_face import TrainerMonitor
from geomprobe.callbacks.ignite import IgniteMonitor
from geomprobe.callbacks.keras import KerasMonitor
from geomprobe.callbacks.lightning import LightningMonitor
from geomprobe.callbacks.monitor import Monitor
from geomprobe.callbacks.shell import FrameworkMonitor
from geomprobe.callbacks.skorch import SkorchMonitor

__all__ = [
    "CSVSink",
    "FrameworkMonitor",
    "History",
    "IgniteMonitor",
    "JSONLinesSink",
    "KerasMonitor",
    "LightningMonitor",
    "MLflowSink",
    "Monitor",
    "Record",
    "Sink",
    "SkorchMonitor",
    "TensorBoardSink",
    "TrainerMonitor",
    "WandbSink",
]
