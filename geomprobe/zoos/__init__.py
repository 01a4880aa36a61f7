"""Zoos: families of models trained by a fixed protocol, measured, and scored."""

from geomprobe.zoos.protocol import After, Model, Stop, ZooProtocol
from geomprobe.zoos.publishing import publish
from geomprobe.zoos.records import Record, ZooFolder
from geomprobe.zoos.running import run_zoo, train_and_measure
from geomprobe.zoos.scoring import ZooScores, model_zoo, score_zoo
from geomprobe.zoos.task import Task

__all__ = [
    "After",
    "Model",
    "Record",
    "Stop",
    "Task",
    "ZooFolder",
    "ZooProtocol",
    "ZooScores",
    "model_zoo",
    "publish",
    "run_zoo",
    "score_zoo",
    "train_and_measure",
]
