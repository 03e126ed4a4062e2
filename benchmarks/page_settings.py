"""The demo shop for the benchmarks of its product page: an encoder without training; WIDGET=0 leaves the widget out."""

import os
from pathlib import Path

from shop.settings import *  # noqa: F403
from shop.settings import TEMPLATES, VISUALSEARCH

VISUALSEARCH = VISUALSEARCH | {"ENCODER": "visualsearch.testing.FakeEncoder", "THROTTLE_RATES": {}}
if os.environ.get("WIDGET") == "0":
    TEMPLATES[0]["DIRS"] = [Path(__file__).parent / "templates_without_widget"]
