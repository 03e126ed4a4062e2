"""These tests run under the settings beside them, started by tests/test_unfold.py."""

import os

if os.environ.get("DJANGO_SETTINGS_MODULE") != "tests.unfold.settings":
    collect_ignore_glob = ["test_*.py"]
else:
    from tests.e2e.conftest import browser as browser
    from tests.e2e.conftest import screenshots as screenshots
    from tests.e2e.conftest import shoot as shoot
