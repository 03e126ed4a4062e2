"""The app config: finds the shop's visual_indexes, connects receivers, triggers and checks."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class VisualSearchConfig(AppConfig):
    name = "visualsearch"
    verbose_name = _("Visual search")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from visualsearch import receivers
        from visualsearch.checks import settings_checks

        autodiscover_modules("visual_indexes")
        settings_checks.register()
        receivers.connect()
        post_migrate.connect(_install_capture, sender=self, dispatch_uid="visualsearch.capture")


def _install_capture(*, using: str, **_kwargs: Any) -> None:
    """Keep the row triggers as the shop's VisualIndex has them, after every `migrate`."""
    from django.db import connections, router

    from visualsearch import indexes
    from visualsearch.models import IndexEntry, SearchDocument, SearchWord
    from visualsearch.search import spelling
    from visualsearch.tables import capture, documents

    model = indexes.product_model()
    if model not in indexes.registered() or using != router.db_for_write(IndexEntry):
        return
    # post_migrate also comes after a partial migrate: wait until all tables exist.
    index = indexes.get_index()
    tables = {captured.table for captured in capture.captured_tables(index)}
    present = set(connections[using].introspection.table_names())
    if tables | {IndexEntry._meta.db_table} <= present:
        capture.install(index, using=using)
        words = {model._meta.db_table for model in (SearchDocument, SearchWord)}
        if words <= present and documents.install(index, using=using):
            spelling.collect(using=using)
