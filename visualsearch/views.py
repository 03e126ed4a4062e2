"""The search page: words, a photo, "more like this" and "like this but…", without JavaScript."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, QueryDict, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_POST

from visualsearch import throttling
from visualsearch.conf import get_settings
from visualsearch.exceptions import EmptyQueryError, QueryError, VisualSearchError
from visualsearch.forms import FilterForm
from visualsearch.health import monitoring
from visualsearch.indexes import VisualIndex, get_index
from visualsearch.models import SearchEvent
from visualsearch.queries import uploads
from visualsearch.queries.cleaning import photo_too_large
from visualsearch.search import events, searching, visibility, word_searches
from visualsearch.search.filters import allowed_names
from visualsearch.search.results import Results

logger = logging.getLogger(__name__)

PER_PAGE = 24
PHOTO_HITS = 48
"""A photo is not kept, so its results come on one page."""
RETRY_AFTER_SECONDS = 5
EXAMPLES = ("like", "unlike")
"""Parameters that name products by which the results are made more or less alike."""
MOST_KEYS = 21


@csrf_exempt  # the check comes in `_by_photo`: it reads the form, which needs the upload handler first
@require_http_methods(["GET", "HEAD", "POST"])
def search(request: HttpRequest) -> HttpResponse:
    """GET: words or a product, with filters and pages. POST: a photo, which is not kept."""
    began = time.perf_counter()
    response = _answer(request)
    monitoring.observe("page", time.perf_counter() - began, status=response.status_code)
    return response


def _answer(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return _by_words(request)
    upload = uploads.install(request)
    try:
        uploads.refuse_oversized(request)
        request.POST  # noqa: B018  reads the upload
    except VisualSearchError as error:
        return _page(request, _Asked(photo=True), error=error)
    except RequestDataTooBig:
        return _page(request, _Asked(photo=True), error=photo_too_large())
    except (MultiPartParserError, SuspiciousOperation, UnreadablePostError):
        unreadable = QueryError(
            "The upload could not be read: choose the photo again.", field=uploads.FIELD
        )
        return _page(request, _Asked(photo=True), error=unreadable)
    if upload.error is not None:
        return _page(request, _Asked(photo=True), error=upload.error)
    return _by_photo(request)


@csrf_exempt  # a browser's beacon has no header for the token; and nothing is done but counted
@require_POST
def clicked(request: HttpRequest) -> HttpResponse:
    """Somebody went on to a hit: said by visualsearch.js, in the parts of the API's events."""
    position = request.POST.get("position", "")
    try:
        throttling.check(request, "events")
        events.record(
            query_id=request.POST.get("query_id"),
            action_name=SearchEvent.Action.CLICK.value,
            object_id=request.POST.get("object_id"),
            position=int(position) if re.fullmatch(r"[1-9][0-9]{0,5}", position) else None,
            request=request,
        )
    except VisualSearchError as error:
        return HttpResponse(error.message, status=error.status, content_type="text/plain")
    return HttpResponse(status=204)


@dataclass(kw_only=True)
class _Asked:
    """What the visitor typed, to be shown again."""

    q: str = ""
    modify: str = ""
    strength: float | None = None
    """How much of the change is meant, where that was said."""
    product: Any = None
    like: list[Any] = field(default_factory=list)
    """Products that the results should resemble more."""
    unlike: list[Any] = field(default_factory=list)
    photo: bool = False
    filters: dict[str, Any] | None = None

    @property
    def is_words_alone(self) -> bool:
        """Whether it was words and nothing else: filters may be why nothing was found."""
        others = (self.modify, self.product, self.like, self.unlike, self.photo, self.filters)
        return bool(self.q.strip()) and not any(others)


def _by_words(request: HttpRequest) -> HttpResponse:
    asked = _Asked(
        q=request.GET.get("q", ""),
        modify=request.GET.get("modify", ""),
        filters=_filters(request.GET),
    )
    asked.strength = _number(request.GET.get("strength", ""))
    key = request.GET.get("product", "")
    keys = {name: list(dict.fromkeys(request.GET.getlist(name))) for name in EXAMPLES}
    asks_nothing = not (asked.q.strip() or key or any(keys.values()) or "modify" in request.GET)
    if asks_nothing and not asked.filters:
        # A search page that was merely opened is no mistake; an empty search is one.
        return _page(request, asked, error=_empty() if "q" in request.GET else None)
    try:
        throttling.check(request, "search")
        if key:
            asked.product = visibility.find(get_index(), key, request=request)
        for name, given in keys.items():
            # One more than are read says that there are too many, and costs no more than one query.
            found = [visibility.find(get_index(), k, request=request) for k in given[:MOST_KEYS]]
            setattr(asked, name, found)
        if asks_nothing:
            results = searching.browse(filters=asked.filters, request=request)
        else:
            results = searching.search(
                asked.q,
                image=asked.product,
                modify=asked.modify,
                strength=asked.strength if asked.modify else None,
                positive=asked.like or None,
                negative=asked.unlike or None,
                filters=asked.filters,
                request=request,
            )
        page = Paginator(results, PER_PAGE).get_page(request.GET.get("page"))
    except VisualSearchError as error:
        return _page(request, asked, error=error)
    if asked.is_words_alone and page.number == 1 and request.method == "GET":
        word_searches.keep(asked.q, results, list(page))
    return _page(request, asked, results=results, page=page)


@csrf_protect
def _by_photo(request: HttpRequest) -> HttpResponse:
    asked = _Asked(
        q=request.POST.get("q", ""),
        modify=request.POST.get("modify", ""),
        photo=True,
        filters=_filters(request.POST),
    )
    try:
        throttling.check(request, "search")
        photo = request.FILES.get(uploads.FIELD)
        if photo is None:
            raise EmptyQueryError("No photo was sent: choose one first.", field=uploads.FIELD)
        results = searching.search(
            asked.q,
            image=photo,
            modify=asked.modify,
            filters=asked.filters,
            limit=min(PHOTO_HITS, get_settings().LIMIT_MAX),
            page=PHOTO_HITS,
            request=request,
        )
        page = Paginator(results, PHOTO_HITS).get_page(1)
    except VisualSearchError as error:
        return _page(request, asked, error=error)
    return _page(request, asked, results=results, page=page)


def _page(
    request: HttpRequest,
    asked: _Asked,
    *,
    results: Results | None = None,
    page: Any = None,
    error: VisualSearchError | None = None,
) -> HttpResponse:
    index = get_index()
    filters = None
    if not asked.photo and (results is not None or asked.filters):
        products = visibility.allowed(index, request=request, queryset=None)
        filters = FilterForm(asked.filters or {}, index=index, products=products)
    kept = QueryDict(mutable=True)
    for name, value in {"q": asked.q, "modify": asked.modify}.items():
        if value:
            kept[name] = value
    if asked.modify and asked.strength not in (None, 1.0):
        kept["strength"] = f"{asked.strength:g}"
    if asked.product is not None:
        kept["product"] = str(asked.product.pk)
    for name in EXAMPLES:
        kept.setlist(name, [str(each.pk) for each in getattr(asked, name)])
    unfiltered = kept.copy()
    for name, value in (asked.filters or {}).items():
        kept.setlist(name, value if isinstance(value, list) else [value])
    photos = index.get_images(asked.product) if asked.product is not None else []
    response = render(
        request,
        "visualsearch/search.html",
        {
            "asked": asked,
            "reference": asked.product,
            "reference_title": index.get_title(asked.product) if asked.product else "",
            "reference_url": index.get_url(asked.product) if asked.product else "",
            "reference_image": photos[0].url if photos else "",
            "examples": _examples(index, asked, kept),
            "unfiltered": unfiltered,
            "filters": filters,
            "results": results,
            "limits": _limits(results.understood) if results is not None else [],
            "page": page,
            "pages": page.paginator.get_elided_page_range(page.number) if page else (),
            "kept": kept.urlencode(),
            "error": error,
            "text_max_length": get_settings().TEXT_MAX_LENGTH,
            "upload_max_bytes": get_settings().UPLOAD_MAX_BYTES,
        },
        status=error.status if error else 200,
    )
    if error is not None:
        logger.info("Search refused: %s", error)
        if error.status in (429, 503):
            response["Retry-After"] = str(getattr(error, "retry_after", RETRY_AFTER_SECONDS))
    return response


def _limits(understood: Mapping[str, str]) -> list[str]:
    """The conditions that were read out of the words, for the visitor to see."""
    words = {
        "lt": _("under %(value)s"),
        "lte": _("up to %(value)s"),
        "gt": _("over %(value)s"),
        "gte": _("from %(value)s"),
    }
    found = []
    for name, value in understood.items():
        _path, _separator, lookup = name.rpartition("__")
        said = words.get(lookup, _("in size %(value)s"))
        found.append(said % {"value": value})
    return found


def _examples(index: VisualIndex, asked: _Asked, kept: QueryDict) -> list[dict[str, Any]]:
    """The products by which the visitor steers, and the address without each."""
    found = []
    for name in EXAMPLES:
        for product in getattr(asked, name):
            rest = kept.copy()
            rest.setlist(name, [key for key in rest.getlist(name) if key != str(product.pk)])
            images = index.get_images(product)
            found.append(
                {
                    "name": name,
                    "key": str(product.pk),
                    "title": index.get_title(product),
                    "image": images[0].url if images else "",
                    "without": rest.urlencode(),
                }
            )
    return found


def _filters(data: QueryDict) -> dict[str, Any]:
    """The filters among the parameters; others, such as a campaign's, are none of our business."""
    names = allowed_names(get_index())
    given = {name: [value for value in data.getlist(name) if value] for name in names}
    return {
        name: values if len(values) > 1 else values[0] for name, values in given.items() if values
    }


def _number(text: str) -> float | None:
    """The number that the text is; None for what is none, as if it had not been said."""
    try:
        return float(text)
    except ValueError:
        return None


def _empty() -> EmptyQueryError:
    return EmptyQueryError(
        "Nothing was asked for: type what you are looking for, or choose a photo.", field="q"
    )
