"""The errors the app raises: each has a stable code and an HTTP status beside its message."""

from __future__ import annotations


class VisualSearchError(Exception):
    """Base of every run-time fault; `code` is stable for clients, `status` is its HTTP status."""

    code = "error"
    status = 500

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        """The part of the request at fault, if one part is."""


class ImageError(VisualSearchError):
    """An image that cannot be used; trying again with the same bytes cannot help."""

    code = "image_unreadable"
    status = 400


class ImageFormatError(ImageError):
    code = "image_format"


class ImageTooLargeError(ImageError):
    code = "image_too_large"
    status = 413


class ImageURLError(ImageError):
    """A web address that is not allowed, or gave no image; the two answer alike."""

    code = "image_url"


class ImageDecodeError(ImageError):
    """The decoder crashed, ran out of memory or out of time on these bytes."""

    code = "image_decode"


class DecoderEndedError(ImageDecodeError):
    """The decoder's process was gone or late: by these bytes' fault, or because the machine is in need."""


class QueryError(VisualSearchError):
    """A search that cannot be answered as it was asked."""

    code = "invalid_query"
    status = 400


class EmptyQueryError(QueryError):
    code = "empty_query"


class TextTooLongError(QueryError):
    code = "text_too_long"


class InvalidTextError(QueryError):
    code = "invalid_text"


class UnknownFilterError(QueryError):
    code = "unknown_filter"


class InvalidFilterError(QueryError):
    code = "invalid_filter"


class InvalidLimitError(QueryError):
    code = "invalid_limit"


class UnknownProductError(QueryError):
    """No such product, or one that this visitor may not see: the two answer alike."""

    code = "unknown_product"
    status = 404


class PhotoTokenError(QueryError):
    """A photo's token that was made up, has ended, or is of a checkpoint that is live no more."""

    code = "photo_token"


class TooManyFilesError(QueryError):
    code = "too_many_files"


class SearchTimeoutError(VisualSearchError):
    """Postgres gave up after STATEMENT_TIMEOUT_MS."""

    code = "search_timeout"
    status = 503


class NoCheckpointError(VisualSearchError):
    """Nothing has been trained and promoted yet."""

    code = "no_checkpoint"
    status = 503


class EncoderUnavailableError(VisualSearchError):
    """The live checkpoint cannot be run here: a file or the runtime is missing."""

    code = "encoder_unavailable"
    status = 503


class EncoderBusyError(VisualSearchError):
    """Too many queries are being encoded at once; waiting helps."""

    code = "encoder_busy"
    status = 503


class LeaseLostError(VisualSearchError):
    """Products that this process was at work on have been taken over by another."""

    code = "lease_lost"


class TrialError(VisualSearchError):
    """A product that was tried alone, in a process of its own, could not be embedded."""

    def __init__(self, message: str, *, code: str, is_charged: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.is_charged = is_charged
        """Whether that is held against the product."""


class CheckpointError(VisualSearchError):
    """A checkpoint folder that is incomplete, altered or not ours."""

    code = "checkpoint_invalid"


class PromotionError(VisualSearchError):
    """A checkpoint that cannot be promoted or rolled back to as things stand."""

    code = "promotion_refused"
    status = 409


class TablesBusyError(VisualSearchError):
    """Others hold tables that would have to be locked; waiting helps."""

    code = "tables_busy"
    status = 409


class TrainingError(VisualSearchError):
    """A training run that cannot start or go on."""

    code = "training_failed"


class DiskFullError(TrainingError):
    """There is no room for what training writes; it can go on when there is."""

    code = "disk_full"


class NotEnoughDataError(TrainingError):
    code = "not_enough_data"
    status = 409


class TrainingInProgressError(TrainingError):
    code = "training_in_progress"
    status = 409


class TrainingCancelledError(TrainingError):
    code = "training_cancelled"
    status = 409


class TrainingStoppedError(TrainingCancelledError):
    """The process that trains has to end; another one can go on where it stopped."""

    code = "training_stopped"


class TrainingTakenOverError(TrainingError):
    """Another process has taken the run over, or ended it: this trainer may write nothing more."""

    code = "training_taken_over"
    status = 409
