"""The protocol of a zoo: which models are trained, how, and until when; fixed before any result."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from geomprobe.diagnostics.measures import GROUPS
from geomprobe.exceptions import FileFormatError
from geomprobe.storage import PathLike


@dataclass(frozen=True)
class Stop:
    """When training ends.

    Parameters
    ----------
    cross_entropy : float
        Of the whole training set in evaluation mode.
    noisy_cross_entropy : float
        The same for models with label noise, which end at a training accuracy of 100 % as well.
    steps : int
        The most optimizer steps; a model that has not converged by then is left out of the scores.
    between_checks : int
        The fewest steps between two looks; there is one epoch at least.
    epochs : int, optional
        Train for so many instead, whatever comes of it: the target is then the test error.
    """

    cross_entropy: float = 0.01
    noisy_cross_entropy: float = 0.05
    steps: int = 20_000
    between_checks: int = 20
    epochs: int | None = None


@dataclass(frozen=True)
class After:
    """What is collected after convergence, training on as before.

    Parameters
    ----------
    iterates : int
        Further steps, each of which is kept; 0 for none.
    samples : int
        Training samples whose losses are taken at each.
    dimension : int
        What iterates are projected to.
    """

    iterates: int = 500
    samples: int = 500
    dimension: int = 2048


@dataclass(frozen=True)
class Model:
    """One model of a zoo: its number, its hyper-parameters, and its seed."""

    number: int
    settings: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class ZooProtocol:
    """What a zoo is.

    Parameters
    ----------
    name : str
    build : str
        ``MODULE:CALLABLE`` that makes a :class:`~geomprobe.zoos.Task` of ``seed`` and all
        hyper-parameters but those of training: ``lr``, ``batch_size``, ``optimizer``, ``momentum``,
        ``weight_decay``, ``label_noise``, ``adversarial_init``.
    axes : mapping of str to tuple
        The values of each hyper-parameter; every combination is a cell.
    seeds : tuple of int
        Models of each cell.
    fixed : mapping
        Hyper-parameters with one value.
    stop : Stop
    after : After
    held_out : bool
        Whether scores may be looked at once a release only, and every look is recorded.
    groups : tuple of str, optional
        Groups of measures to take; by default all.

    Raises
    ------
    ValueError
        An axis without two different values of one type, a name on both sides, no or equal seeds,
        an unknown group.
    """

    name: str
    build: str
    axes: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...] = (0, 1)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    stop: Stop = field(default_factory=Stop)
    after: After = field(default_factory=After)
    held_out: bool = False
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.axes:
            raise ValueError("a zoo needs an axis: a hyper-parameter with two values or more")
        for axis, values in self.axes.items():
            if len(set(map(repr, values))) != len(values) or len(values) < 2:
                raise ValueError(f"axis {axis!r} needs two or more different values, got {values}")
            kinds = {float if type(value) is int else type(value) for value in values}
            if len(kinds) > 1:
                raise ValueError(f"axis {axis!r} needs values of one type, got {values}")
        if both := set(self.axes) & set(self.fixed):
            raise ValueError(f"{sorted(both)} cannot be both an axis and fixed")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be different, and one at least, got {self.seeds}")
        known = [group.name for group in GROUPS]
        if unknown := set(self.groups or ()) - set(known):
            raise ValueError(f"no group of measures named {sorted(unknown)}; there are {known}")

    @classmethod
    def from_toml(cls, path: PathLike, *, variant: str | None = None) -> ZooProtocol:
        """Read a protocol from a TOML file.

        Its keys are the parameters of this class; ``[axes]``, ``[fixed]``, ``[stop]`` and
        ``[after]`` are tables. A table ``[variants.NAME]`` holds other values of some keys for a
        smaller zoo of that name.

        Parameters
        ----------
        path : path
        variant : str, optional
            The name of a variant, such as ``"quick"``.

        Raises
        ------
        ValueError
            Not TOML, an unknown key or variant, or what the class refuses.
        """
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise FileFormatError(f"{path} is not a TOML file: {error}") from error
        variants = document.pop("variants", {})
        if variant is not None:
            if variant not in variants:
                raise ValueError(f"{path} has no variant {variant!r}; it has {[*variants]}")
            document |= variants[variant]
            document["name"] = f"{document.get('name', '')}-{variant}"
        return cls.from_dict(document)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ZooProtocol:
        """Make a protocol of what :meth:`to_dict` gives, or of the tables of a TOML file."""
        values = dict(document)
        _require_keys(values, cls, "a protocol", needed=("name", "build", "axes"))
        for name in ("axes", "fixed", "stop", "after"):
            if not isinstance(values.get(name, {}), Mapping):
                raise ValueError(f"[{name}] must be a table, got {values[name]!r}")
        for name, kind in (("stop", Stop), ("after", After)):
            table = values.get(name, {})
            _require_keys(table, kind, f"[{name}]")
            values[name] = kind(**table)
        values["axes"] = {
            axis: _listed(f"axis {axis!r}", given) for axis, given in values["axes"].items()
        }
        for name in ("seeds", "groups"):
            if values.get(name) is not None:
                values[name] = _listed(name, values[name])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the protocol in JSON types."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document

    @property
    def digest(self) -> str:
        """SHA-256 of the protocol."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return sha256(text.encode()).hexdigest()

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model, the seeds of a cell one after another."""
        values = product(*self.axes.values())
        cells = (dict(zip(self.axes, chosen, strict=True)) for chosen in values)
        pairs = product(cells, self.seeds)
        return tuple(
            Model(number, {**self.fixed, **cell}, seed) for number, (cell, seed) in enumerate(pairs)
        )


def _listed(what: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, list | tuple):
        raise ValueError(f"{what} must be a list of values, got {given!r}")
    return tuple(given)


def _require_keys(
    given: Mapping[str, Any], kind: Any, what: str, needed: tuple[str, ...] = ()
) -> None:
    known = [one.name for one in fields(kind)]
    if unknown := [key for key in given if key not in known]:
        raise ValueError(f"{what} has no key {unknown}; it has {known}")
    if missing := [key for key in needed if key not in given]:
        raise ValueError(f"{what} needs the keys {missing}")
