"""Searches without good answers in the admin: words that found nothing, nothing near, or nothing wanted."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from visualsearch.admin.themes import ThemedAdmin
from visualsearch.conf import get_settings
from visualsearch.models import WordSearch
from visualsearch.search import word_searches

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[WordSearch]
else:  # they take no type when the program runs
    _ModelAdmin = ThemedAdmin

PERIODS = (7, 30, 90)
"""Days to choose from."""
PER_PAGE = 50


@admin.register(WordSearch)
class WordSearchAdmin(_ModelAdmin):
    """Words, not searches: what one visitor typed is shown only as a count of all."""

    # -- who may what: nobody writes them but visitors, and the sweep deletes them ----------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: WordSearch | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: WordSearch | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        """The list alone: a single search has no page."""
        shown = self.admin_site.admin_view(self.changelist_view)
        return [path("", shown, name="visualsearch_wordsearch_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Words with counts over the period, newest first."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        days = request.GET.get("days", "")
        period = next((n for n in PERIODS if str(n) == days), PERIODS[1])
        problem = request.GET.get("problem", "")
        problem = problem if problem in word_searches.PROBLEMS else "any"
        since = timezone.localdate() - timedelta(days=period - 1)
        found = word_searches.without_good_answers(since=since, problem=problem)
        page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
        settings = get_settings()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Searches without good answers"),
            "page": page,
            "rows": [_row(values) for values in page.object_list],
            "pages": page.paginator.get_elided_page_range(page.number),
            "period": period,
            "periods": PERIODS,
            "problem": problem,
            "problems": word_searches.PROBLEMS,
            "clicks_are_known": word_searches.clicks_are_known(since=since),
            "low_percent": round(100 * word_searches.LOW_MATCH),
            "is_kept": settings.KEEP_SEARCHED_WORDS,
            "kept_days": settings.EVENT_DAYS,
            "kept": urlencode({"days": str(period), "problem": problem}),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/visualsearch/wordsearch/list.html", context)


def _row(values: dict[str, Any]) -> dict[str, Any]:
    query = urlencode({"q": values["words"]})
    inspector = reverse("admin:visualsearch_checkpoint_inspect")
    return {**values, "search": _search_page(query), "inspect": f"{inspector}?{query}"}


def _search_page(query: str) -> str:
    try:
        return f"{reverse('visualsearch:search')}?{query}"
    except NoReverseMatch:
        return ""  # the shop has only the API
