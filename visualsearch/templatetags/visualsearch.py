"""Template tags: the similar-products widget, the search form, and "like this but…"."""

from __future__ import annotations

import itertools
import logging
from typing import Any

from django import template
from django.conf import settings
from django.template.base import FilterExpression, Parser, Token, token_kwargs
from django.template.context import Context
from django.template.loader import render_to_string, select_template
from django.urls import NoReverseMatch, reverse
from django.utils.safestring import SafeString, mark_safe

from visualsearch.conf import get_settings
from visualsearch.indexes import get_index
from visualsearch.search import modifying, searching
from visualsearch.search.filters import allowed_names
from visualsearch.search.results import Hit
from visualsearch.tables.deadlines import bounded

register = template.Library()
logger = logging.getLogger(__name__)

WIDGET_MILLISECONDS = 1000
"""A product page waits for no widget longer than this."""

SEARCH_OPTIONS = ("limit", "min_match", "fallback")
"""Of the widget: what `searching.similar_to` takes."""

_numbers = itertools.count(1)


class SimilarProductsNode(template.Node):
    """`{% similar_products product limit=8 %}` renders the widget; `… as items` gives the hits."""

    def __init__(
        self, product: FilterExpression, options: dict[str, FilterExpression], target: str | None
    ) -> None:
        self.product = product
        self.options = options
        self.target = target

    def render(self, context: Context) -> str:
        hits: list[Hit] = []
        html = ""
        try:
            # The savepoint keeps a failure in here out of the shop's own transaction.
            with bounded(milliseconds=WIDGET_MILLISECONDS):
                hits, html = self._answer(context)
        except Exception:
            # A page never breaks because of us, whatever went wrong: it is shown without the widget.
            logger.exception("The similar-products widget was left out.")
            hits, html = [], ""
        if self.target is not None:
            context[self.target] = hits
        return mark_safe(html)

    def _answer(self, context: Context) -> tuple[list[Hit], str]:
        product = self.product.resolve(context)
        options = {name: value.resolve(context) for name, value in self.options.items()}
        heading = options.pop("heading", "")
        asked = {name: options.pop(name) for name in SEARCH_OPTIONS if name in options}
        request = context.get("request")
        # What is left are filters: an empty one, as of a variable that is not set, asks for nothing.
        filters = {name: value for name, value in options.items() if value not in (None, "")}
        results = searching.similar_to(
            product, filters=filters, request=request, **{"limit": 8, **asked}
        )
        # Everything is loaded here, where a failure does no harm.
        hits = list(results)
        if self.target is not None or not hits:
            return hits, ""
        values = {
            "hits": hits,
            "product": product,
            "degraded": results.degraded,
            "heading": heading,
            # Several widgets on one page need different ids.
            "id": f"visual-similar-{next(_numbers)}",
        }
        return hits, render_to_string("visualsearch/similar_products.html", values, request=request)


@register.tag
def similar_products(parser: Parser, token: Token) -> SimilarProductsNode:
    """`{% similar_products product limit=8 %}` or `{% similar_products product limit=8 as items %}`.

    `min_match=0.4` hides the widget rather than show poor matches, `fallback="category"` fills it up
    with others of the same kind, `heading` replaces the widget's; any other option is one of `filter_fields`: `in_stock=True`.
    """
    name, *bits = token.split_contents()
    target = None
    if len(bits) >= 2 and bits[-2] == "as":
        target, bits = bits[-1], bits[:-2]
    keywords = token_kwargs(bits[1:], parser)
    if (
        not bits
        or token_kwargs(bits[:1], parser)
        or len(bits) != 1 + len(keywords)
        or not _are_options(set(keywords))
    ):
        raise template.TemplateSyntaxError(
            f"Write {{% {name} product limit=8 %}} or {{% {name} product limit=8 as items %}}."
        )
    return SimilarProductsNode(parser.compile_filter(bits[0]), keywords, target)


def _are_options(names: set[str]) -> bool:
    """Whether each name is an option of the widget or a filter of the index."""
    try:
        return names <= {*SEARCH_OPTIONS, "heading", *allowed_names(get_index())}
    except Exception:
        # The index cannot be read; the widget says so when it is rendered, and takes no page with it.
        return True


@register.simple_tag(takes_context=True)
def visual_card(context: Context, hit: Hit) -> SafeString:
    """One hit as a card: `<app>/<model>_visual_card.html` if the shop has it, else the app's own."""
    meta = hit.product._meta
    chosen = select_template(
        [f"{meta.app_label}/{meta.model_name}_visual_card.html", "visualsearch/card.html"]
    )
    return chosen.render(
        {
            "hit": hit,
            "product": hit.product,
            "title": hit.title,
            "url": hit.url,
            "price": hit.price,
            "label": hit.label,
            "image_url": hit.image_url,
        },
        context.get("request"),
    )


@register.simple_tag(takes_context=True)
def visual_search_form(context: Context, photo: bool = True) -> SafeString:
    """The search bar: words, and a photo to choose, paste or drop.

    `photo=False` leaves the photo to the search page: a form that takes one holds a CSRF token,
    which makes the pages it is on depend on a cookie.
    """
    request = context.get("request")
    token = context.get("csrf_token") if photo else None
    # On the page that answers a photo the browser shows it again: "found", or "failed" to search.
    is_answer = getattr(context.get("asked"), "photo", False)
    return _form(
        "visualsearch/search_form.html",
        {
            "photo": bool(token) and token != "NOTPROVIDED",
            "q": _parameter(request, "q"),
            "photo_sent": ("failed" if context.get("error") else "found") if is_answer else "",
            "modify": context["asked"].modify if is_answer else "",
        },
        request,
    )


@register.simple_tag(takes_context=True)
def visual_modify_form(context: Context, product: Any) -> SafeString:
    """ "Like this but…": a box for what should be different about `product`, and suggestions."""
    request = context.get("request")
    is_asked = _parameter(request, "product") == str(getattr(product, "pk", ""))
    asked = context.get("asked") if is_asked else None
    strength = getattr(asked, "strength", None)
    return _form(
        "visualsearch/modify_form.html",
        {
            "product": product,
            "modify": _parameter(request, "modify") if is_asked else "",
            "strength": 1.0 if strength is None else strength,
            "examples": context.get("examples", ()) if is_asked else (),
            "suggestions": _suggestions(product, request),
        },
        request,
    )


def _suggestions(product: Any, request: Any) -> list[Any]:
    try:
        with bounded(milliseconds=WIDGET_MILLISECONDS):
            return list(modifying.suggestions(get_index(), product, request=request))
    except Exception:
        # As with the widget: the page is shown without them.
        logger.exception("The suggestions for %s were left out.", product)
        return []


def _form(name: str, values: dict[str, Any], request: Any) -> SafeString:
    try:
        action = reverse("visualsearch:search")
    except NoReverseMatch:
        if settings.DEBUG:
            raise
        logger.error(
            "visualsearch.urls is not in the project's urls, so its forms are left out: "
            'add path("search/", include("visualsearch.urls")).'
        )
        return mark_safe("")
    values |= {
        "action": action,
        "text_max_length": get_settings().TEXT_MAX_LENGTH,
        # Several forms on one page need different ids.
        "id": f"visual-search-{next(_numbers)}",
    }
    return render_to_string(name, values, request=request)


def _parameter(request: Any, name: str) -> str:
    return request.GET.get(name, "") if request is not None else ""
