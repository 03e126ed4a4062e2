"""The upload handler: one photo, in memory, and no more of it than is allowed."""

from __future__ import annotations

import io
import logging
from typing import Any

from django.core.files.uploadedfile import InMemoryUploadedFile, UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.http import HttpRequest

from visualsearch.conf import get_settings
from visualsearch.exceptions import TooManyFilesError, VisualSearchError
from visualsearch.queries.cleaning import photo_too_large

logger = logging.getLogger(__name__)

FIELD = "image"


class PhotoUploadHandler(FileUploadHandler):
    """Keeps a query photo in memory and stops reading at UPLOAD_MAX_BYTES or a second file.

    Nothing is ever written to disk. The parser swallows StopUpload, so the reason is in `error`.
    """

    def __init__(self, request: HttpRequest | None = None) -> None:
        super().__init__(request)
        self.error: VisualSearchError | None = None
        self._files = 0
        self._size = 0
        self._file = io.BytesIO()
        self._most = get_settings().UPLOAD_MAX_BYTES

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self._files += 1
        if self.field_name != FIELD:
            self._stop(
                TooManyFilesError(
                    f"The file came in the field {str(self.field_name)[:40]!r}: "
                    f"send the photo in {FIELD!r}.",
                    field=FIELD,
                )
            )
        if self._files > 1:
            self._stop(
                TooManyFilesError("More than one file was sent: send one photo.", field=FIELD)
            )

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self._size += len(raw_data)
        if self._size > self._most:
            self._file = io.BytesIO()
            self._stop(photo_too_large())
        self._file.write(raw_data)

    def file_complete(self, file_size: int) -> UploadedFile[bytes]:
        self._file.seek(0)
        return InMemoryUploadedFile(
            file=self._file,
            field_name=self.field_name,
            name=self.file_name,
            content_type=self.content_type or "",
            size=file_size,
            charset=self.charset,
            content_type_extra=self.content_type_extra,
        )

    def _stop(self, error: VisualSearchError) -> None:
        self.error = error
        raise StopUpload(connection_reset=True)


def install(request: HttpRequest) -> PhotoUploadHandler:
    """Make `request` use the handler alone; call it before anything reads the request's body."""
    handler = PhotoUploadHandler(request)
    try:
        request.upload_handlers = [handler]
    except AttributeError:
        # Some middleware has read the form already, with the project's own handlers; the photo's
        # size is checked again when it is read.
        logger.warning(
            "A middleware reads the request's body before visualsearch does, so large uploads are "
            "read whole: let it leave the search views alone."
        )
    return handler


def refuse_oversized(request: HttpRequest, *, allowance: int = 64 * 1024) -> None:
    """Raise ImageTooLargeError for a body that says itself that it is too long."""
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return
    # Base64 in JSON takes four characters for three bytes.
    if length > get_settings().UPLOAD_MAX_BYTES * 4 // 3 + allowance:
        raise photo_too_large()
