"""The German texts: complete, compiled, and what a German visitor really reads."""

from __future__ import annotations

import ast
import gettext
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from django.template.loader import render_to_string
from django.test import Client
from django.utils import translation
from django.utils.translation.template import templatize

from tests.catalogue import make_product, photo
from visualsearch.exceptions import VisualSearchError
from visualsearch.testing import fake_checkpoint
from visualsearch.throttling import TooManyRequestsError
from visualsearch.upkeep import indexing

ROOT = Path(__file__).resolve().parent.parent
APPS = ("visualsearch", "shop")
FUNCTIONS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
# What Django's templatize writes: gettext(…) and ngettext(…) with Python string literals.
CALL = re.compile(
    r"\b(n?gettext)\(\s*(u?(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"))"
    r"(?:\s*,\s*(u?(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")))?",
    re.DOTALL,
)
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w+\}|%s")


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    """A request leaves its language to what the thread does next."""
    yield
    translation.activate("en")


def compiled(app: str) -> dict[str, str]:
    """Text -> German text, of the .mo file; of a plural the form for one and for many."""
    path = ROOT / app / "locale" / "de" / "LC_MESSAGES" / "django.mo"
    catalogue = gettext.GNUTranslations(path.open("rb"))._catalog  # type: ignore[attr-defined]
    return {
        (key if isinstance(key, str) else f"{key[0]} #{key[1]}"): value
        for key, value in catalogue.items()
        if key
    }


def texts_of(app: str) -> Iterator[tuple[str, bool]]:
    """Every text that the app's Python and templates mark, and whether it has a plural."""
    for path in sorted((ROOT / app).rglob("*.py")):
        if "/ml/" in path.as_posix() or "/migrations/" in path.as_posix():
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in FUNCTIONS
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield str(node.args[0].value), node.func.id.startswith("n")
    for path in sorted((ROOT / app).rglob("templates/**/*.html")):
        for found in CALL.finditer(templatize(path.read_text(), origin=str(path))):
            yield ast.literal_eval(found[2]), found[1] == "ngettext"


@pytest.mark.parametrize("app", APPS)
def test_german__every_text_has_one(app: str) -> None:
    german = compiled(app)
    texts = set(texts_of(app))
    assert len(texts) > 40, "the texts were not found"

    missing = {text for text, plural in texts if not german.get(f"{text} #1" if plural else text)}

    assert missing == set(), "translate them, then run `make messages`"


@pytest.mark.parametrize("app", APPS)
def test_german__what_is_compiled_is_what_is_written(app: str) -> None:
    source = ROOT / app / "locale" / "de" / "LC_MESSAGES" / "django.po"
    written: dict[str, str] = {}
    for message in read_po(io.BytesIO(source.read_bytes()), locale="de"):
        if not message.id:
            continue
        assert not message.fuzzy, f"{message.id!r} is marked as fuzzy"
        if isinstance(message.id, tuple | list):
            written |= {f"{message.id[0]} #{n}": text for n, text in enumerate(message.string)}
        else:
            written[message.id] = str(message.string)

    assert compiled(app) == written, "run `make messages`"


@pytest.mark.parametrize("app", APPS)
def test_german__placeholders_are_those_of_the_english_text(app: str) -> None:
    for text, german in compiled(app).items():
        english = text.partition(" #")[0] if re.search(r" #\d$", text) else text
        assert set(PLACEHOLDER.findall(german)) == set(PLACEHOLDER.findall(english)), text


@pytest.mark.django_db
def test_german_page__search_results(client: Client) -> None:
    checkpoint = fake_checkpoint()
    red = make_product(photo("red"), name="Red dress", category="Dresses", colour="red")
    make_product(photo("blue"), name="Blue dress", category="Dresses", colour="blue")
    indexing.index_pending()
    assert checkpoint

    page = client.get("/search/", {"q": "red"}, headers={"accept-language": "de"})
    like = client.get(
        "/search/", {"product": red.pk, "modify": "in blue"}, headers={"accept-language": "de"}
    ).content.decode()

    html = page.content.decode()
    assert page.headers["Content-Language"] == "de"
    assert '<html lang="de"' in html
    for text in (
        "Ergebnisse für „red“",
        "1 Ergebnis<",
        "Mit einem Foto suchen",
        "Filter anwenden",
        "Kategorie:",
        "Preis von:",
        "Vorrätig:",
        "Mehr davon",
        "Foto bereit: Drücken Sie den Knopf, um zu suchen.",
        "Zum Inhalt springen",
    ):
        assert text in html, text
    for text in ("Wie Red dress", "Die besten Treffer zuerst", "aber in blue", "Ohne die Änderung"):
        assert text in like, text
    for text in ("Search", "Results", "Filters", "More like this", "Photo ready", "Skip to"):
        assert f">{text}" not in html and f'"{text}' not in html, text


@pytest.mark.django_db
def test_german_page__an_error_is_readable(client: Client) -> None:
    page = client.get("/search/", {"q": "x" * 300}, headers={"accept-language": "de"})

    assert page.status_code == 400
    assert "Der Text ist zu lang: Höchstens 256 Zeichen werden gelesen." in page.content.decode()


@pytest.mark.django_db
def test_german_page__the_admin(admin_client: Client) -> None:
    fake_checkpoint()

    runs = admin_client.get(
        "/admin/visualsearch/trainingrun/add/", headers={"accept-language": "de"}
    ).content.decode()
    health = admin_client.get(
        "/admin/visualsearch/indexentry/", headers={"accept-language": "de"}
    ).content.decode()

    for text in ("Neu trainieren", "Im Katalog gefunden", "Rezept", "Startwert"):
        assert text in runs, text
    for text in ("Zustand des Index", "Live-Checkpoint", "0 fehlgeschlagen"):
        assert text in health, text


def errors() -> list[type[VisualSearchError]]:
    """Every error that a search can end with."""
    found, todo = [], [VisualSearchError]
    while todo:
        error = todo.pop()
        todo += error.__subclasses__()
        # Others are for those who run it: metrics, for one.
        is_for_visitors = error.__module__ == VisualSearchError.__module__
        if is_for_visitors and error.status in (400, 404, 413, 429, 503):
            found.append(error)
    return sorted(found, key=lambda each: each.code)


@pytest.mark.parametrize("error", errors(), ids=lambda each: each.code)
def test_error__each_has_words_for_visitors_in_german(error: type[VisualSearchError]) -> None:
    raised = (
        TooManyRequestsError("only for developers", retry_after=3)
        if error is TooManyRequestsError
        else error("only for developers")
    )
    context = {"error": raised, "text_max_length": 256, "upload_max_bytes": 8 * 1024 * 1024}

    with translation.override("de"):
        german = render_to_string("visualsearch/error.html", context)
    with translation.override("en"):
        english = render_to_string("visualsearch/error.html", context)

    assert german.strip() and "only for developers" not in german
    assert german != english
