"""Checkpoints, training runs, what has to be embedded, embeddings, neighbours, judgements, words, searches, events."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from pgvector.django import HalfVectorField

from visualsearch import conf
from visualsearch.querysets import (
    CheckpointQuerySet,
    IndexEntryQuerySet,
    RecordManager,
    TrainingRunQuerySet,
)
from visualsearch.search_text_fields import TextArrayField, TSVectorField

# Rows that hang off the shop's products are removed by the database (ON DELETE CASCADE, added by
# the migration), so that a delete in raw SQL neither fails nor leaves a ghost. Django is told to
# do nothing: it need not load a thousand embeddings to delete one product.
PRODUCT_MODEL = conf.product_model_name()


class TrainingRun(models.Model):
    """One request to train a checkpoint on the shop's catalogue."""

    class State(models.TextChoices):
        QUEUED = "queued", _("queued")
        RUNNING = "running", _("running")
        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    recipe = models.CharField(_("recipe"), max_length=64, default="default")
    epochs = models.PositiveIntegerField(
        _("epochs"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text=_("Leave empty for as many as the recipe finds right for this catalogue."),
    )
    seed = models.PositiveIntegerField(_("seed"), default=0)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("requested by"),
        null=True,
        blank=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    state = models.CharField(
        _("state"), max_length=16, choices=State, default=State.QUEUED, editable=False
    )
    stage = models.CharField(_("stage"), max_length=64, default="", editable=False)
    done = models.PositiveBigIntegerField(_("done"), default=0, editable=False)
    total = models.PositiveBigIntegerField(_("total"), default=0, editable=False)
    eta_seconds = models.FloatField(_("seconds left"), null=True, editable=False)
    history = models.JSONField(_("history"), default=list, editable=False)
    timings = models.JSONField(_("seconds by stage"), default=dict, editable=False)
    metrics = models.JSONField(_("metrics"), default=dict, editable=False)
    error = models.TextField(_("error"), default="", editable=False)
    cancel_requested = models.BooleanField(_("cancel requested"), default=False, editable=False)
    token = models.UUIDField(_("fencing token"), null=True, editable=False)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0, editable=False)
    heartbeat_at = models.DateTimeField(_("last sign of life"), null=True, editable=False)
    created_at = models.DateTimeField(_("requested"), default=timezone.now, editable=False)
    started_at = models.DateTimeField(_("started"), null=True, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True, editable=False)

    objects = RecordManager.from_queryset(TrainingRunQuerySet)()

    class Meta:
        verbose_name = _("training run")
        verbose_name_plural = _("training runs")
        ordering = ["-created_at"]
        constraints = [
            # An expression that is the same for every open run: at most one can exist.
            models.UniqueConstraint(
                models.Case(models.When(state__in=["queued", "running"], then=models.Value(1))),
                name="visualsearch_one_open_run",
                violation_error_message=_(
                    "A training run is already queued or running: wait for it, or cancel it first."
                ),
            )
        ]

    def __str__(self) -> str:
        return f"run {self.pk} ({self.recipe}, {self.get_state_display()})"

    @property
    def is_open(self) -> bool:
        return self.state in (self.State.QUEUED, self.State.RUNNING)


class Checkpoint(models.Model):
    """The saved weights of a trained encoder, and where it stands between trained and live."""

    class State(models.TextChoices):
        BUILDING = "building", _("being indexed")
        READY = "ready", _("ready to be promoted")
        IMPORTED = "imported", _("imported, not embedded yet")
        LIVE = "live", _("live")
        RETIRED = "retired", _("retired")
        REFUSED = "refused", _("refused")

    name = models.CharField(_("name"), max_length=64, unique=True)
    recipe = models.CharField(_("recipe"), max_length=64)
    state = models.CharField(_("state"), max_length=16, choices=State, default=State.BUILDING)
    folder = models.CharField(
        _("folder"), max_length=255, unique=True, help_text=_("Below CHECKPOINT_ROOT.")
    )
    width = models.PositiveIntegerField(_("width"), help_text=_("Numbers in one embedding."))
    image_size = models.PositiveIntegerField(_("image size"), help_text=_("Pixels a side."))
    preprocessing = models.CharField(_("decoding path"), max_length=64)
    parameters = models.PositiveBigIntegerField(_("parameters"), default=0)
    metrics = models.JSONField(_("metrics"), default=dict)
    verdict = models.TextField(_("verdict"), default="", blank=True)
    run = models.OneToOneField(
        TrainingRun,
        verbose_name=_("training run"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="checkpoint",
    )
    recall = models.JSONField(_("recall of its index"), default=dict, editable=False)
    """By kind of query, with the ef_search that goes with it: see recall.py."""
    has_ann_index = models.BooleanField(_("has an HNSW index"), default=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    promoted_at = models.DateTimeField(_("promoted"), null=True, blank=True)
    retired_at = models.DateTimeField(_("retired"), null=True, blank=True)

    objects = RecordManager.from_queryset(CheckpointQuerySet)()

    class Meta:
        verbose_name = _("checkpoint")
        verbose_name_plural = _("checkpoints")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="live"), name="visualsearch_one_live_checkpoint"
            )
        ]

    def __str__(self) -> str:
        return self.name


class IndexEntry(models.Model):
    """One row per product: which version of it has to be embedded, and why it could not be.

    Row triggers (capture.py) raise `version` in the transaction that changes the product.
    """

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        INDEXED = "indexed", _("indexed")
        FAILED = "failed", _("failed")

    product = models.OneToOneField(
        PRODUCT_MODEL,
        verbose_name=_("product"),
        primary_key=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="visual_index_entry",
    )
    version = models.BigIntegerField(_("version"), default=1, db_default=1)
    status = models.CharField(
        _("status"), max_length=16, choices=Status, default=Status.PENDING, db_default="pending"
    )
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0, db_default=0)
    crashes = models.PositiveSmallIntegerField(_("crashes"), default=0, db_default=0)
    error_code = models.CharField(_("error code"), max_length=64, default="", db_default="")
    error = models.TextField(_("error"), default="", db_default="")
    lease = models.UUIDField(_("lease"), null=True)
    leased_until = models.DateTimeField(_("leased until"), null=True)
    available_at = models.DateTimeField(
        _("not before"), default=timezone.now, db_default=models.functions.Now()
    )
    changed_at = models.DateTimeField(
        _("changed"), default=timezone.now, db_default=models.functions.Now()
    )
    indexed_at = models.DateTimeField(_("indexed"), null=True)

    objects = RecordManager.from_queryset(IndexEntryQuerySet)()

    class Meta:
        verbose_name = _("index entry")
        verbose_name_plural = _("index health")
        indexes = [
            models.Index(
                fields=["available_at"],
                condition=Q(status="pending"),
                name="visualsearch_entry_pending",
            ),
            models.Index(fields=["status"], name="visualsearch_entry_status"),
        ]

    def __str__(self) -> str:
        return f"{self.product_id}: {self.get_status_display()}"


class Embedding(models.Model):
    """The vector of one product image by one checkpoint; a partition of its own per checkpoint."""

    # The product comes first, so that the key also serves the cascade from a deleted product.
    pk = models.CompositePrimaryKey("product_id", "position", "checkpoint_id")
    checkpoint = models.ForeignKey(
        Checkpoint,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="embeddings",
    )
    product = models.ForeignKey(
        PRODUCT_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    position = models.PositiveSmallIntegerField()
    image = models.CharField(max_length=255)
    content_hash = models.BinaryField(max_length=16)
    version = models.BigIntegerField()
    vector = HalfVectorField()
    embedded_at = models.DateTimeField(default=timezone.now, db_default=models.functions.Now())

    objects = RecordManager()

    class Meta:
        verbose_name = _("embedding")
        verbose_name_plural = _("embeddings")

    def __str__(self) -> str:
        return f"{self.product_id}[{self.position}] by {self.checkpoint_id}"


class SimilarProduct(models.Model):
    """A precomputed neighbour: `target` is the `rank`-th most similar product to `source`."""

    pk = models.CompositePrimaryKey("source_id", "rank", "checkpoint_id")
    checkpoint = models.ForeignKey(
        Checkpoint,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="similar_products",
    )
    source = models.ForeignKey(
        PRODUCT_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="similar",
    )
    target = models.ForeignKey(
        PRODUCT_MODEL, on_delete=models.DO_NOTHING, db_constraint=False, related_name="similar_to"
    )
    rank = models.PositiveSmallIntegerField()
    score = models.FloatField()
    position = models.PositiveSmallIntegerField()
    """Which photo of the target matched."""

    objects = RecordManager()

    class Meta:
        verbose_name = _("similar product")
        verbose_name_plural = _("similar products")

    def __str__(self) -> str:
        return f"{self.source_id} -> {self.target_id} (#{self.rank})"


class Judgement(models.Model):
    """What staff says of another product beside `product` (judgements.py)."""

    class Verdict(models.TextChoices):
        SIMILAR = "similar", _("similar")
        NOT_SIMILAR = "not similar", _("not similar")
        PIN = "pin", _("pinned")
        BAN = "ban", _("banned")

    product = models.ForeignKey(
        PRODUCT_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
        verbose_name=_("product"),
    )
    other = models.ForeignKey(
        PRODUCT_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
        verbose_name=_("other product"),
    )
    verdict = models.CharField(_("verdict"), max_length=16, choices=Verdict)
    judged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        verbose_name=_("judged by"),
    )
    judged_at = models.DateTimeField(_("judged at"), auto_now=True)

    objects = RecordManager()

    class Meta:
        verbose_name = _("judgement")
        verbose_name_plural = _("judgements")
        constraints = [
            models.UniqueConstraint(
                fields=["product", "other"], name="visualsearch_one_judgement_a_pair"
            )
        ]

    def __str__(self) -> str:
        return f"{self.product_id} – {self.other_id}: {self.verdict}"


class SearchDocument(models.Model):
    """The words of one product, for full text search; a trigger (documents.py) keeps them."""

    product = models.OneToOneField(
        PRODUCT_MODEL,
        primary_key=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )
    digest = models.UUIDField()
    """MD5 of what the document was made of: an edit of anything else leaves it alone."""
    codes = TextArrayField()
    """Article numbers, in lower case and without spaces."""
    document = TSVectorField()

    class Meta:
        verbose_name = _("search document")
        verbose_name_plural = _("search documents")

    def __str__(self) -> str:
        return f"words of {self.product_id}"


class SearchWord(models.Model):
    """A word that products have, for correcting misspelt ones (spelling.py)."""

    word = models.TextField(primary_key=True)
    products = models.PositiveIntegerField()
    """How many products have it."""
    trigrams = TextArrayField()

    class Meta:
        verbose_name = _("search word")
        verbose_name_plural = _("search words")

    def __str__(self) -> str:
        return self.word


class SearchEvent(models.Model):
    """What a visitor did with an answer, in the names of OpenSearch's User Behavior Insights."""

    class Action(models.TextChoices):
        IMPRESSION = "impression", _("impression")
        CLICK = "click", _("click")
        ADD_TO_CART = "add_to_cart", _("added to the cart")
        PURCHASE = "purchase", _("bought")

    query_id = models.CharField(_("query"), max_length=64)
    action_name = models.CharField(_("action"), max_length=32, choices=Action)
    object_id = models.CharField(_("product"), max_length=255, blank=True)
    position = models.PositiveIntegerField(_("position"), null=True)
    checkpoint = models.CharField(_("checkpoint"), max_length=64, blank=True)
    timestamp = models.DateTimeField(_("time"), default=timezone.now, db_index=True)

    class Meta:
        verbose_name = _("search event")
        verbose_name_plural = _("search events")
        indexes = [models.Index(fields=["query_id"], name="visualsearch_event_query")]

    def __str__(self) -> str:
        return f"{self.action_name} of {self.object_id} for {self.query_id}"


class WordSearch(models.Model):
    """One search by words alone and how it was answered, not who asked (word_searches.py)."""

    words = models.CharField(_("words"), max_length=256)
    """In lower case, single spaces."""
    query_id = models.CharField(_("query"), max_length=64)
    hits = models.PositiveIntegerField(_("results"))
    match = models.FloatField(_("best match"), null=True)
    """Calibrated, 0 to 1, of the first page's best hit; None where nothing was compared."""
    searched_on = models.DateField(_("day"), default=timezone.localdate, db_index=True)
    """The day alone: no time by which a visitor could be told."""

    class Meta:
        verbose_name = _("search without a good answer")
        verbose_name_plural = _("searches without good answers")

    def __str__(self) -> str:
        return self.words
