"""Staff's word on pairs of products: pinned and banned in the widget, asked of every checkpoint, trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from django.db import router, transaction

from visualsearch.models import Checkpoint, Judgement
from visualsearch.tables import keys
from visualsearch.tables.partitions import database, neighbours_name, partition_name

if TYPE_CHECKING:
    from visualsearch.ml.data import Catalogue

Verdict = Judgement.Verdict
ALIKE = (Verdict.SIMILAR, Verdict.PIN)
APART = (Verdict.NOT_SIMILAR, Verdict.BAN)
DECIDES = (Verdict.PIN, Verdict.BAN)
"""What decides the widget's list, rather than telling what is right."""


def judge(product: Any, other: Any, verdict: str, *, by: Any = None) -> Judgement | None:
    """Note what staff says of `other` beside `product`; "" takes it back.

    The live checkpoint's list of similar products follows at once, but for what is taken back: that
    takes effect when the list is computed anew, at the latest at night.
    """
    with transaction.atomic(using=router.db_for_write(Judgement)):
        pair = Judgement.objects.filter(product_id=product.pk, other_id=other.pk)
        if not verdict:
            pair.delete()
            return None
        judgement, _ = Judgement.objects.update_or_create(
            product_id=product.pk,
            other_id=other.pk,
            defaults={"verdict": Verdict(verdict).value, "judged_by": by},
        )
        live = Checkpoint.objects.live()
        if live is not None and verdict in DECIDES:
            with database().cursor() as cursor:
                heed(cursor, live, [product.pk])
    return judgement


def of(product: Any) -> dict[Any, str]:
    """Key of the other product -> verdict."""
    return dict(Judgement.objects.filter(product_id=product.pk).values_list("other_id", "verdict"))


def banned(product: Any) -> list[Any]:
    """Keys of the products that are not to stand beside this one."""
    found = Judgement.objects.filter(product_id=product.pk, verdict=Verdict.BAN)
    return list(found.values_list("other_id", flat=True))


def heed(
    cursor: Any, checkpoint: Checkpoint, sources: Sequence[Any] | None, *, table: str = ""
) -> None:
    """Put what is pinned first in these products' stored lists, and take out what is banned.

    In all lists with None; in those of `table`, if another than the checkpoint's is given.
    """
    decided: dict[Any, dict[Any, str]] = defaultdict(dict)
    asked = Judgement.objects.filter(verdict__in=DECIDES)
    if sources is not None:
        asked = asked.filter(product_id__in=sources)
    for source, other, verdict in asked.order_by("judged_at", "pk").values_list(
        "product_id", "other_id", "verdict"
    ):
        decided[source][other] = verdict
    for source, verdicts in decided.items():
        _rewrite(cursor, checkpoint, table or neighbours_name(checkpoint), source, verdicts)


def _rewrite(
    cursor: Any, checkpoint: Checkpoint, table: str, source: Any, verdicts: Mapping[Any, str]
) -> None:
    (key,) = keys.prepared([source])
    cursor.execute(
        f"SELECT target_id, score, position FROM {table} WHERE source_id = %s ORDER BY rank",
        [key],
    )
    stored = {target: (score, position) for target, score, position in cursor.fetchall()}
    pinned = [other for other, verdict in verdicts.items() if verdict == Verdict.PIN]
    scores = stored | _scores(cursor, checkpoint, key, [o for o in pinned if o not in stored])
    wanted = [other for other in pinned if other in scores]
    wanted += [target for target in stored if target not in verdicts]
    cursor.execute(f"DELETE FROM {table} WHERE source_id = %s", [key])
    cursor.executemany(
        f"INSERT INTO {table} (checkpoint_id, source_id, rank, target_id, score, position) "
        "VALUES (%s, %s, %s, %s, %s, %s)",
        [
            (checkpoint.pk, key, rank, keys.prepared([target])[0], *scores[target])
            for rank, target in enumerate(wanted, start=1)
        ],
    )


def _scores(
    cursor: Any, checkpoint: Checkpoint, key: Any, others: Sequence[Any]
) -> dict[Any, tuple[float, int]]:
    """Cosine of each other product's nearest photo, and which; without those not embedded."""
    if not others:
        return {}
    table = partition_name(checkpoint)
    cursor.execute(
        "SELECT DISTINCT ON (theirs.product_id) theirs.product_id, "
        "1 - (mine.vector <=> theirs.vector) AS score, theirs.position "
        f"FROM {table} AS mine, {table} AS theirs WHERE mine.product_id = %s "
        f"AND theirs.product_id = ANY(%s::{keys.sql_type()}[]) "
        "ORDER BY theirs.product_id, score DESC",
        [key, keys.prepared(others)],
    )
    return {product: (score, position) for product, score, position in cursor.fetchall()}


def pairs(catalogue: Catalogue, verdicts: Sequence[str]) -> list[tuple[int, int]]:
    """The judged pairs as places in the catalogue's items, of products that are among them."""
    places = {item.id: place for place, item in enumerate(catalogue.items)}
    rows = Judgement.objects.filter(verdict__in=verdicts).order_by("pk")
    found = rows.values_list("product_id", "other_id")
    return [
        (places[str(one)], places[str(other)])
        for one, other in found
        if str(one) in places and str(other) in places
    ]


def agreement(encoder: Any, catalogue: Catalogue) -> dict[str, float]:
    """How far an encoder agrees with the judgements; empty while there are none of both sorts.

    `auc`: how likely it is that a pair judged similar lies nearer than one judged not similar
    (Mann and Whitney's U over the number of comparisons; ties count half). 0.5 is chance.
    """
    alike, apart = pairs(catalogue, ALIKE), pairs(catalogue, APART)
    if not alike or not apart:
        return {}
    rows = [item.images[0] for item in catalogue.items]
    named = sorted({place for pair in (*alike, *apart) for place in pair})
    vectors = encoder.encode_image(catalogue.pixels[[rows[place] for place in named]])
    at = {place: number for number, place in enumerate(named)}

    def cosines(of: Sequence[tuple[int, int]]) -> Any:
        return np.array([float(vectors[at[one]] @ vectors[at[other]]) for one, other in of])

    difference = cosines(alike)[:, None] - cosines(apart)[None, :]
    auc = float(((difference > 0) + 0.5 * (difference == 0)).mean())
    return {"auc": round(auc, 4), "similar": len(alike), "not_similar": len(apart)}
