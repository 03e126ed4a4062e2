"""The words of products for full text search, the catalogue's vocabulary, and search events."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import visualsearch.search_text_fields
from visualsearch import conf
from visualsearch.migrations._operations import CascadeInDatabase

PRODUCT_MODEL = conf.product_model_name()


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(PRODUCT_MODEL),
        ("visualsearch", "0003_trainingrun_attempts"),
    ]

    operations = [
        migrations.CreateModel(
            name="SearchDocument",
            fields=[
                (
                    "product",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to=PRODUCT_MODEL,
                    ),
                ),
                ("digest", models.UUIDField()),
                ("codes", visualsearch.search_text_fields.TextArrayField()),
                ("document", visualsearch.search_text_fields.TSVectorField()),
            ],
            options={
                "verbose_name": "search document",
                "verbose_name_plural": "search documents",
            },
        ),
        migrations.CreateModel(
            name="SearchWord",
            fields=[
                ("word", models.TextField(primary_key=True, serialize=False)),
                ("products", models.PositiveIntegerField()),
                ("trigrams", visualsearch.search_text_fields.TextArrayField()),
            ],
            options={
                "verbose_name": "search word",
                "verbose_name_plural": "search words",
            },
        ),
        migrations.CreateModel(
            name="SearchEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("query_id", models.CharField(max_length=64, verbose_name="query")),
                (
                    "action_name",
                    models.CharField(
                        choices=[
                            ("impression", "impression"),
                            ("click", "click"),
                            ("add_to_cart", "added to the cart"),
                            ("purchase", "bought"),
                        ],
                        max_length=32,
                        verbose_name="action",
                    ),
                ),
                ("object_id", models.CharField(blank=True, max_length=255, verbose_name="product")),
                ("position", models.PositiveIntegerField(null=True, verbose_name="position")),
                (
                    "checkpoint",
                    models.CharField(blank=True, max_length=64, verbose_name="checkpoint"),
                ),
                (
                    "timestamp",
                    models.DateTimeField(
                        db_index=True, default=django.utils.timezone.now, verbose_name="time"
                    ),
                ),
            ],
            options={
                "verbose_name": "search event",
                "verbose_name_plural": "search events",
                "indexes": [models.Index(fields=["query_id"], name="visualsearch_event_query")],
            },
        ),
        CascadeInDatabase("SearchDocument", "product"),
        migrations.RunSQL(
            [
                "CREATE INDEX visualsearch_document_words ON visualsearch_searchdocument USING gin (document)",
                "CREATE INDEX visualsearch_document_codes ON visualsearch_searchdocument USING gin (codes)",
                "CREATE INDEX visualsearch_word_trigrams ON visualsearch_searchword USING gin (trigrams)",
            ],
            # The trigger that fills the table is installed after migrate (documents.py): without the
            # table it would make every save of a product fail.
            "DROP FUNCTION IF EXISTS visualsearch_note_words() CASCADE",
        ),
    ]
