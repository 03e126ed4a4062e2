"""Searches without good answers: what is kept of a search, what is counted, and who may see it."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from shop.models import Product
from tests.colour_catalogue import embed, photo, product
from visualsearch.health import sweeping
from visualsearch.models import SearchEvent, WordSearch
from visualsearch.queries import query_ids
from visualsearch.search import word_searches
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

Shop = dict[str, Product]
PAGE = "/search/"
CLICKED = "/search/clicked/"
CALIBRATED = {"calibration": {"text": {"scores": [0.0, 1.0], "matches": [0.0, 1.0]}}}


@pytest.fixture(autouse=True)
def _no_throttle(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {}}


@pytest.fixture
def shop() -> Shop:
    made = {c: product(c, c) for c in ("red", "pink", "blue", "navy", "green", "black")}
    embed(fake_checkpoint(metrics=CALIBRATED), *made.values())
    return made


@pytest.fixture
def owner() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("owner", "", "x"))
    return client


def note(words: str, *, hits: int = 5, match: float | None = 0.9, days_ago: int = 0) -> WordSearch:
    return WordSearch.objects.create(
        words=words,
        query_id=query_ids.make(),
        hits=hits,
        match=match,
        searched_on=timezone.localdate() - timedelta(days=days_ago),
    )


def click(search: WordSearch) -> None:
    SearchEvent.objects.create(query_id=search.query_id, action_name="click", object_id="1")


def listed(**options: Any) -> dict[str, dict[str, Any]]:
    since = timezone.localdate() - timedelta(days=29)
    rows = word_searches.without_good_answers(**{"since": since} | options)
    return {row["words"]: row for row in rows}


# --- what is kept of a search ---------------------------------------------------------------------


def test_page__keeps_words_day_and_answer_and_nobody(client: Client, shop: Shop) -> None:
    client.force_login(User.objects.create_user("kim"))
    page = client.get(PAGE, {"q": "  Red   DRESS "}, headers={"user-agent": "x"})

    kept = WordSearch.objects.values().get()
    shown = page.context["results"]
    assert kept.pop("id")
    assert kept == {
        "words": "red dress",
        "query_id": shown.query_id,
        "hits": 6,
        "match": max(hit.match for hit in shown),
        "searched_on": timezone.localdate(),
    }
    assert 0 < max(hit.match for hit in shown) <= 1


def test_api__keeps_words_as_the_page_does(client: Client, shop: Shop) -> None:
    answer = client.get("/api/search/", {"q": "red"}).json()

    kept = WordSearch.objects.get()
    assert (kept.words, kept.query_id) == ("red", answer["query_id"])


def test_search__words_that_find_nothing_are_kept_with_none(client: Client, shop: Shop) -> None:
    client.get(PAGE, {"q": "dress under 5"})

    kept = WordSearch.objects.get()
    assert (kept.words, kept.hits, kept.match) == ("dress under 5", 0, None)


@pytest.mark.parametrize(
    "words",
    [
        "kim.doe@example.org",
        "call 0171 555 01 99",
        "+49 (171) 5550199",
        "",
        "   ",
    ],
)
def test_search__what_may_name_a_person_is_not_kept(client: Client, shop: Shop, words: str) -> None:
    client.get(PAGE, {"q": words})

    assert not WordSearch.objects.exists()


@pytest.mark.parametrize(
    "asked",
    [
        {"q": "red", "page": "2"},
        {"q": "red", "category": "dresses"},
        {"q": "red", "like": "red"},
        {"product": "red"},
        {"product": "red", "modify": "in blue"},
    ],
    ids=str,
)
def test_search__anything_but_words_alone_is_not_kept(
    client: Client, shop: Shop, asked: dict[str, str]
) -> None:
    for number in range(30):  # there is a second page
        product(f"more-{number}")
    keys = {n: str(shop[v].pk) for n, v in asked.items() if n in ("like", "product")}

    page = client.get(PAGE, asked | keys)

    assert page.status_code == 200 and page.context["error"] is None
    assert not WordSearch.objects.exists()


def test_search__a_photo_with_words_is_not_kept(client: Client, shop: Shop) -> None:
    sent = SimpleUploadedFile("photo.png", photo("red"), content_type="image/png")
    page = client.post(PAGE, {"image": sent, "q": "red"})

    assert page.status_code == 200 and page.context["results"] is not None
    assert not WordSearch.objects.exists()


def test_search__keeps_nothing_if_told_so(client: Client, shop: Shop, settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"KEEP_SEARCHED_WORDS": False}

    assert client.get(PAGE, {"q": "red"}).status_code == 200
    assert client.get("/api/search/", {"q": "red"}).status_code == 200
    assert not WordSearch.objects.exists()


def test_search__is_answered_though_it_cannot_be_noted(
    client: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DatabaseError("read-only")

    monkeypatch.setattr(WordSearch, "save", fail)

    assert "red dress" in client.get(PAGE, {"q": "red"}).content.decode()
    assert "were not noted" in caplog.text


def test_sweep__forgets_words_in_time(shop: Shop, settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"EVENT_DAYS": 30}
    for days in (0, 30, 31, 400):
        note(f"{days} days", days_ago=days)

    assert sweeping.sweep()["old searches"] == 2
    assert {each.words for each in WordSearch.objects.all()} == {"0 days", "30 days"}


# --- clicks ---------------------------------------------------------------------------------------


def test_click__is_counted_for_the_words(client: Client, shop: Shop) -> None:
    html = client.get(PAGE, {"q": "red"}).content.decode()
    note("blue")
    query = re.search(r'data-query="([^"]+)" data-clicked="([^"]+)"', html)
    hit = re.search(r'<li data-product="(\d+)" data-position="(\d+)"', html)
    assert query and hit and query[2] == CLICKED

    sent = {"query_id": query[1], "object_id": hit[1], "position": hit[2]}
    answer = Client(enforce_csrf_checks=True).post(query[2], sent)

    assert answer.status_code == 204
    kept = SearchEvent.objects.get()
    assert (kept.action_name, kept.query_id, kept.position) == ("click", query[1], 1)
    assert set(listed(problem="unclicked")) == {"blue"}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"query_id": "q_AAAAAAAAAAAA0123456789abcdef"}, 400),
        ({"query_id": ""}, 400),
        ({"object_id": "99999999"}, 404),
        ({"object_id": "\x00"}, 400),
    ],
    ids=str,
)
def test_click__refusals(client: Client, shop: Shop, change: dict[str, str], status: int) -> None:
    sent = {"query_id": query_ids.make(), "object_id": str(shop["red"].pk), "position": "x"}

    assert client.post(CLICKED, sent | change).status_code == status
    assert client.get(CLICKED).status_code == 405
    assert not SearchEvent.objects.exists()


# --- what is counted ------------------------------------------------------------------------------


def test_list__counts_by_words_the_newest_first() -> None:
    note("green hat", hits=0, match=None)
    note("green hat", hits=3, match=0.2)
    note("green hat")
    note("blue hat", match=0.1, days_ago=2)
    note("good answer")
    note("long ago", hits=0, days_ago=40)

    found = listed()

    assert list(found) == ["green hat", "blue hat"]
    green = found["green hat"]
    assert {name: green[name] for name in ("searches", "nothing", "low")} == {
        "searches": 3,
        "nothing": 1,
        "low": 1,
    }
    assert green["last"] == timezone.localdate()


def test_list__one_problem_at_a_time() -> None:
    note("nothing", hits=0, match=None)
    note("low", match=0.2)
    click(note("clicked"))
    note("unclicked")

    assert set(listed(problem="nothing")) == {"nothing"}
    assert set(listed(problem="low")) == {"low"}
    assert set(listed(problem="unclicked")) == {"nothing", "low", "unclicked"}
    assert set(listed()) == {"nothing", "low", "unclicked"}


def test_list__without_any_click_nothing_is_said_of_clicks() -> None:
    note("good answer")

    assert listed() == {} == listed(problem="unclicked")


def test_list__words_without_vectors_have_no_low_match() -> None:
    """A lexical answer compares nothing, so its match is not known, and is not low."""
    note("by words alone", match=None)

    assert listed() == {}


# --- the page -------------------------------------------------------------------------------------


def test_admin__lists_words_with_links_to_ask_again(owner: Client) -> None:
    note('sequins & "tulle"', match=0.2)
    click(note("good"))

    html = owner.get(reverse("admin:visualsearch_wordsearch_changelist")).content.decode()

    assert "sequins &amp; &quot;tulle&quot;" in html
    assert 'href="/search/?q=sequins+%26+%22tulle%22"' in html
    assert 'href="/admin/visualsearch/checkpoint/inspect/?q=sequins' in html
    assert ">Clicked</th>" in html and "good" not in re.findall(r'visualsearch-words">(\w+)', html)


def test_admin__pages_and_periods(owner: Client) -> None:
    for number in range(51):
        note(f"words {number:02}", hits=0, days_ago=8)
    address = reverse("admin:visualsearch_wordsearch_changelist")

    first = owner.get(address).content.decode()
    second = owner.get(address, {"page": 2, "problem": "nothing"}).content.decode()
    week = owner.get(address, {"days": 7}).content.decode()
    odd = owner.get(address, {"days": "x", "problem": "\x00", "page": "-1"})

    assert first.count('class="visualsearch-words"') == 50 and "page=2" in first
    assert re.findall(r'visualsearch-words">([^<]+)', second) == ["words 50"]
    assert "There are none in this time." in week
    assert odd.status_code == 200


def test_admin__is_for_staff_with_the_permission(client: Client) -> None:
    user = User.objects.create_user("kim", password="x", is_staff=True)
    client.force_login(user)
    address = reverse("admin:visualsearch_wordsearch_changelist")
    assert client.get(address).status_code == 403

    user.user_permissions.add(Permission.objects.get(codename="view_wordsearch"))

    assert client.get(address).status_code == 200
    assert address in client.get(reverse("admin:index")).content.decode()
    assert Client().get(address).status_code == 302


def test_admin__says_when_nothing_is_kept(owner: Client, settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"KEEP_SEARCHED_WORDS": False}

    html = owner.get(reverse("admin:visualsearch_wordsearch_changelist")).content.decode()

    assert "KEEP_SEARCHED_WORDS is False" in html


def test_api__a_search_by_json_with_weighted_words_is_no_plain_one(
    client: Client, shop: Shop
) -> None:
    asked = json.dumps({"q": [{"text": "red", "weight": 1}]})
    client.post("/api/search/", asked, content_type="application/json")

    assert not WordSearch.objects.exists()
