"""The demo shop as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "shop"
    verbose_name = "Shop"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Celery's current app: without it, what the web process sends goes to no broker at all.
        import workers.celery  # noqa: F401
