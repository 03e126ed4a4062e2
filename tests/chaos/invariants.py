"""What must hold when everything is at rest again, looked up photo by photo in tables and files."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from shop.models import ProductImage
from visualsearch.health import doctor
from visualsearch.models import Checkpoint, Embedding, IndexEntry
from visualsearch.photos.images import content_hash

EXAMINED = ("capture", "I1", "I2", "I3", "I4", "I5")


@dataclass(kw_only=True)
class State:
    """How the index differs from the catalogue; numbers are photos, but for `quarantined`."""

    lost: int = 0
    """Without an embedding, though the product is not set aside."""
    stale: int = 0
    """Embedded from other bytes than the file has now."""
    ghosts: int = 0
    """Embedded, and there is no such photo."""
    quarantined: set[int] = field(default_factory=set)
    """Products that were set aside."""
    complaints: list[str] = field(default_factory=list)
    """What visualsearch_doctor finds wrong."""

    @property
    def is_whole(self) -> bool:
        return not (self.lost or self.stale or self.ghosts or self.complaints)


def examine() -> State:
    """The state by the live checkpoint: I1 to I5 as the doctor sees them, and every photo's bytes."""
    live = Checkpoint.objects.get(state="live")
    state = State(
        quarantined=set(IndexEntry.objects.filter(status="failed").values_list("pk", flat=True)),
        complaints=[
            f"{finding.name}: {finding.count} {finding.message}"
            for finding in doctor.examine(ask_workers=False)
            if finding.name in EXAMINED and finding.level != "ok"
        ],
    )
    embedded: dict[tuple[int, str], bytes] = {
        (product_id, image): bytes(digest)
        for product_id, image, digest in Embedding.objects.filter(checkpoint=live).values_list(
            "product_id", "image", "content_hash"
        )
    }
    hashes: defaultdict[str, bytes] = defaultdict(bytes)
    wanted = set()
    for photo in ProductImage.objects.order_by("pk").iterator():
        name = photo.original.name
        wanted.add((photo.product_id, name))
        if photo.product_id in state.quarantined:
            continue
        if name not in hashes:
            with photo.original.storage.open(name) as file:
                hashes[name] = content_hash(file.read())
        digest = embedded.get((photo.product_id, name))
        state.lost += digest is None
        state.stale += digest is not None and digest != hashes[name]
    state.ghosts = len(set(embedded) - wanted)
    return state


def is_at_rest() -> bool:
    """Whether no entry is open and no lease is held."""
    entries = IndexEntry.objects
    return not (
        entries.filter(status="pending").exists() or entries.filter(lease__isnull=False).exists()
    )


def progress() -> dict[str, int]:
    """Photos that are embedded and entries by status: what changes while there is work going on."""
    return IndexEntry.objects.counts() | {"embedded": Embedding.objects.count()}
