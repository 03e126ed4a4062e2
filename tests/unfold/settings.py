"""Settings of the demo shop with django-unfold in front of Django's admin."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = ["unfold", *INSTALLED_APPS]
# Unfold's own scripts evaluate texts, which the demo shop's policy forbids.
MIDDLEWARE = [name for name in MIDDLEWARE if not name.startswith("shop.csp")]
# Browsers ask for an icon, and complain where there is none.
UNFOLD = {"SITE_FAVICONS": [{"rel": "icon", "href": "/static/shop/icon.svg"}]}
# Runs beside the main suite, on the same server.
DATABASES["default"]["TEST"] = {"NAME": "test_unfold"}
