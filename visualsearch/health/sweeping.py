"""Finds and repairs what no trigger saw: every night, the whole catalogue against what is embedded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from django.db import router
from django.db.models import Exists, OuterRef

from visualsearch.conf import get_settings
from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint, Embedding, IndexEntry
from visualsearch.search import events, spelling, word_searches
from visualsearch.tables import capture, documents, partitions
from visualsearch.upkeep import embedding, neighbours, storing

logger = logging.getLogger(__name__)

BATCHES_AT_A_TIME = 4
"""Batches of products whose photos are compared before the next are asked for."""


def sweep(*, rehash: bool = False) -> dict[str, int]:
    """Find and repair what no trigger saw; how much of each there was.

    `rehash` has every photo's bytes compared with what was embedded: for files that were replaced
    under the same name, of which the database knows nothing. Only products that differ are opened.
    """
    index, entries = get_index(), IndexEntry.objects.all()
    alias = router.db_for_write(IndexEntry)
    found = {
        "unknown": capture.open_missing_entries(index, using=alias),
        "orphaned": storing.delete_orphans(index.get_queryset()),
        "unreadable": entries.filter(status="failed", error_code="image_missing").reopen(),
        "missing": 0,
        "vectors": 0,
    }
    for checkpoint in Checkpoint.objects.indexed():
        if partitions.exists(checkpoint) and (spoilt := storing.spoilt(checkpoint)):
            # In this order: a worker that looked in between would find nothing to do.
            Embedding.objects.filter(checkpoint=checkpoint, product_id__in=spoilt).delete()
            entries.filter(product_id__in=spoilt).reopen()
            found["vectors"] += len(spoilt)
    if live := Checkpoint.objects.live():
        there = Embedding.objects.filter(checkpoint=live, product_id=OuterRef("pk"))
        indexed = entries.filter(status="indexed")
        in_index = index.get_queryset().values("pk")
        found["missing"] = indexed.filter(~Exists(there), product_id__in=in_index).reopen()
        if rehash:
            found["replaced"] = sum(
                indexed.filter(product_id__in=product_ids).reopen()
                for product_ids in find_differing(live)
            )
        neighbours.compute(live)
    found["words"] = documents.refresh(index, using=alias)
    spelling.collect(using=alias)
    found["old events"] = events.forget()
    found["old searches"] = word_searches.forget()
    logger.info("Sweep: %s", found)
    return found


def find_differing(checkpoint: Checkpoint) -> Iterator[list[Any]]:
    """Products whose photos are not those that `checkpoint` embedded, byte by byte; in parts.

    Reads every photo and decodes none; memory stays flat. A file that cannot be read differs.
    """
    products, last = get_index().get_queryset().order_by("pk"), None
    at_a_time = BATCHES_AT_A_TIME * get_settings().BATCH_SIZE
    while True:
        rest = products if last is None else products.filter(pk__gt=last)
        product_ids = list(rest.values_list("pk", flat=True)[:at_a_time])
        if not product_ids:
            return
        last = product_ids[-1]
        if differing := embedding.differing(product_ids, checkpoint=checkpoint):
            yield differing
