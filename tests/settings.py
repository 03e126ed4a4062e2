"""Settings of the test suite: the demo shop's, with fast hashing, a local cache and a broker in memory.

The database and Redis are started by tests/conftest.py when a test first asks for them.
"""

import os

os.environ.setdefault("DEBUG", "1")

from shop.settings import *  # noqa: F403
from shop.settings import DATABASES, VISUALSEARCH

SECRET_KEY = "for the tests only"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
DATABASES["default"] |= {"CONN_MAX_AGE": 0}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Nothing listens here, so a test that needs the doorbell to work has to ask for the fixture `broker`.
CELERY_BROKER_URL = "memory://"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# Most tests need no trained network; those that do override this setting.
VISUALSEARCH = VISUALSEARCH | {"ENCODER": "visualsearch.testing.FakeEncoder"}
LOGGING = {"version": 1, "disable_existing_loggers": False}
# A worker started by a test is told the broker of that test.
CELERY_BROKER_URL = os.environ.get("VISUALSEARCH_TEST_BROKER", CELERY_BROKER_URL)
