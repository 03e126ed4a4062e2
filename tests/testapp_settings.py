"""Settings of the second catalogue (tests/testapp): everything of the demo shop is absent."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE, VISUALSEARCH

INSTALLED_APPS = [*(app for app in INSTALLED_APPS if app != "shop"), "tests.testapp"]
MIDDLEWARE = [name for name in MIDDLEWARE if not name.startswith("shop.")]
ROOT_URLCONF = "tests.testapp.urls"
VISUALSEARCH = VISUALSEARCH | {"PRODUCT_MODEL": "testapp.Garment"}
# Runs beside the main suite, on the same server.
DATABASES["default"]["TEST"] = {"NAME": "test_second_catalogue"}
