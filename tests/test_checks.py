"""System checks: each mistake has its own id, and a hint that names the fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from celery import Celery
from django.conf import LazySettings
from django.core import checks as django_checks
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.db import connection, connections, models
from django.test.utils import isolate_apps

import visualsearch
from shop.models import Product
from visualsearch import indexes
from visualsearch.checks import database_checks, declaration_checks, settings_checks
from visualsearch.indexes import VisualIndex
from visualsearch.tables import capture, documents
from visualsearch.upkeep.worker_consumer import PersistentConsumer

ROOT = Path(__file__).resolve().parent.parent


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id).removeprefix("visualsearch.") for message in messages]


def only(messages: list[CheckMessage]) -> CheckMessage:
    (message,) = messages
    return message


# --- the ids ------------------------------------------------------------------------------------


def ids_in_source() -> list[str]:
    sources = (
        Path(module.__file__ or "")
        for module in (settings_checks, declaration_checks, database_checks)
    )
    return [
        found
        for source in sources
        for found in re.findall(r'id="visualsearch\.([EW]\d{3})"', source.read_text())
    ]


def test_ids__each_belongs_to_one_message() -> None:
    found = ids_in_source()

    assert len(found) > 20
    assert sorted(found) == sorted(set(found))


def test_ids__operations_md_explains_each_of_them() -> None:
    explained = re.findall(
        r"^\| `visualsearch\.([EW]\d{3})` \|", (ROOT / "docs/operations.md").read_text(), re.M
    )

    assert sorted(explained) == sorted(ids_in_source())


def test_register__django_runs_every_check() -> None:
    registry = django_checks.registry.registry
    run = {check.__name__ for check in registry.get_checks(include_deployment_checks=True)}

    assert {"check_settings", "check_deployment", "check_declaration", "check_cache"} <= run


def test_register__the_database_is_asked_only_on_demand() -> None:
    with mock.patch.object(connection, "cursor", side_effect=AssertionError("queried")):
        call_command("check")


@pytest.mark.django_db
def test_check__the_demo_shop_has_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("check", databases=["default"], fail_level="ERROR")


# --- VISUALSEARCH -------------------------------------------------------------------------------


@pytest.fixture
def given(settings: LazySettings) -> Any:
    """Checks the settings with some keys of VISUALSEARCH changed."""

    def check(**keys: Any) -> list[CheckMessage]:
        settings.VISUALSEARCH = {"PRODUCT_MODEL": "shop.Product"} | keys
        return settings_checks.check_settings()

    return check


def test_settings__valid_ones_pass(given: Any) -> None:
    assert given() == []
    assert (
        given(
            CHECKPOINT_ROOT="/srv/checkpoints",
            DEVICE="cuda:1",
            ENCODER="visualsearch.testing.FakeEncoder",
            PROMOTE_AUTOMATICALLY=False,
            TRAINING_EPOCHS=3,
            OFFSET_MAX=0,
            ENCODER_WAIT_SECONDS=0,
            DECODER_TIMEOUT_SECONDS=2,
            THROTTLE_RATES={"search": "10/min", "similar": "", "other": "5 / s"},
            RECIPE="tirg",
        )
        == []
    )


def test_settings__without_visualsearch_the_declaration_check_speaks(
    settings: LazySettings,
) -> None:
    del settings.VISUALSEARCH

    assert settings_checks.check_settings() == []
    assert ids(declaration_checks.check_declaration()) == ["E002"]


def test_settings__not_a_dictionary(settings: LazySettings) -> None:
    settings.VISUALSEARCH = ["shop.Product"]

    message = only(settings_checks.check_settings())

    assert ids([message]) == ["E001"]
    assert "['shop.Product']" in message.msg
    assert '{"PRODUCT_MODEL": "shop.Product"}' in str(message.hint)


def test_settings__unknown_key_suggests_the_one_that_was_meant(given: Any) -> None:
    message = only(given(LIMITMAX=10))

    assert ids([message]) == ["W001"]
    assert "'LIMITMAX'" in message.msg
    assert "'LIMIT_MAX'" in str(message.hint)


def test_settings__unknown_key_unlike_any_lists_all(given: Any) -> None:
    message = only(given(xyz=10))

    assert "PRODUCT_MODEL" in str(message.hint)
    assert "DEVICE" in str(message.hint)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("LIMIT_MAX", "a", "a whole number"),
        ("LIMIT_MAX", True, "a whole number"),
        ("LIMIT_MAX", 1.5, "a whole number"),
        ("LIMIT_MAX", None, "a whole number"),
        ("TRAINING_EPOCHS", "2", "a whole number or None"),
        ("CHECKPOINT_ROOT", 5, "a path"),
        ("DEVICE", 0, "a string"),
        ("PROMOTE_AUTOMATICALLY", 1, "True or False"),
        ("ENCODER_WAIT_SECONDS", "2s", "a number"),
        ("THROTTLE_RATES", "10/min", "a dictionary"),
    ],
)
def test_settings__wrong_type(key: str, value: Any, expected: str, given: Any) -> None:
    message = only(given(**{key: value}))

    assert ids([message]) == ["E010"]
    assert repr(key) in message.msg
    assert repr(value) in message.msg
    assert expected in str(message.hint)


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("LIMIT_MAX", 0, "at least 1"),
        ("OFFSET_MAX", -1, "at least 0"),
        ("ENCODER_WAIT_SECONDS", -0.5, "at least 0"),
        ("DECODER_TIMEOUT_SECONDS", 0.0, "more than 0"),
        ("TRAINING_EPOCHS", 0, "at least 1"),
        ("EF_SEARCH_TEXT", 1001, "at most 1000"),
        ("DEVICE", "gpu", '"cuda"'),
        ("THROTTLE_RATES", {"search": "fast"}, "120/min"),
        ("THROTTLE_RATES", {"search": 120}, "'search'"),
    ],
)
def test_settings__value_out_of_range(key: str, value: Any, hint: str, given: Any) -> None:
    message = only(given(**{key: value}))

    assert ids([message]) == ["E011"]
    assert repr(value) in message.msg
    assert hint in str(message.hint)


def test_settings__unknown_recipe_suggests_one(given: Any) -> None:
    message = only(given(RECIPE="defualt"))

    assert ids([message]) == ["E012"]
    assert "'default'" in str(message.hint)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"trunks": "resnet18"}, "no field 'trunks'"),
        ({"epochs": "many"}, "epochs='many' does not fit"),
        ({"text": "none"}, "Set composer=none"),
    ],
)
def test_settings__recipe_fields_that_cannot_train(
    given: Any, fields: dict[str, Any], problem: str
) -> None:
    message = only(given(RECIPE_FIELDS=fields))

    assert ids([message]) == ["E018"]
    assert problem in message.msg


def test_settings__recipe_fields_that_can_train(given: Any) -> None:
    pretrained = {"trunk": "resnet18", "weights": "/models/resnet18.pth"}
    assert given(RECIPE_FIELDS=pretrained) == []
    assert given(RECIPE_FIELDS=pretrained | {"frozen": True, "wild_views": 0.0, "epochs": 3}) == []


def test_settings__uploads_that_fill_the_memory(given: Any) -> None:
    assert ids(given(UPLOAD_MAX_BYTES=1 << 30)) == ["W007"]
    assert given(UPLOAD_MAX_BYTES=64 << 20) == []


def test_settings__encoder_that_cannot_be_imported(given: Any) -> None:
    message = only(given(ENCODER="shop.encoders.Missing"))

    assert ids([message]) == ["E013"]
    assert "shop.encoders" in message.msg


@pytest.mark.parametrize("name", ["MEDIA_ROOT", "STATIC_ROOT"])
def test_settings__checkpoints_that_would_be_served(
    name: str, given: Any, settings: LazySettings, tmp_path: Path
) -> None:
    setattr(settings, name, str(tmp_path))

    for root in (tmp_path, tmp_path / "a" / "b", tmp_path / "x" / ".." / "checkpoints"):
        message = only(given(CHECKPOINT_ROOT=root))
        assert ids([message]) == ["E014"]
        assert name in message.msg

    assert given(CHECKPOINT_ROOT=tmp_path.parent / "elsewhere") == []


def test_settings__no_media_folder_is_no_mistake(given: Any, settings: LazySettings) -> None:
    settings.MEDIA_ROOT = ""
    settings.STATIC_ROOT = None

    assert given() == []


def test_settings__importing_the_checks_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import django; django.setup(); import sys; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# --- the deployment -----------------------------------------------------------------------------


@pytest.fixture
def database(settings: LazySettings) -> Iterator[Any]:
    """Checks the deployment with the default database's settings changed."""

    def check(**keys: Any) -> list[CheckMessage]:
        with mock.patch.dict(connection.settings_dict, {"CONN_MAX_AGE": 600} | keys):
            return settings_checks.check_deployment()

    yield check


def test_deployment__persistent_connections_pass(database: Any) -> None:
    assert database() == []
    assert database(CONN_MAX_AGE=None) == []
    assert database(CONN_MAX_AGE=0, OPTIONS={"pool": True}) == []


def test_deployment__a_connection_for_every_request(database: Any) -> None:
    message = only(database(CONN_MAX_AGE=0, OPTIONS={}))

    assert ids([message]) == ["W003"]
    assert "CONN_MAX_AGE" in str(message.hint)


def test_deployment__a_database_that_is_not_postgresql(database: Any) -> None:
    with mock.patch.object(connections["default"], "vendor", "sqlite"):
        message = only(database())

    assert ids([message]) == ["E015"]
    assert "sqlite" in message.msg
    assert "django.db.backends.postgresql" in str(message.hint)


@pytest.mark.parametrize("content", ["pickle", "application/x-python-serialize"])
def test_deployment__celery_that_accepts_pickle(
    content: str, database: Any, settings: LazySettings
) -> None:
    settings.CELERY_ACCEPT_CONTENT = ["json", content]

    message = only(database())

    assert ids([message]) == ["E016"]
    assert content in message.msg
    assert '["json"]' in str(message.hint)


def test_deployment__the_loaded_celery_app_is_looked_at(
    database: Any, settings: LazySettings
) -> None:
    settings.CELERY_ACCEPT_CONTENT = ["json"]
    app = Celery("a-shop", set_as_current=False)
    app.conf.accept_content = ["json", "pickle"]

    with mock.patch("celery.current_app", app):
        assert ids(database()) == ["E016"]
    app.conf.accept_content = ["json"]
    with mock.patch("celery.current_app", app):
        assert database() == []
    with mock.patch("celery.current_app", mock.Mock(main="default", conf=None)):
        assert database() == []


@pytest.mark.parametrize(
    ("broker", "consumer", "expected"),
    [
        ("redis://localhost:6379/0", "", ["W009"]),
        ("redis+socket:///run/redis.sock", "", ["W009"]),
        ("redis://localhost:6379/0", settings_checks.CONSUMER, []),
        ("redis://localhost:6379/0", "ashop.workers:Consumer", []),
        ("amqp://localhost", "", []),
    ],
)
def test_deployment__workers_on_redis_need_a_consumer_that_goes_on(
    database: Any, broker: str, consumer: str, expected: list[str]
) -> None:
    app = Celery("a-shop", set_as_current=False, broker=broker)
    if consumer:
        app.conf.worker_consumer = consumer

    with mock.patch("celery.current_app", app):
        assert ids(database()) == expected


def test_consumer__is_the_one_that_there_is() -> None:
    module, _, name = settings_checks.CONSUMER.partition(":")
    assert (module, name) == (PersistentConsumer.__module__, PersistentConsumer.__name__)


def test_deployment__throttles_need_a_cache_that_processes_share(settings: LazySettings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    message = only(settings_checks.check_cache())
    assert ids([message]) == ["W006"]
    assert "Redis" in str(message.hint)

    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {"search": ""}}
    assert settings_checks.check_cache() == []

    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {"search": "9/min"}}
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache"}}
    assert settings_checks.check_cache() == []


# --- the database -------------------------------------------------------------------------------


@pytest.fixture
def server(db: None) -> Iterator[Any]:
    """Checks a database whose server answers as told."""

    def check(
        *, postgres: int = 180004, vector: tuple[str, str | None] | None = ("0.8.4", "0.8.4")
    ) -> list[CheckMessage]:
        cursor = mock.MagicMock()
        cursor.__enter__.return_value = cursor
        cursor.fetchone.side_effect = [(str(postgres),), vector]
        cursor.fetchall.return_value = [("english",), ("simple",)]
        tables = connection.introspection.table_names()
        with (
            mock.patch.object(connection, "cursor", return_value=cursor),
            mock.patch.object(connection.introspection, "table_names", return_value=tables),
            mock.patch.object(capture, "missing_triggers", return_value=[]),
            mock.patch.object(documents, "missing_triggers", return_value=[]),
        ):
            return database_checks.check_database(databases=["default"])

    yield check


@pytest.mark.django_db
def test_database__the_real_one_passes() -> None:
    assert database_checks.check_database(databases=["default"]) == []


def test_database__is_left_alone_unless_asked_for(django_assert_num_queries: Any, db: None) -> None:
    with django_assert_num_queries(0):
        assert database_checks.check_database() == []
        assert database_checks.check_database(databases=["replica"]) == []


def test_database__another_vendor_is_the_deployment_checks_affair(db: None) -> None:
    with mock.patch.object(connections["default"], "vendor", "sqlite"):
        assert database_checks.check_database(databases=["default"]) == []


def test_database__old_postgresql(server: Any) -> None:
    message = only(server(postgres=140012))

    assert ids([message]) == ["E020"]
    assert "PostgreSQL 14" in message.msg
    assert "15" in str(message.hint)


def test_database__server_without_pgvector(server: Any) -> None:
    message = only(server(vector=None))

    assert ids([message]) == ["E021"]
    assert "pgvector/pgvector" in str(message.hint)


def test_database__extension_dropped(server: Any) -> None:
    message = only(server(vector=("0.8.4", None)))

    assert ids([message]) == ["E022"]
    assert "CREATE EXTENSION vector" in str(message.hint)


@pytest.mark.parametrize(
    ("available", "installed", "hint"),
    [
        ("0.8.4", "0.8.2", "In the database: ALTER EXTENSION vector UPDATE"),
        ("0.8.2", "0.8.2", "on the server to 0.8.4"),
        ("0.7", "0.7", "on the server to 0.8.4"),
    ],
)
def test_database__pgvector_too_old(available: str, installed: str, hint: str, server: Any) -> None:
    message = only(server(vector=(available, installed)))

    assert ids([message]) == ["E023"]
    assert installed in message.msg
    assert hint in str(message.hint)


@pytest.mark.parametrize("version", ["0.8.4", "0.8.10", "0.9", "1.0.0"])
def test_database__newer_pgvector_passes(version: str, server: Any) -> None:
    assert server(vector=(version, version)) == []


def test_database__before_migrate_nothing_is_missing_yet(server: Any) -> None:
    with mock.patch.object(database_checks.IndexEntry._meta, "db_table", "not_there_yet"):
        assert server(vector=("0.8.4", None)) == []
        assert ids(server(vector=("0.8.2", None))) == ["E023"]


@pytest.mark.django_db
def test_database__missing_trigger_is_a_warning_that_migrate_can_repair() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {capture.TRIGGER} ON shop_productimage")

    message = only(database_checks.check_database(databases=["default"]))

    assert ids([message]) == ["W005"]
    assert message.level < django_checks.ERROR
    assert "shop_productimage" in message.msg
    assert "migrate" in str(message.hint)


@pytest.mark.django_db
def test_database__disabled_trigger_is_as_bad() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE shop_product DISABLE TRIGGER {capture.TRIGGER}")

    assert "shop_product " in only(
        database_checks.check_database(databases=["default"])
    ).msg.replace(" go ", "  go ")


@pytest.mark.django_db
def test_database__triggers_of_a_wrong_declaration_are_not_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wrong(VisualIndex):
        image_field = "images__original"
        text_fields = ["name"]
        related = {"image": "product"}

    monkeypatch.setitem(indexes._registry, Product, Wrong(Product))

    assert database_checks.check_database(databases=["default"]) == []


# --- the product model --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "Product", "a.b.c"])
def test_product_model__not_given(name: str, settings: LazySettings) -> None:
    settings.VISUALSEARCH = {"PRODUCT_MODEL": name}

    message = only(declaration_checks.check_declaration())

    assert ids([message]) == ["E002"]
    assert "shop.Product" in message.msg


@pytest.mark.parametrize("name", ["store.Product", "shop.Produkt"])
def test_product_model__not_installed(name: str, settings: LazySettings) -> None:
    settings.VISUALSEARCH = {"PRODUCT_MODEL": name}

    message = only(declaration_checks.check_declaration())

    assert ids([message]) == ["E003"]
    assert repr(name) in message.msg
    assert "INSTALLED_APPS" in str(message.hint)


def test_product_model__without_an_index_lists_what_is_registered(settings: LazySettings) -> None:
    settings.VISUALSEARCH = {"PRODUCT_MODEL": "shop.ProductImage"}

    message = only(declaration_checks.check_declaration())

    assert ids([message]) == ["E004"]
    assert "shop.Product" in message.msg.partition("registered: ")[2]
    assert "shop/visual_indexes.py" in str(message.hint)


def test_product_model__nothing_registered_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "_registry", {})

    assert only(declaration_checks.check_declaration()).msg.endswith("registered: none.")


def test_product_model__the_demo_shop_is_well_declared() -> None:
    assert declaration_checks.check_declaration() == []


# --- what the index declares --------------------------------------------------------------------


def check(model: type[models.Model] = Product, **attributes: Any) -> list[CheckMessage]:
    """Check an index of the demo shop in which some attributes are changed."""
    right: dict[str, Any] = {
        "image_field": "images__original",
        "text_fields": ["name"],
        "related": {"images": "product"},
    }
    index = type("ProductIndex", (visualsearch.VisualIndex,), right | attributes)
    return declaration_checks.check_index(index(model))


@pytest.mark.parametrize(
    "attributes",
    [
        {"label_field": "category", "group_field": "style_code", "price_field": "price"},
        {
            "attribute_fields": ("colour",),
            "filter_fields": ("price", "in_stock"),
        },
        {"text_fields": ["name", "photo_description"]},  # a property
        {"filter_fields": ["images__position", "category"]},
    ],
    ids=str,
)
def test_declaration__right_ones_pass(attributes: dict[str, Any]) -> None:
    assert check(**attributes) == []


@pytest.mark.parametrize(
    ("attribute", "value", "wanted"),
    [
        ("text_fields", "name", "a list of strings"),
        ("attribute_fields", None, "a list of strings"),
        ("attribute_fields", ["colour", 3], "a list of strings"),
        ("filter_fields", "category", "a list of strings"),
        ("label_field", ["category"], "a string"),
        ("image_field", None, "a string"),
        ("related", ["images"], "a dictionary"),
    ],
)
def test_declaration__wrong_shape(attribute: str, value: Any, wanted: str) -> None:
    messages = check(**{attribute: value})

    assert ids(messages)[0] == "E005"
    assert f"ProductIndex.{attribute}" in messages[0].msg
    assert wanted in str(messages[0].hint)


@pytest.mark.parametrize(
    ("attribute", "value", "path", "hint"),
    [
        ("image_field", "image__original", "image__original", "'images'"),
        ("image_field", "images__orignal", "images__orignal", "'original'"),
        ("text_fields", ["title", "name"], "title", "name"),
        ("label_field", "categories", "categories", "'category'"),
        ("group_field", "stylecode", "stylecode", "'style_code'"),
        ("attribute_fields", ["color"], "color", "'colour'"),
        ("price_field", "preis", "preis", "'price'"),
        ("text_fields", ["name", "name__de"], "name__de", "End the path at 'name'"),
        ("text_fields", ["name", "get_absolute_url"], "get_absolute_url", "name"),
    ],
)
def test_declaration__field_that_does_not_exist(
    attribute: str, value: Any, path: str, hint: str
) -> None:
    message = only(check(**{attribute: value}))

    assert ids([message]) == ["E006"]
    assert f"ProductIndex.{attribute} names {path!r}" in message.msg
    assert hint in str(message.hint)


def test_declaration__no_image() -> None:
    message = only(check(image_field=""))

    assert ids([message]) == ["E007"]
    assert "get_images" in str(message.hint)


def test_declaration__the_hook_stands_for_the_image_field() -> None:
    assert check(image_field="", get_images=lambda self, product: []) == []


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("images__position", "'images__original'"),
        ("images", "'images__original'"),
        ("name", "override get_images()"),
        ("photo_description", "override get_images()"),
    ],
)
def test_declaration__not_an_image(path: str, hint: str) -> None:
    message = only(check(image_field=path))

    assert ids([message]) == ["E009"]
    assert repr(path) in message.msg
    assert hint in str(message.hint)


def test_declaration__images_of_other_rows_need_related() -> None:
    message = only(check(related={}))

    assert ids([message]) == ["W004"]
    assert "related = {'images': 'product'}" in str(message.hint)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("colur", "'colour'"),
        ("name__whatever", "'name'"),
        ("images__position_", "'position'"),
        ("photo_description", "description"),
    ],
)
def test_declaration__filter_that_no_query_takes(path: str, hint: str) -> None:
    message = only(check(filter_fields=["price", path]))

    assert ids([message]) == ["E017"]
    assert repr(path) in message.msg
    assert hint in str(message.hint)


def test_declaration__filter_by_what_the_queryset_computes() -> None:
    def get_queryset(self: VisualIndex) -> models.QuerySet[Any]:
        return self.model._default_manager.annotate(cheap=models.Q(price__lt=10))

    assert check(filter_fields=["cheap"], get_queryset=get_queryset) == []
    assert ids(check(filter_fields=["cheap"])) == ["E017"]


@pytest.mark.parametrize(
    ("related", "message", "hint"),
    [
        ({"images": "product", "image": "product"}, "'image'", "'images'"),
        ({"images": "product", "name": "product"}, "'name'", "images"),
        ({"images": "photo"}, "'photo'", "related = {'images': 'product'}"),
        ({"images": "position"}, "'position'", "related = {'images': 'product'}"),
    ],
)
def test_declaration__wrong_relation(related: dict[str, str], message: str, hint: str) -> None:
    found = only(check(related=related))

    assert ids([found]) == ["E008"]
    assert message in found.msg
    assert hint in str(found.hint)


def test_declaration__no_text() -> None:
    assert ids(check(text_fields=[])) == ["W002"]
    assert check(text_fields=[], get_text=lambda self, product: ["a text"]) == []


@isolate_apps("shop")
def test_declaration__other_shapes_of_catalogue() -> None:
    class Maker(models.Model):
        logo = models.ImageField()

        class Meta:
            app_label = "shop"

    class Shoe(models.Model):
        code = models.CharField(max_length=9, unique=True)
        maker = models.ForeignKey(Maker, models.CASCADE)
        photos: Any = models.ManyToManyField(Maker, related_name="+")

        class Meta:
            app_label = "shop"

    class Picture(models.Model):
        shoe = models.ForeignKey(Shoe, models.CASCADE, to_field="code")
        file = models.FileField()

        class Meta:
            app_label = "shop"

    class Box(models.Model):
        shoe = models.OneToOneField(Shoe, models.CASCADE)
        photo = models.ImageField()

        class Meta:
            app_label = "shop"

    def shoe_index(**attributes: Any) -> list[CheckMessage]:
        return check(Shoe, **{"text_fields": ["code"], "related": {}} | attributes)

    # a file behind a foreign key, and behind a one-to-one
    assert shoe_index(image_field="maker__logo") == []
    assert shoe_index(image_field="box__photo", related={"box": "shoe"}) == []
    # the id behind a foreign key can be read
    assert shoe_index(image_field="maker__logo", label_field="maker_id") == []
    # lookups say "picture", attributes say "picture_set", and so does every declaration
    assert shoe_index(image_field="maker__logo", filter_fields=["picture_set__file"]) == []
    wrong = only(shoe_index(image_field="picture__file"))
    assert ids([wrong]) == ["E006"]
    assert "'picture_set'" in str(wrong.hint)
    # the trigger reads the product's primary key from the column
    wrong = only(shoe_index(image_field="picture_set__file", related={"picture_set": "shoe"}))
    assert ids([wrong]) == ["E008"]
    assert "'code'" in wrong.msg
    assert "to_field" in str(wrong.hint)
    # what stands on the other side of a many-to-many is not the product's own
    wrong = only(shoe_index(image_field="photos__logo", related={"photos": "shoe"}))
    assert ids([wrong]) == ["E008"]
    # nothing to name instead
    wrong = only(check(Picture, image_field="file", text_fields=["id"], related={"x": "y"}))
    assert "No foreign key does" in str(wrong.hint)


def test_wrong_declaration__does_not_keep_the_checks_from_running() -> None:
    class Wrong(VisualIndex):
        related = {"image": "product", "name": "product", "images": "product"}

    from visualsearch import receivers

    assert [m.__name__ for m in receivers._related_models(Wrong(Product))] == ["ProductImage"]
