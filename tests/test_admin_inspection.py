"""Admin pages that look at checkpoints: changed neighbours, inspector, map, and Retrain's estimate."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.catalogue import BROKEN, make_product, photo
from tests.colour_catalogue import embed
from visualsearch.admin import gallery_map, neighbour_lists
from visualsearch.admin.estimate import estimates
from visualsearch.models import Checkpoint, SimilarProduct, TrainingRun
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db


def url(name: str) -> str:
    return reverse(f"admin:visualsearch_checkpoint_{name}")


@pytest.fixture
def owner(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("owner", "", "x"))
    return client


@pytest.fixture
def products() -> dict[str, Any]:
    return {
        colour: make_product(
            photo(colour),
            name=f"{colour.title()} dress",
            colour=colour,
            category="Dresses" if number % 2 else "Hats",
        )
        for number, colour in enumerate(("red", "pink", "blue", "navy", "green"))
    }


def neighbours(checkpoint: Checkpoint, source: Any, *targets: Any) -> None:
    for rank, target in enumerate(targets, start=1):
        SimilarProduct.objects.create(
            checkpoint=checkpoint,
            source=source,
            target=target,
            rank=rank,
            score=1 - rank / 10,
            position=0,
        )


@pytest.fixture
def two(products: dict[str, Any]) -> tuple[Checkpoint, Checkpoint]:
    """Two checkpoints with embeddings that agree on the neighbours of red, and not on blue's."""
    made = []
    for name in ("v1", "v2"):
        checkpoint = fake_checkpoint(name=name, folder=name)
        embed(checkpoint, *products.values())
        neighbours(checkpoint, products["red"], products["pink"], products["green"])
        made.append(checkpoint)
    first, second = made
    neighbours(first, products["blue"], products["navy"], products["green"])
    neighbours(second, products["blue"], products["red"], products["pink"])
    return first, second


def test_changes__the_most_changed_product_comes_first(
    products: dict[str, Any], two: tuple[Checkpoint, Checkpoint]
) -> None:
    changes = neighbour_lists.changes(*two)

    assert changes.compared == 2
    assert changes.mean_shared == 1.0
    blue, red = changes.most
    assert (blue.product.pk, blue.shared) == (products["blue"].pk, 0)
    assert (red.product.pk, red.shared) == (products["red"].pk, 2)
    assert [each.title for each in blue.before] == ["Navy dress", "Green dress"]
    assert [each.title for each in blue.after] == ["Red dress", "Pink dress"]
    assert not any(each.is_shared for each in (*blue.before, *blue.after))
    assert all(each.is_shared for each in (*red.before, *red.after))


def test_compare_page__shows_both_sides_and_takes_few_queries(
    owner: Client, two: tuple[Checkpoint, Checkpoint], django_assert_max_num_queries: Any
) -> None:
    owner.get(url("compare"))
    with django_assert_max_num_queries(20):
        page = owner.get(url("compare")).content.decode()

    assert "Before: v1" in page and "After: v2" in page
    assert "1.0 are the same on average, over 2 products" in page
    assert page.index("Blue dress") < page.index("Red dress</a> <small>")
    swapped = owner.get(url("compare"), {"before": two[1].pk, "after": two[0].pk})
    assert "Before: v2" in swapped.content.decode()


def test_compare_page__without_two_checkpoints_says_what_to_do(owner: Client) -> None:
    assert "train once more" in owner.get(url("compare")).content.decode()


@pytest.mark.parametrize("name", ["compare", "inspect", "map"])
@pytest.mark.parametrize("value", ["99", "x", "9" * 50, "²", "-1"])
def test_pages__a_checkpoint_that_does_not_exist_is_404(
    owner: Client, name: str, value: str
) -> None:
    assert owner.get(url(name), {"after": value}).status_code == 404


def columns_of(page: Any) -> list[list[str]]:
    return [[hit.title for hit in column["hits"]] for column in page.context["columns"]]


def test_inspector__a_product_words_and_both(
    owner: Client, products: dict[str, Any], two: tuple[Checkpoint, Checkpoint]
) -> None:
    by_product = owner.get(url("inspect"), {"product": products["red"].pk})
    by_words = owner.get(url("inspect"), {"q": "navy"})
    changed = owner.get(url("inspect"), {"product": products["red"].pk, "q": "in green"})

    for titles in columns_of(by_product):
        assert len(titles) == 4 and "Red dress" not in titles
    assert [titles[0] for titles in columns_of(by_words)] == ["Navy dress", "Navy dress"]
    assert [titles[0] for titles in columns_of(changed)] == ["Green dress", "Green dress"]
    assert re.search(r'visualsearch-score">\d\.\d{3}', by_product.content.decode())


def test_inspector__a_photo_is_answered_and_a_bad_one_explained(
    owner: Client, two: tuple[Checkpoint, Checkpoint]
) -> None:
    def post(data: bytes) -> Any:
        return owner.post(url("inspect"), {"image": SimpleUploadedFile("x.png", data)})

    assert [titles[0] for titles in columns_of(post(photo("blue")))] == ["Blue dress"] * 2
    for data in (BROKEN, b"no photo", b"\x89PNG" + b"x" * (9 * 1024 * 1024)):
        page = post(data)
        assert page.status_code == 200
        assert "errornote" in page.content.decode()
    assert "No photo was sent" in owner.post(url("inspect")).content.decode()


@pytest.mark.parametrize("key", ["999999", "x", "\x00", "9" * 60])
def test_inspector__an_unknown_product_is_no_error(
    owner: Client, two: tuple[Checkpoint, Checkpoint], key: str
) -> None:
    page = owner.get(url("inspect"), {"product": key})

    assert page.status_code == 200
    assert "no product with this key" in page.content.decode()


def test_inspector__a_checkpoint_that_cannot_be_run_leaves_the_other_column(
    owner: Client, two: tuple[Checkpoint, Checkpoint], settings: Any
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"ENCODER": ""}  # and there are no files

    page = owner.get(url("inspect"), {"q": "red"})

    assert page.status_code == 200
    assert [bool(column["problem"]) for column in page.context["columns"]] == [True, True]


def test_map__products_lie_inside_the_picture_and_have_their_colours(
    owner: Client, two: tuple[Checkpoint, Checkpoint]
) -> None:
    drawn = gallery_map.draw(two[1], by="colour", with_texts=True)

    assert len(drawn.points) == drawn.products == 5
    assert len({point.style for point in drawn.points}) == 5
    assert 0 < drawn.explained <= 1
    ends = [(line.x2, line.y2) for line in drawn.lines]
    assert len(ends) == 5
    for x, y in [*((point.x, point.y) for point in drawn.points), *ends]:
        assert 0 <= x <= drawn.width and 0 <= y <= drawn.height
    again = gallery_map.draw(two[1], by="colour", with_texts=True)
    assert [(p.x, p.y) for p in again.points] == [(p.x, p.y) for p in drawn.points]


def test_map__alike_lies_nearer_than_different(two: tuple[Checkpoint, Checkpoint]) -> None:
    at = {p.product.title: (p.x, p.y) for p in gallery_map.draw(two[1]).points}

    def distance(one: str, other: str) -> float:
        (x1, y1), (x2, y2) = at[f"{one} dress"], at[f"{other} dress"]
        return ((x1 - x2) ** 2 + (y1 - y2) ** 2) ** 0.5

    assert distance("Blue", "Navy") < distance("Blue", "Red")


def test_map_page__has_a_table_and_no_inline_style(
    owner: Client, two: tuple[Checkpoint, Checkpoint]
) -> None:
    page = owner.get(url("map"), {"by": "colour", "texts": "1"}).content.decode()

    assert page.count("<circle") >= 5 and page.count('<th scope="row">') == 5
    assert " style=" not in page
    assert owner.get(url("map"), {"by": "nonsense"}).status_code == 200


def test_map_page__an_empty_shop(owner: Client) -> None:
    assert "train one first" in owner.get(url("map")).content.decode()


@pytest.mark.parametrize("name", ["compare", "inspect", "map"])
def test_permissions__viewing_checkpoints_is_what_it_takes(name: str) -> None:
    def status_for(*permissions: str) -> int:
        user = User.objects.create_user(f"staff-{len(permissions)}", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return client.get(url(name)).status_code

    assert Client().get(url(name)).status_code == 302
    assert status_for() == 403
    assert status_for("view_checkpoint") == 200


def test_inspector__a_post_from_elsewhere_is_refused() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("owner", "", "x"))

    assert client.post(url("inspect")).status_code == 403


# -- the estimate ---------------------------------------------------------------------------------


def finished(recipe: str, *, seconds: float, **fields: Any) -> TrainingRun:
    now = timezone.now()
    values = {
        "state": "succeeded",
        "recipe": recipe,
        "started_at": now - timedelta(minutes=5),
        "finished_at": now,
        "timings": {"collecting": seconds / 4, "training": seconds / 2, "embedding": seconds / 4},
        "history": [{"step": 10, "epoch": 5, "epochs": 5, "loss": 1.0}],
    }
    return TrainingRun.objects.create(**values | fields)


def test_estimate__scales_with_the_photos_of_today(products: dict[str, Any]) -> None:
    run = finished("default", seconds=80)
    embed(fake_checkpoint(run=run), *products.values())
    finished("tirg", seconds=10, state="failed")

    (estimate,) = estimates(photos=15)

    assert estimate.recipe == "default" and estimate.run == run
    assert estimate.seconds == pytest.approx(240)
    assert estimate.per_epoch == pytest.approx(3 * 40 / 5)


def test_estimate__the_newest_run_of_each_recipe_counts() -> None:
    finished("default", seconds=80, created_at=timezone.now() - timedelta(days=2))
    newest = finished("default", seconds=40)
    other = finished("tirg", seconds=100)
    finished("tirg", seconds=1, timings={"embedding": 1.0})  # it only brought an old one back

    assert {each.recipe: each.run for each in estimates(photos=0)} == {
        "default": newest,
        "tirg": other,
    }


def test_retrain_page__shows_the_estimate_or_says_that_there_is_none(owner: Client) -> None:
    make_product(photo())
    page = reverse("admin:visualsearch_trainingrun_add")
    assert "There is no estimate before the first run" in owner.get(page).content.decode()
    run = finished("default", seconds=80)

    text = owner.get(page).content.decode()

    assert "≈ 1 min 20 s" in text and "≈ 8 s" in text
    assert f"run #{run.pk}" in text
