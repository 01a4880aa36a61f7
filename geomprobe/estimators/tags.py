"""What scikit-learn is told of transformers whose samples are no rows of a table."""

from __future__ import annotations

from typing import Any


class NoTableInput:
    """Mixin of a transformer that takes a list of clouds or diagrams, or a 3-D array.

    scikit-learn 1.6 and later ask ``__sklearn_tags__``, earlier ones ``_more_tags``.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {"X_types": ["3darray"]}
