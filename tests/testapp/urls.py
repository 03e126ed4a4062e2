"""The pages of both small catalogues: those of visualsearch and the admin."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("find/", include("visualsearch.urls", namespace="visualsearch")),
    path("rest/", include("visualsearch.api.urls")),
    path("admin/", admin.site.urls),
]
