"""Checkpoints of one model as samples: the cloud that a layer makes, or the Fisher information."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch import nn

from geomprobe.estimators.activation import ActivationCloud
from geomprobe.evidence import Samples
from geomprobe.exceptions import Interrupted
from geomprobe.information.effective_dimension import effective_dimension
from geomprobe.information.fisher import fisher_gram
from geomprobe.information.spectra import participation_ratio, stable_rank
from geomprobe.progress import progress_bar
from geomprobe.storage import Array
from geomprobe.weights import load_weights


class OfCheckpoints(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer whose samples are checkpoints. A subclass says what it makes of a model."""

    # What scikit-learn cannot make up, and so does not try to.
    _required_parameters = ("model", "data")

    model: nn.Module

    def fit(self, X: Any, y: Any = None) -> Any:
        """Check the parameters by the first checkpoint; nothing is learned.

        Raises
        ------
        TypeError, ValueError
            X is no list of checkpoints, or holds none; what ``transform`` raises.
        """
        self._of_model(_loaded(self.model, _checkpoints(X)[0]))
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {"X_types": ["string"]}

    def _of_model(self, model: nn.Module) -> Array:
        raise NotImplementedError

    def _of_each(self, X: Any) -> list[Array]:
        """Return what is made of each checkpoint, with a progress bar."""
        checkpoints = _checkpoints(X)
        found: list[Array] = []
        try:
            for index, one in enumerate(progress_bar(checkpoints, "checkpoints")):
                try:
                    found.append(self._of_model(_loaded(self.model, one)))
                except (ValueError, TypeError, RuntimeError) as error:
                    raise type(error)(f"checkpoint {index}: {error}") from error
        except KeyboardInterrupt:
            message = f"{len(found)} of {len(checkpoints)} checkpoints were done"
            raise Interrupted(message, found) from None
        return found


class CheckpointClouds(OfCheckpoints):
    """Transform checkpoints of a model into the clouds that one layer makes of the same data.

    Parameters
    ----------
    model : torch.nn.Module
        The architecture; its own weights are not used, and it is left as it was.
    data : array of shape (n, ...)
        The samples that every checkpoint is shown.
    layer, pool
        As for :class:`~geomprobe.ActivationCloud`.

    Notes
    -----
    A sample is a checkpoint: ``X`` is a list of paths of files of weights, of state dicts, or of
    models, and the result a list of arrays of shape (n, width) in float32, which
    :class:`~geomprobe.RipsPersistence` or
    :class:`~geomprobe.estimators.IntrinsicDimension` take. Row i is always the same sample of the
    data. An error names the checkpoint.
    """

    def __init__(self, model: nn.Module, data: Any, layer: str = "", *, pool: str = "auto") -> None:
        self.model = model
        self.data = data
        self.layer = layer
        self.pool = pool

    def transform(self, X: Any) -> list[Array]:
        """Return the cloud of each checkpoint."""
        return self._of_each(X)

    def _of_model(self, model: nn.Module) -> Array:
        if isinstance(self.data, Mapping | tuple):
            raise TypeError(f"data must be one array, got a {type(self.data).__name__}")
        data = np.asarray(self.data)
        cloud: Array = ActivationCloud(model, self.layer, pool=self.pool).fit_transform(data)
        return cloud


class FisherFeatures(OfCheckpoints):
    """Transform checkpoints of a model into numbers of their Fisher information on some data.

    Parameters
    ----------
    model : torch.nn.Module
        The architecture; its own weights are not used, and it is left as it was.
    data : array of shape (n, ...), or a tuple of such and targets
    loss : callable
        As in training; says what the outputs mean, see :func:`~geomprobe.information.fisher_gram`.
    kind : {"true", "empirical"}
        The empirical Fisher needs targets.
    n_train : int, optional
        With it the local effective dimension at so many training samples is a feature too.

    Notes
    -----
    ``X`` as for :class:`CheckpointClouds`. The result has shape (n_checkpoints, 4), or 5: trace,
    largest eigenvalue, stable rank and participation ratio of the exact spectrum, and the effective
    dimension. A checkpoint without any Fisher information, whose gradients all vanish, has NaN for
    what is then undefined. Models run in evaluation mode.
    """

    _names = ("trace", "largest", "stable_rank", "participation_ratio")

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        loss: Any = nn.functional.cross_entropy,
        *,
        kind: str = "true",
        n_train: int | None = None,
    ) -> None:
        self.model = model
        self.data = data
        self.loss = loss
        self.kind = kind
        self.n_train = n_train

    def transform(self, X: Any) -> Array:
        """Return the numbers of each checkpoint, of shape (n_checkpoints, n_features)."""
        return np.stack(self._of_each(X))

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return one name a feature."""
        names = [f"fisher_{name}" for name in self._names]
        names += ["effective_dimension"] if self.n_train is not None else []
        return np.array(names, dtype=object)

    def _of_model(self, model: nn.Module) -> Array:
        parts = self.data if isinstance(self.data, tuple) else (self.data,)
        samples = Samples(*(torch.as_tensor(part, device="cpu") for part in parts))
        gram = fisher_gram(model.eval(), samples, kind=self.kind, loss=self.loss)
        eigenvalues = gram.spectrum()
        numbers = [
            float(eigenvalues.sum()),
            float(eigenvalues.max(initial=0.0)),
            stable_rank(eigenvalues),
            participation_ratio(eigenvalues),
        ]
        if self.n_train is not None:
            count = gram.n_parameters
            numbers.append(effective_dimension(eigenvalues, self.n_train, n_parameters=count))
        return np.array(numbers)


def _checkpoints(X: Any) -> list[Any]:
    if isinstance(X, str | os.PathLike | Mapping | nn.Module | Iterator) or not isinstance(
        X, Iterable
    ):
        raise TypeError(
            f"X must be a list of checkpoints, got {type(X).__name__}; for one pass [checkpoint]"
        )
    checkpoints = list(X)
    if not checkpoints:
        raise ValueError("X holds no checkpoints")
    return checkpoints


def _loaded(model: nn.Module, checkpoint: Any) -> nn.Module:
    """Return a copy of a model with the weights of a checkpoint."""
    if isinstance(checkpoint, nn.Module):
        return copy.deepcopy(checkpoint)
    copied = copy.deepcopy(model)
    if isinstance(checkpoint, str | os.PathLike):
        return load_weights(copied, checkpoint)
    if not isinstance(checkpoint, Mapping):
        raise TypeError(
            "a checkpoint is the path of a file of weights, a state dict or a model, got "
            f"{type(checkpoint).__name__}"
        )
    copied.load_state_dict(checkpoint)
    return copied
