"""The search page: every kind of question without JavaScript, and readable errors."""

from __future__ import annotations

import io
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from shop.models import Product
from tests.colour_catalogue import embed, photo, product
from visualsearch import encoding, forms
from visualsearch.exceptions import EncoderBusyError
from visualsearch.models import Checkpoint
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

URL = "/search/"
Shop = dict[str, Product]


@pytest.fixture(autouse=True)
def _no_throttle(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {}}


@pytest.fixture
def shop() -> Shop:
    made = {c: product(c, c) for c in ("red", "pink", "blue", "navy", "green", "black")}
    embed(fake_checkpoint(), *made.values())
    return made


def text_of(response: Any) -> str:
    return response.content.decode()


def found(response: Any) -> list[str]:
    """The SKUs on the page, in order."""
    main = text_of(response).partition("visual-results")[2]
    return re.findall(r'class="card-link" href="/products/([^/]+)/"', main)


def upload(data: bytes, name: str = "photo.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data, content_type="image/png")


def error_of(response: Any) -> str:
    match = re.search(r'role="alert">(.*?)</p>', text_of(response), re.DOTALL)
    return match[1] if match else ""


def test_get__without_a_question_shows_the_form(client: Client, shop: Shop) -> None:
    response = client.get(URL)
    assert response.status_code == 200
    assert 'type="search"' in text_of(response)
    assert not error_of(response)


def test_get__has_one_search_bar(client: Client, shop: Shop) -> None:
    assert text_of(client.get(URL)).count("<visual-search ") == 1


def test_get__filters_without_a_question_list_what_they_leave(client: Client, shop: Shop) -> None:
    made = [product(f"more{n}", "red", category="shoes") for n in range(30)]
    response = client.get(URL, {"category": "shoes", "q": ""})
    assert (response.status_code, error_of(response)) == (200, "")
    assert found(response) == [each.sku for each in made[:24]]
    assert re.search(r'role="status">\s*30 results<', text_of(response))
    assert "category=shoes&amp;page=2" in text_of(response)
    second = client.get(URL, {"category": "shoes", "page": "2"})
    assert found(second) == [each.sku for each in made[24:]]
    nothing = client.get(URL, {"category": "none of this"})
    assert (nothing.status_code, found(nothing)) == (200, [])
    assert "visual-filters" in text_of(response)
    assert "visual-filters" not in text_of(client.get(URL)), "there is nothing to filter yet"


def test_words__cards_count_and_status(client: Client, shop: Shop) -> None:
    response = client.get(URL, {"q": "green", "utm_source": "mail"})
    assert response.status_code == 200
    assert found(response)[0] == "green"
    assert re.search(r'role="status">\s*1 result<', text_of(response)), (
        "the others have not the word"
    )
    assert f"?product={shop['green'].pk}" in text_of(response)
    assert ", and then what comes close" in text_of(response)


def test_words__that_no_product_has_are_said_to_be(client: Client, shop: Shop) -> None:
    said = "No product has all of these words"
    assert said in text_of(client.get(URL, {"q": "evening"}))
    assert said not in text_of(client.get(URL, {"q": "green"}))
    assert said not in text_of(client.get(URL, {"product": shop["red"].pk}))


def test_words__what_was_understood_as_a_limit_is_shown(client: Client, shop: Shop) -> None:
    assert "Only products under 25." in text_of(client.get(URL, {"q": "green under 25"}))
    assert "Only products from 10, up to 25." in text_of(
        client.get(URL, {"q": "green from 10 to 25"})
    )
    assert "Only products" not in text_of(client.get(URL, {"q": "green"}))


@pytest.mark.parametrize("asked", [{"q": "evening"}, {"modify": "in green"}])
def test_status__says_no_number_where_nobody_can_say_how_many_answer(
    client: Client, shop: Shop, asked: dict[str, Any]
) -> None:
    response = client.get(URL, {**asked, "product": shop["red"].pk} if "modify" in asked else asked)
    assert re.search(r'role="status">\s*The best matches first<', text_of(response))
    assert len(found(response)) >= 5, "vectors rank them all"


def test_product__more_like_this_and_like_this_but(client: Client, shop: Shop) -> None:
    more = client.get(URL, {"product": shop["red"].pk})
    assert "red" not in found(more) and len(found(more)) == 5
    changed = client.get(URL, {"product": shop["red"].pk, "modify": "in green"})
    assert found(changed)[0] == "green"
    assert 'value="in green"' in text_of(changed), "the box still says what was asked"
    assert 'name="strength"' not in text_of(more), "there is no change yet"


def test_strength__is_a_slider_beside_the_change_and_stays_in_the_address(
    client: Client, shop: Shop
) -> None:
    asked = {"product": shop["red"].pk, "modify": "in green"}
    usual, little = client.get(URL, asked), client.get(URL, asked | {"strength": "0"})

    slider = r'<input type="range" name="strength"[^>]* min="0.25" max="2" step="0.25" value="%s">'
    assert re.search(slider % "1.0", text_of(usual))
    assert re.search(slider % "0.0", text_of(little))
    assert (
        "strength=0&amp;" in text_of(little) and "strength" not in text_of(usual).split("like=")[1]
    )
    assert found(usual)[0] == "green" and found(little)[0] != "green"
    assert client.get(URL, asked | {"strength": "9"}).status_code == 400
    assert client.get(URL, asked | {"strength": "much"}).status_code == 200
    assert client.get(URL, {"q": "red", "strength": "9"}).status_code == 200, "nobody changes it"


def test_steering__more_and_less_alike_stay_in_the_address(client: Client, shop: Shop) -> None:
    words = client.get(URL, {"q": "red"})
    less = f"?q=red&amp;unlike={shop['red'].pk}"
    assert less in text_of(words)
    assert found(words)[0] == "red"

    without = client.get(URL, {"q": "red", "unlike": shop["red"].pk})
    assert "red" not in found(without), "what is named is not among the results"
    assert "less like red dress" in text_of(without)
    assert 'href="?q=red"' in text_of(without), "each can be taken back"

    like = client.get(URL, {"product": shop["blue"].pk, "like": [shop["navy"].pk], "q": ""})
    assert "more like navy dress" in text_of(like)
    assert not {"blue", "navy"} & set(found(like))
    assert f"?product={shop['blue'].pk}&amp;like={shop['navy'].pk}&amp;like=" in text_of(like)
    assert f'type="hidden" name="like" value="{shop["navy"].pk}"' in text_of(like)


def test_steering__towards_products_alone(client: Client, shop: Shop) -> None:
    response = client.get(URL, {"like": shop["blue"].pk, "unlike": shop["red"].pk})

    assert response.status_code == 200
    assert len(found(response)) == 4 and not {"red", "blue"} & set(found(response))


@pytest.mark.parametrize("name", ["like", "unlike"])
def test_steering__an_unknown_or_hidden_product_is_a_readable_error(
    client: Client, shop: Shop, name: str
) -> None:
    shop["pink"].published = False
    shop["pink"].save()

    for key in ("x", "999999", shop["pink"].pk):
        response = client.get(URL, {"q": "red", name: key})
        assert response.status_code == 404
        assert "no such product" in error_of(response)


def test_steering__too_many_products_are_an_error(client: Client, shop: Shop) -> None:
    many = [product(f"many{n}", "red").pk for n in range(30)]

    response = client.get(URL, {"like": many})

    assert response.status_code == 400
    assert error_of(response)


def test_filters__narrow_and_stay_in_the_links(client: Client, shop: Shop) -> None:
    made = [product(f"more{n}", "red", category="shoes") for n in range(30)]
    embed(Checkpoint.objects.get(), *made)
    response = client.get(URL, {"q": "red", "category": "shoes", "price__gte": ""})
    assert len(found(response)) == 24
    assert re.search(r'role="status">\s*30 results<', text_of(response))
    assert "?q=red&amp;category=shoes&amp;page=2" in text_of(response)
    assert '<option value="shoes" selected>' in text_of(response)
    second = client.get(URL, {"q": "red", "category": "shoes", "page": "2"})
    assert len(found(second)) == 6
    assert not set(found(response)) & set(found(second))


def test_filters__several_values_of_one_are_options_of_their_own(
    client: Client, shop: Shop
) -> None:
    response = client.get(URL, {"q": "red", "colour": ["red", "blue", "mauve"]})
    assert set(found(response)) == {"red", "blue"}
    page = text_of(response)
    assert '<option value="mauve">' in page, "what was asked for is shown, on offer or not"
    assert "[&#x27;red&#x27;" not in page


def test_broken_cache__the_page_is_there_and_waits_for_it_once_a_filter(
    client: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def broken(name: str, key: str, *args: Any, **kwargs: Any) -> Any:
        asked.append((name, key))
        raise ConnectionError("no cache")

    for name in ("get", "set", "add", "incr"):
        monkeypatch.setattr(forms.cache, name, partial(broken, name))
    assert found(client.get(URL, {"q": "red"}))[0] == "red"
    assert [name for name, _ in asked] == ["get", "get"], "category and colour"


@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 5000, "\x00", "999"])
def test_page__that_does_not_exist_is_no_error(client: Client, shop: Shop, page: str) -> None:
    assert client.get(URL, {"q": "red", "page": page}).status_code == 200


def test_photo__shows_results_and_keeps_nothing(
    client: Client, shop: Shop, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_file(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a query photo was written to disk")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", no_file)
    monkeypatch.setattr(tempfile, "mkstemp", no_file)
    before = sorted(data_folder.rglob("*"))
    large = photo("blue", size=(64, 64)) + b"\x00" * 4_000_000  # over Django's limit for memory
    response = client.post(URL, {"image": upload(large)})
    assert response.status_code == 200
    assert found(response)[0] == "blue"
    assert sorted(data_folder.rglob("*")) == before


def test_photo_but__changes_it(client: Client, shop: Shop) -> None:
    response = client.post(URL, {"image": upload(photo("red")), "modify": "in green"})
    assert found(response)[0] == "green"


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({}, 400, "No photo was sent"),
        ({"image": "text"}, 400, "No photo was sent"),
        ({"image": b""}, 400, "JPEG, PNG"),
        ({"image": b"MZ this is no image"}, 400, "JPEG, PNG"),
        ({"image": photo()[:60]}, 400, "damaged"),
        ({"image": b"\x89PNG" + b"x" * (8 * 1024 * 1024)}, 413, "larger than 8.0"),
        ({"image": b"\x89PNG" + b"x" * (20 * 1024 * 1024)}, 413, "larger than 8.0"),
        ({"image": [photo(), photo()]}, 400, "More than one file"),
        ({"image": photo(), "other": photo()}, 400, "More than one file"),
        ({"image": photo(), "modify": "x" * 257}, 400, "at most 256 characters"),
        ({"image": photo(), "modify": "a\x00b"}, 400, "characters that cannot be read"),
    ],
)
def test_photo__errors_are_readable_and_keep_the_form(
    client: Client, shop: Shop, fields: dict[str, Any], status: int, message: str
) -> None:
    def as_file(value: Any) -> Any:
        if isinstance(value, list):
            return [as_file(each) for each in value]
        return upload(value) if isinstance(value, bytes) else value

    if fields.get("image") == b"":
        # The test client sends no part for an empty upload.
        body = (
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
            b"Content-Type: image/png\r\n\r\n\r\n--b--\r\n"
        )
        response = client.generic("POST", URL, body, "multipart/form-data; boundary=b")
    else:
        response = client.post(URL, {name: as_file(value) for name, value in fields.items()})
    assert (response.status_code, message in error_of(response)) == (status, True), error_of(
        response
    )
    assert 'type="file"' in text_of(response)


def test_photo__101_files_are_refused(client: Client, shop: Shop) -> None:
    response = client.post(URL, {"image": [upload(photo()) for _ in range(101)]})
    assert response.status_code == 400
    assert error_of(response)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"garbage", "multipart/form-data; boundary=b"),
        (b"garbage", "multipart/form-data"),
        (b"--b\r\n", "multipart/form-data; boundary=b"),
        (b'{"q": "red"}', "application/json"),
        (b"a=1&" * 2000, "application/x-www-form-urlencoded"),
        (b"", "image/png"),
    ],
)
def test_post__of_anything_else_is_a_readable_error(
    client: Client, shop: Shop, body: bytes, content_type: str
) -> None:
    response = client.generic("POST", URL, body, content_type)
    assert response.status_code == 400
    assert error_of(response)


def test_photo__needs_the_csrf_token(shop: Shop) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post(URL, {"image": upload(photo())}).status_code == 403
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', text_of(client.get(URL)))
    assert token is not None
    sent = {"csrfmiddlewaretoken": token[1], "image": upload(photo("blue"))}
    response = client.post(URL, sent)
    assert (response.status_code, found(response)[0]) == (200, "blue")


@pytest.mark.parametrize(
    ("parameters", "status", "message"),
    [
        ({"q": ""}, 400, "Nothing was asked for"),
        ({"q": "   "}, 400, "Nothing was asked for"),
        ({"q": "x" * 257}, 400, "at most 256"),
        ({"q": "a\x00b"}, 400, "characters that cannot be read"),
        ({"modify": "in red"}, 400, "nothing to change"),
        ({"q": "red", "price__lt": "cheap"}, 400, "price__lt” has a value that does not fit"),
        ({"q": "red", "category": "a\x00"}, 400, "category” has a value that does not fit"),
        ({"product": "x"}, 404, "no such product"),
        ({"product": "9" * 400}, 404, "no such product"),
        ({"product": "-1"}, 404, "no such product"),
        ({"product": "a\x00"}, 404, "no such product"),
    ],
)
def test_words__errors_are_readable_and_keep_the_form(
    client: Client, shop: Shop, parameters: dict[str, str], status: int, message: str
) -> None:
    response = client.get(URL, parameters)
    assert (response.status_code, message in error_of(response)) == (status, True), error_of(
        response
    )
    assert 'type="search"' in text_of(response)


def test_hidden_and_unknown_product__the_pages_differ_in_nothing(
    client: Client, shop: Shop
) -> None:
    hidden = shop["red"].pk
    Product.objects.filter(pk=hidden).update(published=False)
    unknown = hidden + 10_000
    pages = [client.get(URL, {"product": key}) for key in (hidden, unknown)]
    a, b = (
        re.sub(r'value="\w{64}"|visual-search-\d+', "", text_of(page)).replace(str(key), "KEY")
        for page, key in zip(pages, (hidden, unknown), strict=True)
    )
    assert pages[0].status_code == pages[1].status_code == 404
    assert a == b


def test_hidden_product__its_values_are_not_offered_as_filters(client: Client, shop: Shop) -> None:
    product("secret", "red", category="secret category", published=False)
    assert "secret" not in text_of(client.get(URL, {"q": "red"})).lower()


@pytest.mark.parametrize("name", ["q", "modify", "product", "category", "price__lt", "page"])
@pytest.mark.parametrize(
    "value", ["<script>x</script>", "\"'><b>", "' OR 1=1 --", "%s%n", "{{ 7|add:7 }}", "🙂\u202e"]
)
def test_hostile_strings__are_escaped_and_no_fault(
    client: Client, shop: Shop, name: str, value: str
) -> None:
    response = client.get(URL, {"q": "red", "product": "", name: value})
    assert response.status_code < 500
    assert "<script>x" not in text_of(response) and "\"'><b>" not in text_of(response)


def test_without_checkpoint__words_are_answered_and_photos_explained(client: Client) -> None:
    product("r", "red")
    response = client.get(URL, {"q": "red"})
    assert (response.status_code, found(response)) == (200, ["r"])
    assert "not ready yet" in text_of(response)
    refused = client.post(URL, {"image": upload(photo())})
    assert (refused.status_code, "search with words" in error_of(refused)) == (503, True)
    assert refused["Retry-After"]


def test_empty_database__no_page_is_a_fault(client: Client) -> None:
    assert client.get(URL).status_code == 200
    assert "visual search is not ready yet" in text_of(client.get(URL, {"q": "red"}))
    fake_checkpoint()
    assert "Nothing matches" in text_of(client.get(URL, {"q": "red"}))


def test_busy_encoder__is_a_503_that_says_when_to_come_back(
    client: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*args: Any, **kwargs: Any) -> Any:
        raise EncoderBusyError("try again in a moment.")

    monkeypatch.setattr(encoding, "encode_query_image", busy)
    response = client.post(URL, {"image": SimpleUploadedFile("a.png", photo(), "image/png")})
    assert (response.status_code, response["Retry-After"]) == (503, "5")


def test_throttle__is_a_readable_page(client: Client, shop: Shop, settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {"search": "2/hour"}}
    statuses = [client.get(URL, {"q": "red"}, REMOTE_ADDR="1.2.3.4").status_code for _ in "abc"]
    assert statuses == [200, 200, 429]


def test_head_and_put__as_http_says(client: Client, shop: Shop) -> None:
    assert client.head(URL, {"q": "red"}).status_code == 200
    assert client.put(URL).status_code == 405


def test_page__holds_nothing_inline(client: Client, shop: Shop) -> None:
    page = text_of(client.get(URL, {"q": "red"}))
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page)
    assert "http://" not in page.replace("http://testserver", "")


def test_own_base_template__is_a_whole_page(client: Client, shop: Shop, settings: Any) -> None:
    own = Path(encoding.__file__).parent / "templates"
    template = {**settings.TEMPLATES[0], "DIRS": [str(own)]}
    settings.TEMPLATES = [template]
    page = text_of(client.get(URL, {"q": "red"}))
    assert page.lstrip().startswith("<!doctype html>") and 'class="visual-page"' in page


def test_script__is_small_and_asks_nobody_else() -> None:
    path = finders.find("visualsearch/visualsearch.js")
    assert path is not None
    script = Path(path).read_text()
    assert len(script) < 30_000
    assert not re.search(r"https?://|eval\(|innerHTML", script)


def test_photo_of_every_readable_format(client: Client, shop: Shop) -> None:
    for format in ("JPEG", "PNG", "WEBP"):
        response = client.post(URL, {"image": upload(photo("blue", format=format))})
        assert found(response)[0] == "blue"
    gif = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (8, 8)).save(gif, "GIF")
    assert client.post(URL, {"image": upload(gif.getvalue())}).status_code == 400
