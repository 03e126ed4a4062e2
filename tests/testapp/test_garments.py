"""The second catalogue: UUID keys, photos and traits in child tables, a manager that hides rows."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection, models, transaction
from django.test import Client, RequestFactory

from tests.testapp.models import Brand, Collection, Design, Garment, Shot, Trait
from tests.testapp.photos import photo, photo_file
from visualsearch import indexes
from visualsearch.checks.database_checks import check_database
from visualsearch.models import Checkpoint, Embedding, IndexEntry, SimilarProduct
from visualsearch.search import searching
from visualsearch.tables import capture, documents, reach
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import doorbell, indexing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def live() -> Checkpoint:
    return fake_checkpoint()


@pytest.fixture
def design() -> Design:
    brand = Brand.objects.create(label="Nordlicht")
    return Design.objects.create(code="coat-1", brand=brand, headline="Rain coat", story="Dry.")


def make_garment(design: Design, *colours: str, **fields: Any) -> Garment:
    garment = Garment.everything.create(design=design, **{"department": "coats"} | fields)
    for colour in colours:
        Shot.objects.create(garment=garment, file=photo_file(colour))
    return garment


@pytest.fixture
def wardrobe(live: Checkpoint, design: Design) -> Iterator[dict[str, Garment]]:
    """An indexed catalogue: one garment a colour."""
    found = {
        colour: make_garment(design, colour, cents=100 * number)
        for number, colour in enumerate(["red", "orange", "blue", "navy", "green"], start=1)
    }
    indexing.index_pending()
    yield found


def status_of(garment: Garment) -> str:
    return IndexEntry.objects.get(product_id=garment.pk).status


def sql(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def nobody() -> Any:
    from django.contrib.auth.models import AnonymousUser

    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    return request


# --- the catalogue itself -----------------------------------------------------------------------


def test_this_process__does_not_know_the_demo_shop() -> None:
    assert not apps.is_installed("shop")
    assert indexes.product_model() is Garment


def test_check__finds_nothing_wrong_with_the_declaration() -> None:
    call_command("check", databases=["default"], fail_level="ERROR")


def test_migrations__of_this_catalogue_are_complete() -> None:
    call_command("makemigrations", "--check", "--dry-run")


def test_migrate__gives_the_foreign_keys_the_type_of_the_product() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name || '.' || column_name FROM information_schema.columns "
            "WHERE table_name IN ('visualsearch_indexentry', 'visualsearch_embedding', "
            "'visualsearch_similarproduct') AND data_type = 'uuid' AND column_name <> 'lease'"
        )
        found = {name for (name,) in cursor.fetchall()}

    assert found == {
        "visualsearch_indexentry.product_id",
        "visualsearch_embedding.product_id",
        "visualsearch_similarproduct.source_id",
        "visualsearch_similarproduct.target_id",
    }


def test_declaration__reads_across_tables_and_through_hooks(design: Design) -> None:
    garment = make_garment(design, "red", "blue", cents=4950)
    Trait.objects.create(wearable=garment, name="lining", value="wool")
    index = indexes.get_index()

    assert index.get_text(garment) == ["Rain coat", "Dry.", "Nordlicht"]
    assert index.get_title(garment) == "Rain coat"
    assert index.get_label(garment) == "coats"
    assert index.get_group(garment) == "coat-1"
    assert index.get_attributes(garment) == {"lining": "wool"}
    assert index.get_price(garment) == "49.50 €"
    assert len(index.get_images(garment)) == 2


# --- noticing changes ---------------------------------------------------------------------------


def test_triggers__are_on_all_three_tables() -> None:
    index = indexes.get_index()

    assert [each.table for each in capture.captured_tables(index)] == [
        "wardrobe",
        "testapp_shot",
        "testapp_trait",
    ]
    assert capture.missing_triggers(index) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda garment: garment.save(),
        lambda garment: Garment.everything.filter(pk=garment.pk).update(cents=5),
        lambda garment: Garment.everything.bulk_update([garment], ["department"]),
        lambda garment: sql('UPDATE wardrobe SET cents = 7 WHERE "garment key" = %s', garment.pk),
        lambda garment: Shot.objects.bulk_create([Shot(garment=garment, file=photo_file("pink"))]),
        lambda garment: garment.shot_set.all().delete(),
        lambda garment: sql("DELETE FROM testapp_shot WHERE of_garment = %s", garment.pk),
        lambda garment: Trait.objects.create(wearable=garment, name="fit", value="slim"),
        lambda garment: sql(
            "INSERT INTO testapp_trait (wearable_id, name, value) VALUES (%s, 'a', 'b')", garment.pk
        ),
    ],
    ids=[
        "save",
        "update",
        "bulk_update",
        "raw update",
        "bulk_create of a photo",
        "delete of photos",
        "raw delete of photos",
        "new trait",
        "raw insert of a trait",
    ],
)
def test_change__of_any_kind_opens_the_entry(change: Any, wardrobe: dict[str, Garment]) -> None:
    garment = wardrobe["red"]
    assert status_of(garment) == "indexed"
    garment.department = "jackets"

    change(garment)

    assert status_of(garment) == "pending"
    assert status_of(wardrobe["blue"]) == "indexed"


def test_change__bulk_created_garments_have_entries(design: Design) -> None:
    Garment.everything.bulk_create(Garment(design=design, department="x") for _ in range(3))

    assert IndexEntry.objects.count() == 3


def test_change__a_photo_that_moves_concerns_both_garments(wardrobe: dict[str, Garment]) -> None:
    Shot.objects.filter(garment=wardrobe["red"]).update(garment=wardrobe["blue"])

    assert status_of(wardrobe["red"]) == "pending"
    assert status_of(wardrobe["blue"]) == "pending"


def test_change__rolled_back_leaves_no_trace(wardrobe: dict[str, Garment]) -> None:
    with transaction.atomic():
        wardrobe["red"].save()
        Trait.objects.create(wearable=wardrobe["red"], name="fit", value="slim")
        Garment.everything.filter(pk=wardrobe["red"].pk).update(cents=9)
        transaction.set_rollback(True)

    assert status_of(wardrobe["red"]) == "indexed"


# --- embedding ----------------------------------------------------------------------------------


def test_index_pending__embeds_every_photo(live: Checkpoint, design: Design) -> None:
    garment = make_garment(design, "red", "blue")

    counts = indexing.index_pending()

    assert (counts.indexed, counts.embedded, counts.failed) == (1, 2, 0)
    rows = Embedding.objects.filter(product_id=garment.pk).order_by("position")
    assert [row.position for row in rows] == [0, 1]
    assert all(isinstance(row.product_id, uuid.UUID) for row in rows)


def test_index_pending__a_price_edit_embeds_nothing(wardrobe: dict[str, Garment]) -> None:
    Garment.objects.filter(pk=wardrobe["red"].pk).update(cents=1)

    counts = indexing.index_pending()

    assert (counts.indexed, counts.embedded) == (1, 0)


def test_index_pending__archived_garments_leave_the_index(wardrobe: dict[str, Garment]) -> None:
    red = wardrobe["red"]
    Garment.objects.filter(pk=red.pk).update(archived=True)

    indexing.index_pending()

    assert not Embedding.objects.filter(product_id=red.pk).exists()
    Garment.everything.filter(pk=red.pk).update(archived=False)
    indexing.index_pending()
    assert Embedding.objects.filter(product_id=red.pk).exists()


def test_embed_checkpoint__goes_through_uuid_keys(
    wardrobe: dict[str, Garment], settings: Any
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"BATCH_SIZE": 1}
    other = fake_checkpoint(live=False)

    assert indexing.embed_checkpoint(other) == len(wardrobe)
    assert Embedding.objects.filter(checkpoint=other).count() == len(wardrobe)
    assert indexing.embed_checkpoint(other) == 0


# --- searching ----------------------------------------------------------------------------------


def products(results: Any) -> list[Garment]:
    return [hit.product for hit in results]


def test_similar_to__nearest_first_and_never_itself(wardrobe: dict[str, Garment]) -> None:
    found = products(searching.similar_to(wardrobe["blue"], limit=4))

    assert found[0] == wardrobe["navy"]
    assert wardrobe["blue"] not in found


def test_similar_to__an_archived_garment_vanishes_at_once(wardrobe: dict[str, Garment]) -> None:
    Garment.objects.filter(pk=wardrobe["navy"].pk).update(archived=True)

    assert wardrobe["navy"] not in products(searching.similar_to(wardrobe["blue"], limit=4))


def test_search__by_text(wardrobe: dict[str, Garment]) -> None:
    results = searching.search("green", limit=3)

    assert products(results)[0] == wardrobe["green"]
    assert not results.degraded


def test_search__by_photo(wardrobe: dict[str, Garment]) -> None:
    found = products(searching.search(image=io.BytesIO(photo("red")), limit=2))

    assert found[0] == wardrobe["red"]


def test_search__like_this_but_in_another_colour(wardrobe: dict[str, Garment]) -> None:
    found = products(searching.search(image=wardrobe["red"], modify="in green", limit=2))

    assert found[0] == wardrobe["green"]


def test_search__by_filters_across_tables(wardrobe: dict[str, Garment]) -> None:
    brand = Brand.objects.create(label="Other")
    design = Design.objects.create(code="other", brand=brand, headline="Other")
    Garment.objects.filter(pk=wardrobe["navy"].pk).update(design=design)

    found = products(searching.search("navy", filters={"design__brand__label": "Other"}))

    assert found == [wardrobe["navy"]]


def test_search__what_only_members_see(wardrobe: dict[str, Garment]) -> None:
    Garment.objects.filter(pk=wardrobe["green"].pk).update(members_only=True)
    member = nobody()
    member.user = User.objects.create_user("member")

    assert wardrobe["green"] not in products(searching.search("green", request=nobody()))
    assert products(searching.search("green", request=member))[0] == wardrobe["green"]


def test_delete__in_raw_sql_leaves_no_ghost_and_does_not_fail(
    wardrobe: dict[str, Garment],
) -> None:
    navy = wardrobe["navy"].pk

    sql("DELETE FROM testapp_shot WHERE of_garment = %s", navy)
    sql('DELETE FROM wardrobe WHERE "garment key" = %s', navy)

    assert not IndexEntry.objects.filter(product_id=navy).exists()
    assert not Embedding.objects.filter(product_id=navy).exists()
    assert not SimilarProduct.objects.filter(target_id=navy).exists()
    assert navy not in [p.pk for p in products(searching.similar_to(wardrobe["blue"], limit=4))]
    assert navy not in [p.pk for p in products(searching.search("navy"))]
    indexing.index_pending()
    assert IndexEntry.objects.exclude(status="indexed").count() == 0


def test_delete__through_django_and_by_cascade_from_another_table(
    wardrobe: dict[str, Garment], design: Design
) -> None:
    wardrobe["navy"].delete()
    assert IndexEntry.objects.count() == len(wardrobe) - 1

    design.delete()

    assert IndexEntry.objects.count() == 0
    assert Embedding.objects.count() == 0
    assert list(searching.search("navy")) == []


# --- over HTTP ----------------------------------------------------------------------------------


def test_api__answers_with_uuid_keys(wardrobe: dict[str, Garment], client: Client) -> None:
    hits = client.get("/rest/search/", {"q": "green", "limit": 2}).json()["hits"]
    assert hits[0]["id"] == str(wardrobe["green"].pk)

    similar = client.get(f"/rest/products/{wardrobe['blue'].pk}/similar/").json()["hits"]
    assert similar[0]["id"] == str(wardrobe["navy"].pk)
    assert similar[0]["product"]["url"].endswith(f"/garments/{wardrobe['navy'].pk}/")


@pytest.mark.parametrize("key", [str(uuid.UUID(int=0)), "17", "no-key", "%00", "'; --"])
def test_api__unknown_keys_are_not_found(
    key: str, wardrobe: dict[str, Garment], client: Client
) -> None:
    assert client.get(f"/rest/products/{key}/similar/").status_code == 404


def test_api__hidden_and_unknown_answer_alike(wardrobe: dict[str, Garment], client: Client) -> None:
    Garment.objects.filter(pk=wardrobe["green"].pk).update(members_only=True)
    unknown, hidden = uuid.uuid4(), wardrobe["green"].pk

    answers = [client.get(f"/rest/products/{key}/similar/") for key in (unknown, hidden)]

    assert [answer.status_code for answer in answers] == [404, 404]
    bodies = [
        json.dumps(answer.json()).replace(str(key), "KEY")
        for answer, key in zip(answers, (unknown, hidden), strict=True)
    ]
    assert bodies[0] == bodies[1]


def test_page__search_by_text_and_by_photo(wardrobe: dict[str, Garment], client: Client) -> None:
    page = client.get("/find/", {"q": "green"})
    assert page.status_code == 200
    assert f"/garments/{wardrobe['green'].pk}/" in page.content.decode()

    upload = SimpleUploadedFile("red.png", photo("red"), "image/png")
    page = client.post("/find/", {"image": upload})
    assert page.status_code == 200
    assert f"/garments/{wardrobe['red'].pk}/" in page.content.decode()


@pytest.mark.parametrize("name", ["indexentry", "checkpoint", "trainingrun"])
def test_admin__lists_work_with_uuid_keys(
    name: str, wardrobe: dict[str, Garment], admin_client: Client
) -> None:
    assert admin_client.get(f"/admin/visualsearch/{name}/").status_code == 200


# -- what is declared by a path that leads out of the product's own tables --------------------------


@pytest.fixture
def closed(design: Design) -> tuple[Garment, Garment]:
    """A garment of the design, and one of another brand; both entries closed."""
    other = Design.objects.create(
        code="hat-1", brand=Brand.objects.create(label="Andere"), headline="Hat"
    )
    garments = make_garment(design), make_garment(other)
    IndexEntry.objects.update(status="indexed")
    return garments


def execute(sql: str, *parameters: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


@pytest.mark.parametrize(
    "change",
    [
        lambda: Brand.objects.get(label="Nordlicht").save() or _renamed("Nordlicht", "Polar"),
        lambda: Brand.objects.filter(label="Nordlicht").update(label="Polar"),
        lambda: execute("UPDATE testapp_brand SET label = 'Polar' WHERE label = 'Nordlicht'"),
        lambda: Design.objects.filter(code="coat-1").update(headline="Other"),
        lambda: Design.objects.bulk_update([Design(code="coat-1", story="Wet.")], ["story"]),
        lambda: Design.objects.filter(code="coat-1").update(brand=Brand.objects.last()),
    ],
    ids=["save", "update", "SQL", "nearer table", "bulk_update", "another brand"],
)
def test_change_behind_a_foreign_key__opens_the_products_it_says_something_of(
    closed: tuple[Garment, Garment], change: Any
) -> None:
    near, other = closed

    change()

    assert (status_of(near), status_of(other)) == ("pending", "indexed")


SEASON: dict[str, Any] = {
    "added": lambda g, c: g.collections.add(c["summer"]),
    "set": lambda g, c: g.collections.set([c["summer"]]),
    "cleared": lambda g, c: g.collections.clear(),
    "removed from the other side": lambda g, c: c["winter"].garment_set.remove(g),
    "through table": lambda g, c: Garment.collections.through.objects.filter(garment=g.pk).update(
        collection=c["summer"]
    ),
    "renamed": lambda g, c: Collection.objects.filter(pk=c["winter"].pk).update(title="Snow"),
    "deleted": lambda g, c: c["winter"].delete(),
}


@pytest.mark.parametrize("kind", SEASON)
def test_change_behind_a_many_to_many__opens_the_products_it_says_something_of(
    closed: tuple[Garment, Garment], kind: str
) -> None:
    near, other = closed
    collections = {name: Collection.objects.create(title=name) for name in ("winter", "summer")}
    near.collections.add(collections["winter"])
    IndexEntry.objects.update(status="indexed")

    SEASON[kind](near, collections)

    assert (status_of(near), status_of(other)) == ("pending", "indexed")


def test_change_behind_a_many_to_many__a_product_that_is_deleted_leaves_nothing(
    closed: tuple[Garment, Garment],
) -> None:
    near, _ = closed
    near.collections.add(Collection.objects.create(title="winter"))
    pk = near.pk

    near.delete()

    assert not IndexEntry.objects.filter(pk=pk).exists()


def test_change_behind_a_relation__rings_the_doorbell(
    closed: tuple[Garment, Garment], monkeypatch: pytest.MonkeyPatch
) -> None:
    rings: list[str] = []
    monkeypatch.setattr(doorbell, "ring", rings.append)

    _renamed("Nordlicht", "Polar")
    winter = Collection.objects.create(title="winter")
    before = len(rings)
    closed[0].collections.add(winter)

    assert before == 2
    assert len(rings) == 3


def _renamed(old: str, new: str) -> None:
    brand = Brand.objects.get(label=old)
    brand.label = new
    brand.save()


def test_change_behind_a_foreign_key__rolled_back_leaves_nothing(
    closed: tuple[Garment, Garment],
) -> None:
    with transaction.atomic():
        Brand.objects.update(label="Never")
        transaction.set_rollback(True)

    assert {status_of(garment) for garment in closed} == {"indexed"}


def test_change_behind_a_foreign_key__columns_that_are_not_read_open_nothing(
    closed: tuple[Garment, Garment],
) -> None:
    execute("ALTER TABLE testapp_brand ADD COLUMN visits int, ADD COLUMN notes json")
    try:
        execute("""UPDATE testapp_brand SET visits = 7, notes = '{"a": 1}'""")
        Brand.objects.update(label=models.F("label"))
        Brand.objects.create(label="New")
        assert {status_of(garment) for garment in closed} == {"indexed"}
    finally:
        execute("ALTER TABLE testapp_brand DROP COLUMN visits, DROP COLUMN notes")


def test_change_behind_a_foreign_key__one_statement_for_a_thousand_products(
    closed: tuple[Garment, Garment], design: Design
) -> None:
    Garment.everything.bulk_create(Garment(design=design, department="coats") for _ in range(1000))
    IndexEntry.objects.update(status="indexed")
    versions = dict(IndexEntry.objects.values_list("pk", "version"))

    Brand.objects.update(label=models.functions.Concat("label", models.Value("!")))

    after = dict(IndexEntry.objects.values_list("pk", "version"))
    assert {pk: version - versions[pk] for pk, version in after.items()} == dict.fromkeys(after, 1)


def test_reach_triggers__are_missed_when_gone_or_outdated_and_installed_again() -> None:
    index = indexes.get_index()
    assert capture.missing_triggers(index) == []
    for harm in (
        "DROP TRIGGER visualsearch_reach_update ON testapp_brand",
        "ALTER TABLE testapp_brand DISABLE TRIGGER visualsearch_reach_delete",
        "CREATE OR REPLACE FUNCTION "
        + next(r.function for r in reach.reached_tables(index) if r.model is Brand)
        + "() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    ):
        execute(harm)
        assert capture.missing_triggers(index) == ["testapp_brand"], harm
        assert [m.id for m in check_database(databases=["default"])] == ["visualsearch.W005"]

        capture.install(index)
        assert capture.missing_triggers(index) == []


def test_reach_triggers__of_an_earlier_declaration_are_taken_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = indexes.get_index()
    monkeypatch.setattr(type(index), "text_fields", ["design__headline"])
    try:
        capture.install(index)
        assert {table for table, name, _ in capture._triggers(connection) if "reach" in name} == {
            "testapp_design"
        }
    finally:
        monkeypatch.undo()
        capture.install(index)


def test_remove__leaves_no_trigger_and_no_function() -> None:
    index = indexes.get_index()
    try:
        capture.remove(index)
        documents.remove(index)
        assert capture._triggers(connection) == []
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_proc WHERE proname LIKE 'visualsearch%%'")
            assert cursor.fetchone() == (0,)
    finally:
        capture.install(index)
        documents.install(index)
