"""Admin pages that look at checkpoints: what changed between two, the inspector with judgements, the map."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, F, OuterRef, QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    QueryDict,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from visualsearch.admin import gallery_map, neighbour_lists
from visualsearch.admin.themes import ThemedAdmin
from visualsearch.conf import get_settings
from visualsearch.exceptions import VisualSearchError
from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint, Embedding
from visualsearch.queries import uploads
from visualsearch.tables import judgements

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Checkpoint]
else:  # they take no type when the program runs
    _ModelAdmin = ThemedAdmin

logger = logging.getLogger(__name__)

Finder = Callable[[Checkpoint], list[tuple[Any, float | None]]]


class InspectionPages(_ModelAdmin):
    """Mixed into the checkpoints' admin; seeing them takes the permission to view checkpoints."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        mine = [
            path("compare/", wrap(self.compare_view), name="visualsearch_checkpoint_compare"),
            path("inspect/", wrap(self.inspect), name="visualsearch_checkpoint_inspect"),
            path("judge/", wrap(self.judge_view), name="visualsearch_checkpoint_judge"),
            path("map/", wrap(self.map_view), name="visualsearch_checkpoint_map"),
        ]
        return mine + super().get_urls()

    def compare_view(self, request: HttpRequest) -> HttpResponse:
        """The products whose neighbours two checkpoints see most differently."""
        before, after = self._two(request)
        context = {
            "title": _("Changed neighbours"),
            "changes": neighbour_lists.changes(before, after) if before and after else None,
            "shown": neighbour_lists.SHOWN,
        }
        return self._show(request, "compare", context, before, after)

    # The check comes in the inner view: it reads the form, which needs the upload handler first.
    @csrf_exempt
    def inspect(self, request: HttpRequest) -> HttpResponse:
        """The inspector; a photo is posted, and kept nowhere."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            uploads.install(request)
        protected: Callable[[HttpRequest], HttpResponse] = csrf_protect(self.inspect_view)
        return protected(request)

    def inspect_view(self, request: HttpRequest) -> HttpResponse:
        """What two checkpoints find for a product, a text or a photo, side by side."""
        before, after = self._two(request)
        asked = request.GET.get("q", "").strip()[: get_settings().TEXT_MAX_LENGTH]
        key = request.GET.get("product", "").strip()
        product = neighbour_lists.find(key) if key else None
        photo, problem = self._photo(request)
        find: Finder | None = None
        if photo is not None:
            find = partial(neighbour_lists.by_photo, data=photo)
        elif product is not None and asked:
            find = partial(neighbour_lists.by_change, product=product, text=asked)
        elif product is not None:
            find = partial(neighbour_lists.by_product, product=product)
        elif key:
            problem = _("There is no product with this key in the index.")
        elif asked:
            find = partial(neighbour_lists.by_text, text=asked)
        columns = self._columns(find, [each for each in (before, after) if each]) if find else []
        shown = neighbour_lists.show([product.pk]) if product is not None else {}
        may_judge = request.user.has_perm("visualsearch.change_judgement")
        judges = product is not None and not asked and photo is None and may_judge
        if product is not None:
            neighbour_lists.add_verdicts(columns, judgements.of(product))
        context = {
            "title": _("Inspector"),
            "asked": asked,
            "key": key,
            "by_photo": photo is not None,
            "product": next(iter(shown.values()), None),
            "columns": columns,
            "problem": problem,
            "judges": judges,
            "verdicts": judgements.Verdict.choices,
            "text_max_length": get_settings().TEXT_MAX_LENGTH,
        }
        return self._show(request, "inspect", context, before, after)

    def judge_view(self, request: HttpRequest) -> HttpResponse:
        """Note what somebody says of one product beside another; then back to the inspector."""
        if not request.user.has_perm("visualsearch.change_judgement"):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        product, other = (
            neighbour_lists.find(request.POST.get(name, "")) for name in ("product", "other")
        )
        verdict = request.POST.get("verdict", "")
        if product is None or other is None or verdict not in ("", *judgements.Verdict.values):
            raise Http404("There is no such pair of products, or no such verdict.")
        judgements.judge(product, other, verdict, by=request.user)
        messages.success(request, _("Noted."))
        back = QueryDict(mutable=True)
        back["product"] = str(product.pk)
        for name in ("before", "after"):
            if given := request.POST.get(name, ""):
                back[name] = given
        url = reverse("admin:visualsearch_checkpoint_inspect")
        return HttpResponseRedirect(f"{url}?{back.urlencode()}")

    def map_view(self, request: HttpRequest) -> HttpResponse:
        """The catalogue in two dimensions, as one checkpoint sees it."""
        _before, checkpoint = self._two(request)
        attributes = self._attributes()
        by = request.GET.get("by", "")
        by = by if by in attributes else ""
        with_texts = request.GET.get("texts") == "1"
        drawn = gallery_map.draw(checkpoint, by=by, with_texts=with_texts) if checkpoint else None
        context = {
            "title": _("Map of the catalogue"),
            "map": drawn,
            "by": by,
            "attributes": attributes,
            "with_texts": with_texts,
        }
        return self._show(request, "map", context, None, checkpoint)

    # -- what they share -------------------------------------------------------------------------

    def _two(self, request: HttpRequest) -> tuple[Checkpoint | None, Checkpoint | None]:
        """The checkpoints to compare: those asked for, else the two that were live last."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        chosen = {name: self._chosen(request, name) for name in ("before", "after")}
        after = chosen["after"] or Checkpoint.objects.live() or _usable().first()
        rest = _usable().exclude(pk=after.pk) if after else _usable()
        return chosen["before"] or rest.first(), after

    def _chosen(self, request: HttpRequest, name: str) -> Checkpoint | None:
        value = request.GET.get(name, "")
        if not value:
            return None
        is_key = value.isascii() and value.isdecimal() and len(value) < 19
        checkpoint = _usable().filter(pk=int(value)).first() if is_key else None
        if checkpoint is None:
            raise Http404(f"There is no checkpoint {value[:40]} with embeddings.")
        return checkpoint

    def _photo(self, request: HttpRequest) -> tuple[bytes | None, str]:
        """The photo that was sent and why there is none."""
        if request.method != "POST":
            return None, ""
        file = request.FILES.get(uploads.FIELD)
        handler = request.upload_handlers[0]
        if isinstance(handler, uploads.PhotoUploadHandler) and handler.error is not None:
            return None, handler.error.message
        data = file.read() if file is not None else b""
        return (data, "") if data else (None, _("No photo was sent: choose one first."))

    def _columns(self, find: Finder, checkpoints: list[Checkpoint]) -> list[dict[str, Any]]:
        found, problems = [], []
        for checkpoint in checkpoints:
            try:
                found.append(find(checkpoint))
                problems.append("")
            except VisualSearchError as error:
                logger.warning("The inspector got no answer of %s: %s", checkpoint, error)
                found.append([])
                problems.append(error.message)
        lists = neighbour_lists.side_by_side(found)
        return [
            {"checkpoint": checkpoint, "hits": hits, "problem": problem}
            for checkpoint, hits, problem in zip(checkpoints, lists, problems, strict=True)
        ]

    def _attributes(self) -> list[str]:
        index = get_index()
        first = index.with_related(index.get_queryset().order_by("pk"))[:50]
        return list(dict.fromkeys(name for each in first for name in index.get_attributes(each)))

    def _show(
        self,
        request: HttpRequest,
        name: str,
        context: dict[str, Any],
        before: Checkpoint | None,
        after: Checkpoint | None,
    ) -> HttpResponse:
        values = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "checkpoints": _usable(),
            "before": before,
            "after": after,
            **context,
        }
        return TemplateResponse(request, f"admin/visualsearch/checkpoint/{name}.html", values)


def _usable() -> QuerySet[Checkpoint]:
    """The checkpoints whose embeddings are kept, the one that was live last first."""
    embeddings = Embedding.objects.filter(checkpoint=OuterRef("pk"))
    found = Checkpoint.objects.filter(Exists(embeddings))
    return found.order_by(F("promoted_at").desc(nulls_last=True), "-created_at")
