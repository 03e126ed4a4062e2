"""The REST API; the shop chooses where: `path("api/", include("visualsearch.api.urls"))`."""

from __future__ import annotations

from django.urls import path

from visualsearch.api import algolia_views, service_views, staff_views, views
from visualsearch.api.metrics import metrics

app_name = "visualsearch_api"

urlpatterns = [
    path("search/", views.SearchView.as_view(), name="search"),
    path("recommend/", views.RecommendView.as_view(), name="recommend"),
    path("products/<str:pk>/similar/", views.SimilarView.as_view(), name="similar"),
    path(
        "products/<str:pk>/modifications/", views.ModificationsView.as_view(), name="modifications"
    ),
    # Where Algolia's clients ask; the index is "*" there.
    path(
        "1/indexes/<str:index>/queries",
        algolia_views.QueriesView.as_view(),
        name="algolia-queries",
    ),
    path(
        "1/indexes/<str:index>/recommendations",
        algolia_views.RecommendationsView.as_view(),
        name="algolia-recommendations",
    ),
    path("events/", service_views.EventsView.as_view(), name="events"),
    path("health/", service_views.HealthView.as_view(), name="health"),
    path("schema/", service_views.SchemaView.as_view(), name="schema"),
    path("stats/", service_views.StatsView.as_view(), name="stats"),
    path("metrics/", metrics, name="metrics"),
    path("checkpoints/", staff_views.CheckpointsView.as_view(), name="checkpoints"),
    path("checkpoints/<str:pk>/promote/", staff_views.PromoteView.as_view(), name="promote"),
    path("checkpoints/rollback/", staff_views.RollbackView.as_view(), name="rollback"),
    path("training-runs/", staff_views.TrainingRunsView.as_view(), name="training-runs"),
    path("training-runs/<str:pk>/", staff_views.TrainingRunView.as_view(), name="training-run"),
]
