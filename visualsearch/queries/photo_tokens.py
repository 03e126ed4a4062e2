"""Signed tokens of query photos: a photo's vector and nothing else, so that it need not be kept.

A token lets a visitor page through the results of a photo, filter them, or change what was asked,
without sending the photo again. It is signed and ends after PHOTO_TOKEN_SECONDS; the server stores
nothing. What it holds cannot be turned back into the photo; it is the visitor's own.
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from django.core import signing

from visualsearch.conf import get_settings
from visualsearch.exceptions import PhotoTokenError

PREFIX = "im_"
_SALT = "visualsearch.photo"
MOST_CHARACTERS = 65_536
"""No token that was ever given out is longer: 16,384 numbers."""


@dataclass(frozen=True, kw_only=True)
class PhotoVector:
    """What a token says: the photo's vector, and which checkpoint it is of."""

    checkpoint_id: int
    vector: npt.NDArray[np.float32]
    """float32 [width], length 1."""


def make(checkpoint_id: int, vector: npt.NDArray[np.float32]) -> str:
    """The token of a photo's vector, from now on."""
    packed = struct.pack("<q", checkpoint_id) + vector.astype("<f2").tobytes()
    value = base64.urlsafe_b64encode(packed).decode().rstrip("=")
    return PREFIX + signing.TimestampSigner(salt=_SALT).sign(value)


def read(token: str) -> PhotoVector:
    """What `token` says, or PhotoTokenError if it was made up or has ended."""
    if len(token) > MOST_CHARACTERS:
        raise PhotoTokenError("The token of the photo is not one of ours.", field="image")
    seconds = get_settings().PHOTO_TOKEN_SECONDS
    signer = signing.TimestampSigner(salt=_SALT)
    try:
        value = signer.unsign(token.removeprefix(PREFIX), max_age=seconds)
        packed = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        (checkpoint_id,) = struct.unpack("<q", packed[:8])
        vector = np.frombuffer(packed[8:], dtype="<f2").astype(np.float32)
    except signing.SignatureExpired:
        raise PhotoTokenError(
            f"The token of the photo is older than {seconds} s: send the photo again.",
            field="image",
        ) from None
    except (signing.BadSignature, binascii.Error, ValueError, struct.error):
        raise PhotoTokenError(
            "The token of the photo is not one of ours: send the photo again.", field="image"
        ) from None
    return PhotoVector(checkpoint_id=checkpoint_id, vector=vector / np.linalg.norm(vector))
