"""Settings of the third catalogue."""

from tests.testapp_settings import *  # noqa: F403
from tests.testapp_settings import DATABASES, INSTALLED_APPS, VISUALSEARCH

INSTALLED_APPS = [
    *(app for app in INSTALLED_APPS if app != "tests.testapp"),
    "tests.testapp.books",
]
VISUALSEARCH = VISUALSEARCH | {"PRODUCT_MODEL": "books.Book"}
DATABASES["default"]["TEST"] = {"NAME": "test_third_catalogue"}
