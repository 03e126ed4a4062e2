"""These tests run under the second catalogue's settings, started by tests/test_second_catalogue.py."""

import os

if os.environ.get("DJANGO_SETTINGS_MODULE") != "tests.testapp_settings":
    collect_ignore_glob = ["test_*.py"]
