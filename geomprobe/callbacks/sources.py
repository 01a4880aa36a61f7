"""Where the clouds of an observation come from: a pass of its own, or the training batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from torch import nn

from geomprobe.clouds import CloudSet
from geomprobe.evidence import Evidence
from geomprobe.hooks.compiled import compiled_parts
from geomprobe.hooks.quiet import streams_kept
from geomprobe.sampling.collect import collect_together, sample_of
from geomprobe.sampling.loading import iterate_batches
from geomprobe.sampling.probe import Probe
from geomprobe.storage import Array


class Source(Protocol):
    """What a :class:`~geomprobe.Monitor` asks for evidence."""

    #: Said with every finding; empty where there is nothing to say.
    note: str

    @property
    def seconds(self) -> float:
        """Wall time that went into the training's own passes."""
        ...

    def evidence(self) -> Evidence | None:
        """Return clouds, model and data; under torch.distributed, on the first process only."""
        ...

    def identify(self, ids: Array | None, labels: Array | None) -> None:
        """Give ids and labels of the next training batch."""
        ...

    def state_dict(self) -> dict[str, Any] | None:
        """Return what an interrupted training needs; None if that is nothing."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        ...

    def close(self) -> None:
        """Leave the model alone."""
        ...


class ProbePass:
    """Fixed data, in a pass of their own at every observation.

    Parameters
    ----------
    model : torch.nn.Module
    data
        What :func:`~geomprobe.sampling.iterate_batches` reads, and can read again.
    samples : int
        Inputs kept for analyzers that run the model.
    probing
        What to observe; see :class:`~geomprobe.Probe`.
    """

    note = ""
    seconds = 0.0

    def __init__(self, model: nn.Module, data: Any, samples: int, **probing: Any) -> None:
        self._model, self._data, self._samples = model, read_again(data), samples
        selection = Probe(model, **probing).selection
        self._probing = {**probing, "layers": selection}

    def evidence(self) -> Evidence | None:
        """Show the data to the model, and return what its layers gave."""
        probe, seed = Probe(self._model, **self._probing), self._probing["seed"]
        # A loader that shuffles or augments then shows the same samples every time.
        with streams_kept(seed):
            return collect_together(probe, self._data, samples=self._samples, seed=seed)

    def identify(self, ids: Array | None, labels: Array | None) -> None:
        """Refuse: the training batches are not looked at."""
        raise ValueError("only a monitor with tap=True looks at the training batches")

    def state_dict(self) -> None:
        """Return nothing: each pass starts anew."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class TrainingTap:
    """The training batches as they pass: those since the last observation.

    Parameters
    ----------
    model, data, samples, probing
        As for :class:`ProbePass`. The data only serve analyzers that run the model, and may be
        None.

    Raises
    ------
    ValueError
        The model has compiled parts.
    """

    note = "from the training batches as they passed, in train mode"

    def __init__(self, model: nn.Module, data: Any, samples: int, **probing: Any) -> None:
        if parts := compiled_parts(model):
            raise ValueError(
                f"tap=True would have the compiled parts {parts} trained eagerly, since compiled "
                "code calls no hooks; give probe_data for passes of their own instead"
            )
        self._data = None if data is None else read_again(data)
        self._samples, self._seed = samples, probing["seed"]
        self._probe = Probe(model, phases=("train",), **probing).attach()

    @property
    def seconds(self) -> float:
        """Wall time that hooks have taken in training passes."""
        return self._probe.seconds

    def evidence(self) -> Evidence | None:
        """Take what has passed since the last observation, and start anew."""
        if self._probe.failure:
            raise ValueError(f"the training batches are looked at no longer: {self._probe.failure}")
        model, clouds = self._probe.model, self._probe.gather()
        if not self._probe.phases:
            self._probe.warn_of_silence()
        self._probe.reset()
        if clouds is None:
            return None
        marked = {
            name: replace(cloud, meta={**cloud.meta, "source": self.note})
            for name, cloud in clouds.items()
        }
        data = None
        if self._data is not None:
            data = sample_of(self._data, model, self._samples, seed=self._seed)
        return Evidence(CloudSet(marked), model=model, data=data, seed=self._seed)

    def identify(self, ids: Array | None, labels: Array | None) -> None:
        """Give ids and labels of the next training batch."""
        self._probe.identify(ids, labels)

    def state_dict(self) -> dict[str, Any]:
        """Return what has passed since the last observation."""
        return self._probe.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        self._probe.load_state_dict(state)

    def close(self) -> None:
        """Take the hooks off."""
        self._probe.detach(warn=False)


def read_again(data: Any) -> Any:
    """Return data of which every observation can read the same batches; refuse what ends."""
    if isinstance(data, Iterator):
        raise ValueError(
            "probe_data can be read only once; give tensors, a dataset, or a loader itself rather "
            "than an iterator over it"
        )
    with streams_kept():
        next(iter(iterate_batches(data)))
    return data
