"""What a shop imports to declare its index: `register` and `VisualIndex`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visualsearch.indexes import VisualIndex, register

__version__ = "0.1.0"
__all__ = ["VisualIndex", "__version__", "register"]


def __getattr__(name: str) -> Any:
    # Resolved on first use, so that `visualsearch.ml` works on a machine without Django.
    if name in ("VisualIndex", "register"):
        from visualsearch import indexes

        return getattr(indexes, name)
    raise AttributeError(f"module 'visualsearch' has no attribute {name!r}")
