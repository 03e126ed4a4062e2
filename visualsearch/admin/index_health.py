"""Index health in the admin: coverage, what failed and why, try again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from visualsearch.admin.themes import ThemedAdmin
from visualsearch.health import status
from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint, IndexEntry
from visualsearch.upkeep import doorbell

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[IndexEntry]
else:  # they take no type when the program runs
    _ModelAdmin = ThemedAdmin


class ErrorCodeFilter(admin.AllValuesFieldListFilter):
    """Codes that there are; without one that is no word, for which the link would have no text."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        for choice in super().choices(changelist):
            if str(choice["display"]).strip():
                yield choice


@admin.register(IndexEntry)
class IndexEntryAdmin(_ModelAdmin):
    list_display = (
        "photo",
        "shown_product",
        "status",
        "reason",
        "changed_at",
    )
    list_display_links = ("shown_product",)
    list_filter = ("status", ("error_code", ErrorCodeFilter))
    search_fields = ("=product__pk", "error")
    ordering = ("-changed_at",)
    list_per_page = 50
    show_full_result_count = False
    actions = ("index_again",)
    fields = (
        "photo",
        "shown_product",
        "status",
        "reason",
        "error_code",
        "attempts",
        "version",
        "changed_at",
        "indexed_at",
        "available_at",
        "leased_until",
    )
    readonly_fields = fields
    change_list_template = "admin/visualsearch/indexentry/list.html"

    class Media:
        css = {"all": ("visualsearch/admin/admin.css",)}

    # -- who may what: entries come and go with the products --------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: IndexEntry | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: IndexEntry | None = None) -> bool:
        return False

    def has_reindex_permission(self, request: HttpRequest) -> bool:
        """The permission to change entries is the one to have products looked at again."""
        return bool(request.user.has_perm("visualsearch.change_indexentry"))

    # -- the list --------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[IndexEntry]:
        index = get_index()
        products = index.with_related(index.model._default_manager.all())
        entries = super().get_queryset(request)
        return entries.prefetch_related(Prefetch("product", queryset=products))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {
            "title": _("Index health"),
            "coverage": status.coverage(),
            "live": Checkpoint.objects.live(),
            "open_run": status.open_run(),
            "may_reindex": self.has_reindex_permission(request),
        }
        return super().changelist_view(request, context | (extra_context or {}))

    @admin.display(description=_("photo"))
    def photo(self, entry: IndexEntry) -> str:
        product = _product(entry)
        images = get_index().get_images(product) if product is not None else []
        if not images:
            return "–"
        return format_html(
            '<img class="visualsearch-thumbnail" src="{}" alt="" loading="lazy">', images[0].url
        )

    @admin.display(description=_("product"), ordering="product")
    def shown_product(self, entry: IndexEntry) -> str:
        product = _product(entry)
        return get_index().get_title(product) if product is not None else str(entry.product_id)

    @admin.display(description=_("reason"), ordering="error_code")
    def reason(self, entry: IndexEntry) -> str:
        return entry.error or "–"

    @admin.action(description=_("Index the selected products again"), permissions=["reindex"])
    def index_again(self, request: HttpRequest, queryset: QuerySet[IndexEntry]) -> None:
        entries = IndexEntry.objects.filter(pk__in=queryset.order_by().values("pk"))
        self._reopen(request, entries.reopen())

    # -- retry -----------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        mine = path(
            "retry-failed/",
            self.admin_site.admin_view(self.retry_failed_view),
            name="visualsearch_indexentry_retry_failed",
        )
        return [mine, *super().get_urls()]

    def retry_failed_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_reindex_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self._reopen(request, IndexEntry.objects.filter(status=IndexEntry.Status.FAILED).reopen())
        return HttpResponseRedirect(reverse("admin:visualsearch_indexentry_changelist"))

    def _reopen(self, request: HttpRequest, count: int) -> None:
        doorbell.ring("embed")
        messages.success(request, _("%(count)d products are looked at again.") % {"count": count})

    def view_on_site(self, obj: IndexEntry) -> str:
        """Django's link from an entry to its product's page."""
        return _product_page(obj)


def _product(entry: IndexEntry) -> Any:
    try:
        return entry.product
    except ObjectDoesNotExist:
        return None  # deleted a moment ago


def _product_page(entry: IndexEntry) -> str:
    meta = get_index().model._meta
    try:
        return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[entry.product_id])
    except NoReverseMatch:
        return get_index().get_url(entry.product)
