"""Judgements of staff: the widget obeys them at once and after every renewal, evaluation and training ask them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from shop.models import Product
from tests.catalogue import make_product, photo
from tests.colour_catalogue import embed, product
from visualsearch.lifecycle import examples
from visualsearch.ml.clusters import clusters
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.data import Catalogue, Item
from visualsearch.models import Checkpoint, Judgement
from visualsearch.search import searching
from visualsearch.tables import judgements
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import neighbours

JUDGE = "admin:visualsearch_checkpoint_judge"
INSPECT = "admin:visualsearch_checkpoint_inspect"

Shop = dict[str, Product]


@pytest.fixture
def checkpoint(db: None) -> Checkpoint:
    return fake_checkpoint()


@pytest.fixture
def shop(checkpoint: Checkpoint) -> Shop:
    colours = ("red", "pink", "blue", "navy", "green", "black")
    made = {colour: product(colour, colour) for colour in colours}
    embed(checkpoint, *made.values())
    neighbours.compute(checkpoint)
    return made


@pytest.fixture
def photographed(db: None) -> Shop:
    """Products that have their photos, which training and evaluation look at."""
    colours = ("red", "pink", "blue", "navy", "green", "black")
    return {colour: make_product(photo(colour), name=f"{colour} dress") for colour in colours}


def widget(of: Product, *, limit: int = 3) -> list[str]:
    return [hit.product.sku for hit in searching.similar_to(of, limit=limit)]


def test_pin_and_ban__change_the_widget_at_once(shop: Shop) -> None:
    before = widget(shop["red"])
    assert "green" not in before[:1] and len(before) == 3

    judgements.judge(shop["red"], shop["green"], "pin")
    judgements.judge(shop["red"], shop[before[0]], "ban")

    after = widget(shop["red"])
    assert after[0] == "green" and before[0] not in after and len(after) == 3
    assert widget(shop[before[0]]), "nothing was said about the other way round"


def test_pin_and_ban__outlive_the_renewal_of_the_lists(shop: Shop, checkpoint: Checkpoint) -> None:
    first, *_ = widget(shop["red"])
    judgements.judge(shop["red"], shop["green"], "pin")
    judgements.judge(shop["red"], shop[first], "ban")
    judged = widget(shop["red"])

    neighbours.compute(checkpoint)
    assert widget(shop["red"]) == judged
    neighbours.repair(checkpoint, {shop["red"].pk})
    assert widget(shop["red"]) == judged


def test_pin__of_what_no_list_had_has_its_own_cosine(shop: Shop, settings: Any) -> None:
    judgements.judge(shop["red"], shop["green"], "pin")
    pinned = searching.similar_to(shop["red"], limit=3)[0]
    found = {hit.product.sku: hit.score for hit in searching.search(image=shop["red"])}
    assert pinned.score == pytest.approx(found["green"], abs=1e-2)


def test_ban__holds_where_the_stored_list_is_too_short(shop: Shop) -> None:
    judgements.judge(shop["red"], shop["pink"], "ban")
    found = widget(shop["red"], limit=50)
    assert "pink" not in found and len(found) == 4


def test_verdict__can_be_taken_back(shop: Shop, checkpoint: Checkpoint) -> None:
    before = widget(shop["red"])
    judgements.judge(shop["red"], shop[before[0]], "ban")
    judgements.judge(shop["red"], shop[before[0]], "")
    neighbours.compute(checkpoint)
    assert widget(shop["red"]) == before and not Judgement.objects.exists()


def test_raw_delete_of_a_product__takes_its_judgements_along(shop: Shop) -> None:
    judgements.judge(shop["red"], shop["green"], "similar")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM shop_productimage WHERE product_id = %s", [shop["green"].pk])
        cursor.execute("DELETE FROM shop_product WHERE id = %s", [shop["green"].pk])
    assert not Judgement.objects.exists()


class Fan:
    """An encoder that puts one photo after another at ten degrees from each other."""

    def encode_image(self, pixels: Any) -> Any:
        angles = np.deg2rad(10.0 * np.arange(len(pixels)))
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_agreement__is_the_share_of_comparisons_that_come_out_right(
    photographed: Shop, tmp_path: Any
) -> None:
    shop = photographed
    found = examples.collect(tmp_path, size=32)

    def agreement() -> dict[str, float]:
        return judgements.agreement(Fan(), found.catalogue)

    assert agreement() == {}
    judgements.judge(shop["red"], shop["pink"], "similar")
    assert agreement() == {}, "there is nothing to compare it with"
    judgements.judge(shop["red"], shop["green"], "ban")
    assert agreement() == {"auc": 1.0, "similar": 1, "not_similar": 1}
    judgements.judge(shop["pink"], shop["black"], "not similar")
    judgements.judge(shop["red"], shop["black"], "pin")
    assert agreement() == {"auc": 0.5, "similar": 2, "not_similar": 2}


def test_examples__bring_what_is_not_similar_to_training(photographed: Shop, tmp_path: Any) -> None:
    judgements.judge(photographed["red"], photographed["pink"], "not similar")
    judgements.judge(photographed["red"], photographed["navy"], "similar")
    judgements.judge(photographed["blue"], photographed["navy"], "ban")
    catalogue = examples.collect(tmp_path, size=32).catalogue
    ids = [item.id for item in catalogue.items]
    named = {(ids[one], ids[other]) for one, other in catalogue.apart}
    assert named == {
        (str(photographed["red"].pk), str(photographed["pink"].pk)),
        (str(photographed["blue"].pk), str(photographed["navy"].pk)),
    }


def some_items(count: int) -> Catalogue:
    items = [
        Item(id=str(n), images=(n,), texts=(f"dress {n}",), label="dress", group=f"g{n // 2}")
        for n in range(count)
    ]
    return Catalogue(items, np.zeros((count, 2, 2, 3), "u1"), apart=[(0, 5), (2, 3)])


def test_clusters__draw_what_was_told_apart_together_but_no_design_apart() -> None:
    coded = CodedCatalogue(some_items(40))
    rng = np.random.default_rng(0)
    drawn = [clusters(coded, rng, kind_pairs=0.0) for _ in range(40)]
    together = sum(any(set(each.members) == {0, 5} for each in found) for found in drawn)
    assert 10 <= together <= 30
    for found in drawn:
        assert sorted(n for each in found for n in each.members) == list(range(40)), "each once"
        assert all(each.by == "group" for each in found if set(each.members) == {2, 3})


def test_subset__keeps_the_pairs_whose_products_are_both_there() -> None:
    assert list(some_items(8).subset([5, 1, 0]).apart) == [(2, 0)]


@pytest.fixture
def owner(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("owner", "", "x"))
    return client


def test_inspector__notes_a_verdict_and_shows_it(owner: Client, shop: Shop) -> None:
    asked = {"product": shop["red"].pk, "other": shop["pink"].pk, "verdict": "ban"}
    assert owner.get(reverse(JUDGE), asked).status_code == 405
    response = owner.post(reverse(JUDGE), asked, follow=True)
    assert response.redirect_chain[0][0] == f"{reverse(INSPECT)}?product={shop['red'].pk}"
    judgement = Judgement.objects.get()
    assert (judgement.verdict, str(judgement.judged_by)) == ("ban", "owner")
    assert '<option value="ban" selected>' in response.content.decode()
    assert "pink" not in widget(shop["red"])


@pytest.mark.parametrize(
    "wrong", [{"verdict": "ugly"}, {"other": "0"}, {"product": "x"}, {"product": ""}]
)
def test_inspector__what_cannot_be_judged_is_404(
    owner: Client, shop: Shop, wrong: dict[str, str]
) -> None:
    asked = {"product": shop["red"].pk, "other": shop["pink"].pk, "verdict": "ban"} | wrong
    assert owner.post(reverse(JUDGE), asked).status_code == 404
    assert not Judgement.objects.exists()


def test_inspector__who_may_only_look_does_not_judge(client: Client, shop: Shop) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_checkpoint"))
    client.force_login(viewer)
    page = client.get(reverse(INSPECT), {"product": shop["red"].pk})
    assert page.status_code == 200 and "visualsearch-judge" not in page.content.decode()
    asked = {"product": shop["red"].pk, "other": shop["pink"].pk, "verdict": "ban"}
    assert client.post(reverse(JUDGE), asked).status_code == 403
    assert not Judgement.objects.exists()
