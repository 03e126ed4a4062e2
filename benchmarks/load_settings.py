"""As floor_settings, with what small runs need otherwise, from the environment."""

import os

from benchmarks.floor_settings import *  # noqa: F403
from benchmarks.floor_settings import VISUALSEARCH

VISUALSEARCH = VISUALSEARCH | {
    "EXACT_THRESHOLD": int(os.environ["EXACT_THRESHOLD"])
    if "EXACT_THRESHOLD" in os.environ
    else None,
    "LEASE_SECONDS": int(os.environ.get("LEASE_SECONDS", "120")),
    "ENCODER": os.environ.get("ENCODER", ""),
}
