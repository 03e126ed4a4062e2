"""Settings of the workers of these tests: the suite's, with what the test wants of VISUALSEARCH."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import VISUALSEARCH

VISUALSEARCH = VISUALSEARCH | json.loads(os.environ.get("CHAOS_VISUALSEARCH", "{}"))
