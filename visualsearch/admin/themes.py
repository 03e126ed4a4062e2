"""The ModelAdmin that fits the shop's admin: django-unfold's where that is installed, else Django's own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib import admin


def model_admin() -> type[admin.ModelAdmin[Any]]:
    """The class to derive from: Unfold draws fields and tables only of admins that are its own."""
    if apps.is_installed("unfold"):
        found: type[admin.ModelAdmin[Any]] = import_module("unfold.admin").ModelAdmin
        return found
    return admin.ModelAdmin


if TYPE_CHECKING:
    ThemedAdmin = admin.ModelAdmin
else:
    ThemedAdmin = model_admin()
