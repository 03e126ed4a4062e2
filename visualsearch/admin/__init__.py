"""Checkpoints, training runs (Retrain is their Add page), index health and poor answers in Django's admin."""

from visualsearch.admin.checkpoints import CheckpointAdmin
from visualsearch.admin.index_health import IndexEntryAdmin
from visualsearch.admin.poor_answers import WordSearchAdmin
from visualsearch.admin.training_runs import TrainingRunAdmin

__all__ = ["CheckpointAdmin", "IndexEntryAdmin", "TrainingRunAdmin", "WordSearchAdmin"]
