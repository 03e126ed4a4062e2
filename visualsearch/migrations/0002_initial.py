"""Checkpoints, training runs, index entries, and the partitioned tables of vectors."""

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
import pgvector.django.halfvec
from django.conf import settings
from django.db import migrations, models

from visualsearch import conf
from visualsearch.migrations._operations import CascadeInDatabase, CreatePartitionedModel

PRODUCT_MODEL = conf.product_model_name()


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        # The first migration of the shop's app. Where the product model comes in a later one, give
        # that one `run_before = [("visualsearch", "0002_initial")]`.
        migrations.swappable_dependency(PRODUCT_MODEL),
        ("visualsearch", "0001_vector_extension"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Checkpoint",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=64, unique=True, verbose_name="name")),
                ("recipe", models.CharField(max_length=64, verbose_name="recipe")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("building", "being indexed"),
                            ("ready", "ready to be promoted"),
                            ("live", "live"),
                            ("retired", "retired"),
                            ("refused", "refused"),
                        ],
                        default="building",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "folder",
                    models.CharField(
                        help_text="Below CHECKPOINT_ROOT.",
                        max_length=255,
                        unique=True,
                        verbose_name="folder",
                    ),
                ),
                (
                    "width",
                    models.PositiveIntegerField(
                        help_text="Numbers in one embedding.", verbose_name="width"
                    ),
                ),
                (
                    "image_size",
                    models.PositiveIntegerField(
                        help_text="Pixels a side.", verbose_name="image size"
                    ),
                ),
                ("preprocessing", models.CharField(max_length=64, verbose_name="decoding path")),
                (
                    "parameters",
                    models.PositiveBigIntegerField(default=0, verbose_name="parameters"),
                ),
                ("metrics", models.JSONField(default=dict, verbose_name="metrics")),
                ("verdict", models.TextField(blank=True, default="", verbose_name="verdict")),
                (
                    "has_ann_index",
                    models.BooleanField(default=False, verbose_name="has an HNSW index"),
                ),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="created"),
                ),
                (
                    "promoted_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="promoted"),
                ),
                ("retired_at", models.DateTimeField(blank=True, null=True, verbose_name="retired")),
            ],
            options={
                "verbose_name": "checkpoint",
                "verbose_name_plural": "checkpoints",
                "ordering": ["-created_at"],
            },
        ),
        CreatePartitionedModel(
            name="Embedding",
            partition_by="checkpoint",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "product_id",
                        "position",
                        "checkpoint_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("position", models.PositiveSmallIntegerField()),
                ("image", models.CharField(max_length=255)),
                ("content_hash", models.BinaryField(max_length=16)),
                ("version", models.BigIntegerField()),
                ("vector", pgvector.django.halfvec.HalfVectorField()),
                (
                    "embedded_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        default=django.utils.timezone.now,
                    ),
                ),
                (
                    "checkpoint",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="embeddings",
                        to="visualsearch.checkpoint",
                    ),
                ),
                (
                    "product",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=PRODUCT_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "embedding",
                "verbose_name_plural": "embeddings",
            },
        ),
        migrations.CreateModel(
            name="IndexEntry",
            fields=[
                (
                    "product",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="visual_index_entry",
                        serialize=False,
                        to=PRODUCT_MODEL,
                        verbose_name="product",
                    ),
                ),
                (
                    "version",
                    models.BigIntegerField(db_default=1, default=1, verbose_name="version"),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "pending"),
                            ("indexed", "indexed"),
                            ("failed", "failed"),
                        ],
                        db_default="pending",
                        default="pending",
                        max_length=16,
                        verbose_name="status",
                    ),
                ),
                (
                    "attempts",
                    models.PositiveSmallIntegerField(
                        db_default=0, default=0, verbose_name="attempts"
                    ),
                ),
                (
                    "error_code",
                    models.CharField(
                        db_default="", default="", max_length=64, verbose_name="error code"
                    ),
                ),
                ("error", models.TextField(db_default="", default="", verbose_name="error")),
                ("lease", models.UUIDField(null=True, verbose_name="lease")),
                ("leased_until", models.DateTimeField(null=True, verbose_name="leased until")),
                (
                    "available_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        default=django.utils.timezone.now,
                        verbose_name="not before",
                    ),
                ),
                (
                    "changed_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        default=django.utils.timezone.now,
                        verbose_name="changed",
                    ),
                ),
                ("indexed_at", models.DateTimeField(null=True, verbose_name="indexed")),
            ],
            options={
                "verbose_name": "index entry",
                "verbose_name_plural": "index health",
                "indexes": [
                    models.Index(
                        condition=models.Q(("status", "pending")),
                        fields=["available_at"],
                        name="visualsearch_entry_pending",
                    ),
                    models.Index(fields=["status"], name="visualsearch_entry_status"),
                ],
            },
        ),
        CreatePartitionedModel(
            name="SimilarProduct",
            partition_by="checkpoint",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "source_id",
                        "rank",
                        "checkpoint_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("rank", models.PositiveSmallIntegerField()),
                ("score", models.FloatField()),
                ("position", models.PositiveSmallIntegerField()),
                (
                    "checkpoint",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="similar_products",
                        to="visualsearch.checkpoint",
                    ),
                ),
                (
                    "source",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="similar",
                        to=PRODUCT_MODEL,
                    ),
                ),
                (
                    "target",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="similar_to",
                        to=PRODUCT_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "similar product",
                "verbose_name_plural": "similar products",
            },
        ),
        migrations.CreateModel(
            name="TrainingRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "recipe",
                    models.CharField(default="default", max_length=64, verbose_name="recipe"),
                ),
                (
                    "epochs",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Leave empty for as many as the recipe finds right for this catalogue.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000),
                        ],
                        verbose_name="epochs",
                    ),
                ),
                ("seed", models.PositiveIntegerField(default=0, verbose_name="seed")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "queued"),
                            ("running", "running"),
                            ("succeeded", "succeeded"),
                            ("failed", "failed"),
                            ("cancelled", "cancelled"),
                        ],
                        default="queued",
                        editable=False,
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "stage",
                    models.CharField(
                        default="", editable=False, max_length=64, verbose_name="stage"
                    ),
                ),
                (
                    "done",
                    models.PositiveBigIntegerField(default=0, editable=False, verbose_name="done"),
                ),
                (
                    "total",
                    models.PositiveBigIntegerField(default=0, editable=False, verbose_name="total"),
                ),
                (
                    "eta_seconds",
                    models.FloatField(editable=False, null=True, verbose_name="seconds left"),
                ),
                ("history", models.JSONField(default=list, editable=False, verbose_name="history")),
                (
                    "timings",
                    models.JSONField(default=dict, editable=False, verbose_name="seconds by stage"),
                ),
                ("metrics", models.JSONField(default=dict, editable=False, verbose_name="metrics")),
                ("error", models.TextField(default="", editable=False, verbose_name="error")),
                (
                    "cancel_requested",
                    models.BooleanField(
                        default=False, editable=False, verbose_name="cancel requested"
                    ),
                ),
                (
                    "token",
                    models.UUIDField(editable=False, null=True, verbose_name="fencing token"),
                ),
                (
                    "heartbeat_at",
                    models.DateTimeField(
                        editable=False, null=True, verbose_name="last sign of life"
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="requested"
                    ),
                ),
                (
                    "started_at",
                    models.DateTimeField(editable=False, null=True, verbose_name="started"),
                ),
                (
                    "finished_at",
                    models.DateTimeField(editable=False, null=True, verbose_name="finished"),
                ),
                (
                    "requested_by",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="requested by",
                    ),
                ),
            ],
            options={
                "verbose_name": "training run",
                "verbose_name_plural": "training runs",
                "ordering": ["-created_at"],
            },
        ),
        migrations.AddField(
            model_name="checkpoint",
            name="run",
            field=models.OneToOneField(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="checkpoint",
                to="visualsearch.trainingrun",
                verbose_name="training run",
            ),
        ),
        migrations.AddConstraint(
            model_name="trainingrun",
            constraint=models.UniqueConstraint(
                models.Case(models.When(state__in=["queued", "running"], then=models.Value(1))),
                name="visualsearch_one_open_run",
                violation_error_message="A training run is already queued or running: wait for it, or cancel it first.",
            ),
        ),
        migrations.AddConstraint(
            model_name="checkpoint",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "live")),
                fields=("state",),
                name="visualsearch_one_live_checkpoint",
            ),
        ),
        CascadeInDatabase("IndexEntry", "product"),
        CascadeInDatabase("Embedding", "product"),
        CascadeInDatabase("SimilarProduct", "source"),
        CascadeInDatabase("SimilarProduct", "target"),
        # The triggers are installed after migrate (capture.py); without these tables they would make
        # every save of a product fail, so they go first on the way back.
        migrations.RunSQL(
            migrations.RunSQL.noop, "DROP FUNCTION IF EXISTS visualsearch_note_change() CASCADE"
        ),
    ]
