"""The REST API; the shop chooses where: `path("api/", include("visualsearch.api.urls"))`."""

from __future__ import annotations

from django.urls import path

from visualsearch.api import views
from visualsearch.api.metrics import metrics

app_name = "visualsearch_api"

urlpatterns = [
    path("search/", views.SearchView.as_view(), name="search"),
    path("products/<str:pk>/similar/", views.SimilarView.as_view(), name="similar"),
    path("health/", views.HealthView.as_view(), name="health"),
    path("metrics/", metrics, name="metrics"),
    path("schema/", views.SchemaView.as_view(), name="schema"),
]
