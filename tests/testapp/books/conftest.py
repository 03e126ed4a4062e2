"""These tests run under the third catalogue's settings, started by tests/test_second_catalogue.py."""

import os

if os.environ.get("DJANGO_SETTINGS_MODULE") != "tests.testapp.books.settings":
    collect_ignore_glob = ["test_*.py"]
