"""The search page; the shop chooses where: `path("search/", include("visualsearch.urls"))`."""

from __future__ import annotations

from django.urls import path

from visualsearch import views

app_name = "visualsearch"

urlpatterns = [
    path("", views.search, name="search"),
    path("clicked/", views.clicked, name="clicked"),
]
