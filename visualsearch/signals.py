"""Events that a shop can listen to."""

from __future__ import annotations

from django.dispatch import Signal

checkpoint_promoted = Signal()
"""Another checkpoint went live. Arguments: checkpoint, previous (None for the first)."""

training_finished = Signal()
"""A training run ended, well or not. Argument: run."""
