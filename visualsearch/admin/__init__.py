"""Checkpoints, training runs (Retrain is their Add page) and index health in Django's admin."""

from visualsearch.admin.checkpoints import CheckpointAdmin
from visualsearch.admin.index_health import IndexEntryAdmin
from visualsearch.admin.training_runs import TrainingRunAdmin

__all__ = ["CheckpointAdmin", "IndexEntryAdmin", "TrainingRunAdmin"]
