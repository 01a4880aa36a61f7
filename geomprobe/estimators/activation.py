"""ActivationCloud: what a layer of a trained network makes of each sample, as features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import validation
from sklearn.utils.validation import check_is_fitted
from torch import nn

from geomprobe.clouds import PointCloud
from geomprobe.exceptions import LayerSelectionError
from geomprobe.hooks.names import ROOT, site_of
from geomprobe.hooks.selection import select_layers, unwrap
from geomprobe.sampling.collect import collect
from geomprobe.sampling.probe import Probe
from geomprobe.storage import Array

#: One point a sample, whose dimension does not depend on the batch.
_POOLS = ("auto", "flatten", "mean", "last", "cls")


class ActivationCloud(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transform samples into the activations of one layer.

    The model is not trained; it runs in evaluation mode and is left as it was.

    Parameters
    ----------
    model : torch.nn.Module
        A trained model.
    layer : str
        Name of the layer, or a glob that matches exactly one; ``"name#in"`` is its input,
        ``"name#out.hidden"`` a part of its output, ``"name#k"`` its k-th repeated call in a forward
        pass. The empty string is the model's own output.
    pool : {"auto", "flatten", "mean", "last", "cls"}
        How a sample's positions become one point; see :func:`~geomprobe.hooks.arrange`.

    Attributes
    ----------
    layer_ : str
        The layer's name.
    n_features_in_, feature_names_in_
        Size of the second axis of the samples in ``fit``, and its names if they came in a frame.
    n_features_out_ : int
        Width of the layer.

    Notes
    -----
    ``transform`` takes an array of shape (n_samples, n_features, ...), as the model does, finite
    and of the shape that ``fit`` saw but for the number of samples, and returns one of shape
    (n_samples, ``n_features_out_``) in float32. Floating-point input is cast to the model's dtype.
    ``clone`` copies the model.
    """

    # What scikit-learn cannot make up, and so does not try to.
    _required_parameters = ("model",)

    def __init__(self, model: nn.Module, layer: str = "", *, pool: str = "auto") -> None:
        self.model = model
        self.layer = layer
        self.pool = pool

    def fit(self, X: Any, y: Any = None) -> ActivationCloud:
        """Find the layer and its width by running the first sample.

        Raises
        ------
        LayerSelectionError
            The layer does not name exactly one layer, or that layer gives no cloud.
        ValueError
            ``pool`` is none of those above, or X is no finite array of two axes or more.
        """
        if self.pool not in _POOLS:
            raise ValueError(f"pool must be one of {_POOLS}, got {self.pool!r}")
        X = self._validated(X, reset=True)
        site = site_of(self.layer)
        found = list(select_layers(self.model, site or ROOT).modules)
        if len(found) != 1:
            raise LayerSelectionError(f"layer={self.layer!r} matches {found}; name exactly one")
        layer = found[0] + self.layer.removeprefix(site)
        self.n_features_out_ = self._cloud(layer, X[:1]).points.shape[1]
        self.layer_ = layer
        return self

    def transform(self, X: Any) -> Array:
        """Return the activations of each sample, in order."""
        check_is_fitted(self)
        return self._cloud(self.layer_, self._validated(X, reset=False)).points

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return one name a feature: the layer's name and a number."""
        return np.array([f"{self.layer_}_{i}" for i in range(self.n_features_out_)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {"X_types": ["2darray", "3darray"], "preserves_dtype": []}

    def _validated(self, X: Any, *, reset: bool) -> Array:
        # scikit-learn 1.6 has made a function of the method.
        if hasattr(validation, "validate_data"):
            array = validation.validate_data(self, X, reset=reset, allow_nd=True)
        else:
            array = self._validate_data(X, reset=reset, allow_nd=True)
        checked: Array = array
        return checked

    def _cloud(self, layer: str, X: Array) -> PointCloud:
        inputs = torch.from_numpy(np.ascontiguousarray(X))
        if inputs.is_floating_point():
            parameter = next(unwrap(self.model).parameters(), inputs)
            inputs = inputs.to(parameter.dtype)
        probe = Probe(
            self.model,
            site_of(layer),
            points=len(inputs),
            pool=self.pool,
            max_width=None,
            strict=True,
        )
        clouds = collect(probe, inputs, samples=1).clouds
        if layer not in clouds:
            reasons = [row["reason"] for row in probe.manifest]
            raise LayerSelectionError(f"layer {layer!r} gives no cloud: {reasons}")
        return clouds[layer]
