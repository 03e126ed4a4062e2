"""Products -> embeddings: read the photos, skip what is stored already, decode, encode, store."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from visualsearch import encoding
from visualsearch.exceptions import DecoderEndedError, ImageError, VisualSearchError
from visualsearch.indexes import VisualIndex, get_index
from visualsearch.models import Checkpoint, Embedding, IndexEntry
from visualsearch.photos.decoding import MAX_FILE_BYTES
from visualsearch.photos.images import content_hash
from visualsearch.tables.partitions import database
from visualsearch.upkeep import side_by_side, storing
from visualsearch.upkeep.pacing import Pace
from visualsearch.upkeep.side_by_side import SideBySide

if TYPE_CHECKING:
    from django.db.models.fields.files import FieldFile

logger = logging.getLogger(__name__)

Write = Callable[..., set[Any]]
"""`storing.write`, or what takes its place."""
ENCODE_AT_A_TIME = 32
"""Images in one pass through the network; bounds the memory that decoded pixels take."""
_written = Pace(most=4096, gently=16)
"""Products whose embeddings are written."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a product could not be embedded as it should be."""

    code: str
    message: str
    is_permanent: bool
    """Whether the same bytes would fail again."""
    is_suspect: bool = False
    """Whether that cannot be told yet: tried again alone, and counted."""


@dataclass(kw_only=True)
class Report:
    """What `embed_products` did."""

    versions: Mapping[Any, int]
    """Product id -> the version of its entry that the work stands for."""
    faults: dict[Any, Fault] = field(default_factory=dict)
    """Product id -> the first thing that went wrong with it."""
    changed: set[Any] = field(default_factory=set)
    """Products that have other embeddings than before."""
    embedded: int = 0
    """Images that went through a network, once for each checkpoint."""

    def blame(self, product_id: Any, fault: Fault) -> None:
        known = self.faults.get(product_id)
        if known is None or (known.is_permanent and not fault.is_permanent):
            self.faults[product_id] = fault


@dataclass(frozen=True, kw_only=True)
class _Photo:
    product_id: Any
    position: int
    file: FieldFile

    @property
    def name(self) -> str:
        return self.file.name or ""

    @property
    def stored_name(self) -> str:
        return self.name.replace("\0", "")[: Embedding._meta.get_field("image").max_length]


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """An embedding that shall be stored; its vector is found or computed."""

    photo: _Photo
    content_hash: bytes


def embed_products(
    product_ids: Sequence[Any],
    *,
    checkpoints: Sequence[Checkpoint],
    versions: Mapping[Any, int] | None = None,
    lease: uuid.UUID | None = None,
    step: Callable[[], None] = lambda: None,
    is_last: bool = False,
    write: Write | None = None,
) -> Report:
    """Bring the embeddings of these products by each of the checkpoints up to date; idempotent.

    Only photos whose bytes are not embedded yet go through the network. A product that is not in
    the index, or has no photos, loses its embeddings. A photo that cannot be used leaves the
    product's other photos in the index and is named in the report's faults.

    `versions` are those that were claimed under `lease`. Without, they are read here: before the
    products are, so that an edit in between is not taken for done. `step` is called with every
    photo that is read and every few that are encoded, on several threads; what it raises ends the
    work. A decoder that ended is held against its photo when this `is_last` attempt at it. `write`
    stores what changed, in place of `storing.write`.
    """
    if versions is None:
        versions = _read_versions(product_ids)
    report = Report(versions=versions)
    photos = _read_photos(get_index(), product_ids)
    stored = storing.stored(checkpoints, product_ids)

    gone = {pk: versions.get(pk, 0) for pk in product_ids if pk not in photos}
    busy = storing.remove(gone, lease=lease)
    report.changed |= {pk for cp in checkpoints for pk in gone if (cp.pk, pk) in stored} - busy

    in_order = [photo for pk in product_ids for photo in photos.get(pk, ())]
    by_size = sorted(checkpoints, key=lambda checkpoint: checkpoint.image_size)
    for size, group in groupby(by_size, key=lambda checkpoint: checkpoint.image_size):
        work = _Pass(size, list(group), stored, report, step, is_last)
        work.run(in_order)
        for checkpoint in work.checkpoints:
            changes = work.changes(checkpoint)
            for some in _written.parts(changes):
                step()
                locked = (write or storing.write)(checkpoint, some, lease=lease)
                report.changed |= {change.product_id for change in some} - locked
                busy |= locked
    for pk in busy:
        report.blame(
            pk,
            Fault(
                code="locked",
                message="Another transaction holds the product's row; tried again by itself.",
                is_permanent=False,
            ),
        )
    return report


def differing(product_ids: Sequence[Any], *, checkpoint: Checkpoint) -> list[Any]:
    """Those of the products whose photos are not, byte by byte, what `checkpoint` embedded."""
    photos = _read_photos(get_index(), product_ids)
    stored = storing.stored([checkpoint], product_ids)
    report = Report(versions={})
    found = []
    for pk in product_ids:
        there = {(s.position, s.image, s.content_hash) for s in stored.get((checkpoint.pk, pk), ())}
        now = {
            (photo.position, photo.stored_name, content_hash(data) if data is not None else b"")
            for photo in photos.get(pk, ())
            for data in [_read(photo, report)]
        }
        if there != now:
            found.append(pk)
    return found


_Batch = list[tuple[_Wanted, npt.NDArray[np.uint8]]]


class _Pass:
    """One reading of the photos, for the checkpoints that take them in one size."""

    def __init__(
        self,
        size: int,
        checkpoints: list[Checkpoint],
        stored: Mapping[tuple[int, Any], list[storing.Stored]],
        report: Report,
        step: Callable[[], None],
        is_last: bool,
    ) -> None:
        self.size = size
        self.step = step
        self.is_last = is_last
        self.checkpoints = checkpoints
        self.stored = stored
        self.report = report
        self.wanted: dict[Any, list[_Wanted]] = defaultdict(list)
        self.products: list[Any] = []
        self.counting = threading.Lock()
        self.vectors: dict[int, dict[tuple[Any, bytes], storing.Vector]] = {
            checkpoint.pk: {} for checkpoint in checkpoints
        }
        self.known = {
            (checkpoint.pk, pk, each.content_hash)
            for checkpoint in checkpoints
            for (checkpoint_id, pk), there in stored.items()
            for each in there
            if checkpoint_id == checkpoint.pk
        }

    def run(self, photos: Sequence[_Photo]) -> None:
        """Read, decode and encode whatever of `photos` has no vector yet."""
        self.products = list(dict.fromkeys(photo.product_id for photo in photos))
        read: deque[_Wanted] = deque()

        def unknown() -> Iterator[bytes]:
            for photo in photos:
                self.step()
                data = _read(photo, self.report)
                if data is None:
                    continue
                wanted = _Wanted(photo=photo, content_hash=content_hash(data))
                if self._lacking(wanted):
                    read.append(wanted)
                    yield data
                else:
                    self.wanted[photo.product_id].append(wanted)

        batch: _Batch = []
        # Files are read and opened while the network is at work on those before them.
        ahead = ENCODE_AT_A_TIME * side_by_side.most()
        with SideBySide(self._encode) as network:
            for pixels in encoding.decoder().decode_many(unknown(), size=self.size, ahead=ahead):
                wanted = read.popleft()
                if isinstance(pixels, ImageError):
                    # A machine in need ends decoders, too, or makes them late.
                    is_suspect = isinstance(pixels, DecoderEndedError) and not self.is_last
                    self._blame(wanted.photo, pixels.code, pixels.message, is_suspect=is_suspect)
                    continue
                self.wanted[wanted.photo.product_id].append(wanted)
                batch.append((wanted, pixels))
                if len(batch) >= ENCODE_AT_A_TIME:
                    network.submit(batch)
                    batch = []
            if batch:
                network.submit(batch)

    def changes(self, checkpoint: Checkpoint) -> list[storing.Change]:
        """What has to be written for `checkpoint`; nothing for products that are as they were."""
        changed = [pk for pk in self.products if self._differs(checkpoint, pk)]
        vectors = dict(self.vectors[checkpoint.pk])
        moved = [
            pk
            for pk in changed
            if any((pk, each.content_hash) not in vectors for each in self.wanted[pk])
        ]
        if moved:
            vectors = storing.vectors(checkpoint, moved) | vectors
        return [
            storing.Change(
                product_id=pk,
                version=self.report.versions.get(pk, 0),
                positions=[each.photo.position for each in self.wanted[pk]],
                rows=[
                    storing.Row(
                        position=each.photo.position,
                        image=each.photo.stored_name,
                        content_hash=each.content_hash,
                        vector=vectors[pk, each.content_hash],
                    )
                    for each in self.wanted[pk]
                    # Else it was deleted since we looked, and its product is not ours any more.
                    if (pk, each.content_hash) in vectors
                ],
            )
            for pk in changed
        ]

    def _differs(self, checkpoint: Checkpoint, product_id: Any) -> bool:
        fault = self.report.faults.get(product_id)
        if fault is not None and not fault.is_permanent:
            return False  # not all of it could be read: it stays as it is
        there = {
            (each.position, each.image, each.content_hash)
            for each in self.stored.get((checkpoint.pk, product_id), ())
        }
        return there != {
            (each.photo.position, each.photo.stored_name, each.content_hash)
            for each in self.wanted[product_id]
        }

    def _lacking(self, wanted: _Wanted) -> list[Checkpoint]:
        key = wanted.photo.product_id, wanted.content_hash
        return [cp for cp in self.checkpoints if (cp.pk, *key) not in self.known]

    def _encode(self, batch: _Batch) -> None:
        for checkpoint in list(self.checkpoints):
            ours = [(wanted, px) for wanted, px in batch if checkpoint in self._lacking(wanted)]
            if not ours:
                continue
            try:
                encoder = encoding.bulk_encoder(checkpoint)
                vectors = encoder.encode_image(np.stack([pixels for _, pixels in ours]))
            except VisualSearchError as error:
                # One that is still being built must not keep edits from the live one.
                if len(self.checkpoints) == 1 or checkpoint.state == Checkpoint.State.LIVE:
                    raise
                logger.warning("Checkpoint %s is left out: %s", checkpoint, error)
                # Another list: the thread that reads the photos may be going through this one.
                self.checkpoints = [kept for kept in self.checkpoints if kept != checkpoint]
                continue
            self.step()
            with self.counting:
                self.report.embedded += len(ours)
            found = self.vectors[checkpoint.pk]
            for (wanted, _), vector in zip(ours, vectors, strict=True):
                found[wanted.photo.product_id, wanted.content_hash] = vector

    def _blame(self, photo: _Photo, code: str, message: str, *, is_suspect: bool = False) -> None:
        _blame(
            self.report,
            photo,
            code,
            message,
            is_permanent=not is_suspect,
            is_suspect=is_suspect,
        )


def _read(photo: _Photo, report: Report) -> bytes | None:
    """The file's bytes; None, with the reason in the report, if they cannot be had."""
    try:
        # The field file of a row keeps itself open: a storage's own handle is closed for sure.
        with photo.file.storage.open(photo.name, "rb") as stream:
            return bytes(stream.read(MAX_FILE_BYTES + 1))  # the decoder refuses the last byte
    except FileNotFoundError:
        _blame(report, photo, "image_missing", "There is no such file: upload the photo again.")
    except OSError as error:
        message = f"The storage did not give the file ({error}); tried again by itself."
        _blame(report, photo, "storage", message, is_permanent=False)
    return None


def _blame(
    report: Report,
    photo: _Photo,
    code: str,
    message: str,
    *,
    is_permanent: bool = True,
    is_suspect: bool = False,
) -> None:
    fault = Fault(
        code=code,
        message=f"{photo.name}: {message}",
        is_permanent=is_permanent,
        is_suspect=is_suspect,
    )
    report.blame(photo.product_id, fault)


def _read_versions(product_ids: Sequence[Any]) -> dict[Any, int]:
    entries = IndexEntry.objects.filter(product_id__in=product_ids)
    return dict(entries.values_list("product_id", "version"))


def _read_photos(index: VisualIndex, product_ids: Sequence[Any]) -> dict[Any, list[_Photo]]:
    """Product id -> its photos, for the products that are in the index and have any."""
    # Where the triggers noted the change: a replica may not have it yet, and the entry is closed.
    products = index.with_related(
        index.get_queryset().using(database().alias).filter(pk__in=product_ids)
    )
    found = {
        product.pk: [
            _Photo(product_id=product.pk, position=position, file=file)
            for position, file in enumerate(index.get_images(product))
        ]
        for product in products
    }
    return {pk: photos for pk, photos in found.items() if photos}
