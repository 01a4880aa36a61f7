"""Attach: which modules to observe, the life of a hook, and leaving a model as it was."""

from geomprobe.hooks.masks import padding_mask
from geomprobe.hooks.names import canonical_name
from geomprobe.hooks.outputs import Unobservable, output_tensor
from geomprobe.hooks.points import Rows, arrange
from geomprobe.hooks.quiet import quiet, streams_kept
from geomprobe.hooks.selection import LayerSelection, select_layers
from geomprobe.hooks.tap import Batch, Tap

__all__ = [
    "Batch",
    "LayerSelection",
    "Rows",
    "Tap",
    "Unobservable",
    "arrange",
    "canonical_name",
    "output_tensor",
    "padding_mask",
    "quiet",
    "select_layers",
    "streams_kept",
]
