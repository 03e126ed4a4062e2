"""The addresses of the demo shop."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from django.views.static import serve

from shop import views

urlpatterns = [
    path("", views.home, name="home"),
    path("products/<path:sku>/", views.product, name="product"),
    path("search/", include("visualsearch.urls", namespace="visualsearch")),
    path("api/", include("visualsearch.api.urls")),
    path("admin/", admin.site.urls),
    # Where browsers look for pages that name no icon, as the admin's do.
    path("favicon.ico", views.icon),
]

if settings.DEBUG:
    # In front of a real shop the web server serves the photos.
    prefix = settings.MEDIA_URL.lstrip("/")
    urlpatterns.append(
        re_path(rf"^{prefix}(?P<path>.*)$", serve, {"document_root": settings.MEDIA_ROOT})
    )
